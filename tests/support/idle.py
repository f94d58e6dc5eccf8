"""Keep many connections open that say nothing, and see what they cost those that work."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.support.resp_wire import Address, Wire

SPARE_DESCRIPTORS = 200
BURST = 100
"""Connections made before the next wait for an answer: within the backlog."""


def descriptors_for(wanted: int) -> int:
    """Raise the limit on open files; returns how many connections it allows, at most `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + SPARE_DESCRIPTORS
    if soft < need:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (need, max(hard, need)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, need), hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)


@contextmanager
def idle_connections(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Open so many connections; some say a word first, as pools of clients do."""
    made: list[socket.socket] = []
    try:
        while len(made) < count:
            made += [address.connect(10.0) for _ in range(min(BURST, count - len(made)))]
            # Those before it have been accepted when this one is answered.
            with Wire(address) as wire:
                wire.require("PING")
        yield made
    finally:
        for connection in made:
            connection.close()


def private_bytes(processes: list[psutil.Process]) -> int:
    """Return the memory that processes share with nobody."""
    return sum(process.memory_full_info().uss for process in processes)


def latencies_s(address: Address, clients: int, seconds: float) -> list[float]:
    """Return how long each GET and SET of some clients took, sorted."""
    found: list[float] = []
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        mine = []
        with Wire(address) as wire:
            turn = 0
            while time.monotonic() < end:
                turn += 1
                begin = time.perf_counter()
                if turn % 2:
                    wire.require("SET", f"active:{number}", turn)
                else:
                    assert wire.require("GET", f"active:{number}") == b"%d" % (turn - 1)
                mine.append(time.perf_counter() - begin)
        found.extend(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)
