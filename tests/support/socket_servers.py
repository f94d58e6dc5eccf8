"""Run a server that speaks RESP: our service, or a real redis-server to prove a test itself by.

Tests take `Served` and know no more of the server than its addresses. With FERRISDB_TEST_PEER=redis
in the environment they run against redis-server.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support import databases
from tests.support.processes import readers
from tests.support.redis_programs import await_answer, redis_serving
from tests.support.resp_wire import Address, Wire
from tests.support.service import serving

PASSWORD = "correct horse"
USER = "default"
READERS = 2
PATIENCE_S = 60.0
PEER = "FERRISDB_TEST_PEER"


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    pid: int
    unix: Address
    tcp: Address
    directory: Path
    is_ours: bool

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve sockets."""
        return readers(self.directory) if self.is_ours else [psutil.Process(self.pid)]

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the server."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


def await_workers(address: Address, numbers: Iterable[int]) -> float:
    """Wait until the workers of these numbers have served a connection; returns how long it took.

    The id of a client begins with its worker's number.
    """
    begin = time.monotonic()
    missing = set(numbers)
    while missing:
        with suppress(OSError, EOFError, RuntimeError):
            with Wire(address, timeout_s=5.0) as wire:
                missing.discard(wire.require("CLIENT", "ID") >> 40)
        waited = time.monotonic() - begin
        assert waited < PATIENCE_S, f"after {waited:.1f} s the workers {missing} don't serve"
    return time.monotonic() - begin


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def write_users(directory: Path) -> None:
    """Let the default user in by its password, and do everything.

    Cost: AUTH takes a millisecond, and not the tenth of a second that a real hash would take.
    """
    salt = os.urandom(16)
    found = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=1024, r=8, p=1, dklen=32)
    words = ["scrypt", "1024", "8", "1", *(base64.b64encode(raw).decode() for raw in (salt, found))]
    path = directory / "users.toml"
    path.touch(0o600)
    path.write_text(f'[users.{USER}]\npassword = "{"$".join(words)}"\nadmin = true\n')


def prepare(
    folder: Path, *, over_tcp: bool = True, **settings: int | float | str
) -> tuple[Path, Address, Address]:
    """Make a directory whose service has a Unix socket and a TCP port; returns all three.

    Shape: over_tcp, whether there is a TCP port, and a user for it.
    """
    directory = folder / "db"
    directory.mkdir(parents=True)
    port = free_port()
    defaults: dict[str, int | float | str] = {"socket_durability": "os"}
    if over_tcp:
        defaults["tcp_port"] = port
        write_users(directory)
    databases.configure(directory, **(defaults | settings))
    unix = Address(path=str(directory / "ferris.sock"))
    return directory, unix, Address(port=port, user=USER, password=PASSWORD)


@contextmanager
def ours_serving(
    folder: Path, *, over_tcp: bool = True, **settings: int | float | str
) -> Iterator[Served]:
    """Run our service with a Unix socket and, unless told otherwise, a TCP port."""
    directory, unix, tcp = prepare(folder, over_tcp=over_tcp, **settings)
    with serving(directory, "--readers", str(READERS)) as process:
        await_workers(unix, range(READERS))
        if over_tcp:
            await_answer(tcp)
        yield Served(process.pid, unix, tcp, directory, True)


@contextmanager
def peer_serving(folder: Path, *options: str, password: str = PASSWORD) -> Iterator[Served]:
    """Run redis-server."""
    port = free_port()
    with redis_serving(folder, *options, port=port, password=password) as pid:
        unix = Address(path=str(folder / "redis.sock"), user=USER, password=password)
        tcp = Address(port=port, user=USER, password=password)
        yield Served(pid, unix, tcp, folder, False)


@contextmanager
def running(
    folder: Path, *, peer_options: tuple[str, ...] = (), **settings: Any
) -> Iterator[Served]:
    """Run the server to test: ours, unless the environment names the peer."""
    if os.environ.get(PEER) == "redis":
        with peer_serving(folder, *peer_options) as served:
            yield served
    else:
        with ours_serving(folder, **settings) as served:
            yield served
