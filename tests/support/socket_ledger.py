"""Many socket clients, each with a ledger of what it was told, while processes are killed.

A client owns two keys. It sets one to ever larger numbers and increases the other, in pipelines of
varying depth; each answer must fit what came before. When its connection is closed, it connects
again, reads both keys and compares: nothing that was acknowledged, or seen, may be gone, and what
was unanswered happened or did not, once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import readers, start_service
from tests.support.resp_wire import Address, Wire
from tests.support.socket_servers import PATIENCE_S, await_workers, prepare

ANSWER_TIMEOUT_S = 30.0
RETRY_S = 0.05
PAUSE_S_MAX = 0.02
"""Between two pipelines of a client: the load is for workers, not for the processors."""
WORKER_BACK_S = 1.0
SERVICE_BACK_S = 5.0
"""On a machine with nothing else to do; see `slowness`."""
Say = Callable[[str], None]


class Fault(AssertionError):
    """Something was lost, doubled or wrong."""


class Client:
    """One connection at a time, and what it was told.

    Owner: its thread; others may read the counts.
    """

    def __init__(self, number: int, address: Address, seed: int) -> None:
        self.number = number
        self.answered = 0
        self.reconnects = 0
        self.errors: Counter[str] = Counter()
        #: Longest time from a lost connection to the next answer.
        self.outage_s_max = 0.0
        self.fault: BaseException | None = None
        self._address = address
        self._rng = random.Random(seed * 1000 + number)
        self._keys = (f"set:{number}", f"count:{number}")
        #: The key holds one of these numbers: acknowledged or seen, and sent last.
        self._known = self._sent = 0
        #: The counter is this, and up to so many more that were never answered.
        self._count = self._count_unknown = 0
        self._lost_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client {number}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Send no more, and read both keys a last time."""
        self._stop.set()

    def join(self) -> None:
        """Wait until that is done."""
        self._thread.join(2 * ANSWER_TIMEOUT_S)
        if self._thread.is_alive():
            self.fault = self.fault or Fault(f"client {self.number} hangs")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._connection()
            with Wire(self._address, timeout_s=ANSWER_TIMEOUT_S) as wire:
                self._compare(wire)
        except BaseException as error:
            self.fault = error

    def _connection(self) -> None:
        """Work on one connection until it is lost."""
        try:
            with Wire(self._address, timeout_s=ANSWER_TIMEOUT_S) as wire:
                self._compare(wire)
                if self._lost_at:
                    self.outage_s_max = max(self.outage_s_max, time.monotonic() - self._lost_at)
                    self._lost_at = 0.0
                while not self._stop.wait(self._rng.random() * PAUSE_S_MAX):
                    self._work(wire)
        except TimeoutError:
            raise Fault(f"client {self.number}: no answer for {ANSWER_TIMEOUT_S} s") from None
        except (EOFError, OSError):
            self.reconnects += 1
            self._lost_at = self._lost_at or time.monotonic()
            time.sleep(RETRY_S)

    def _compare(self, wire: Wire) -> None:
        """Read both keys; what is seen is known from here on.

        Raises: Fault; EOFError and OSError, the connection is lost and nothing is known.
        """
        value, count = wire.pipeline(*(("GET", key) for key in self._keys))
        for found in (value, count):
            if isinstance(found, RuntimeError):
                self.errors[str(found).split()[0]] += 1
                raise EOFError("the server is not ready")
        if not self._known <= int(value or 0) <= self._sent:
            raise Fault(f"{self._keys[0]} is {value}, not {self._known} to {self._sent}")
        highest = self._count + self._count_unknown
        if not self._count <= int(count or 0) <= highest:
            raise Fault(f"{self._keys[1]} is {count}, not {self._count} to {highest}")
        self._known = self._sent = int(value or 0)
        self._count, self._count_unknown = int(count or 0), 0

    def _work(self, wire: Wire) -> None:
        """Send one pipeline and judge its answers."""
        depth = self._rng.choice([1, 1, 1, 4, 16])
        commands: list[tuple[Any, ...]] = []
        for _ in range(depth):
            if self._rng.random() < 0.6:
                self._sent += 1
                commands.append(("SET", self._keys[0], self._sent))
            else:
                self._count_unknown += 1
                commands.append(("INCR", self._keys[1]))
        replies = wire.pipeline(*commands)
        for command, reply in zip(commands, replies, strict=True):
            self._judge(command, reply)
        self.answered += len(replies)
        if self._rng.random() < 0.1:
            self._compare(wire)

    def _judge(self, command: tuple[Any, ...], reply: Any) -> None:
        if isinstance(reply, RuntimeError):
            self.errors[str(reply).split()[0]] += 1
            return
        if command[0] == "SET":
            if reply != b"OK":
                raise Fault(f"{command}: {reply}")
            self._known = command[2]
            return
        if not self._count < reply <= self._count + self._count_unknown:
            highest = self._count + self._count_unknown
            raise Fault(f"{command}: {reply}, not {self._count + 1} to {highest}")
        self._count_unknown -= reply - self._count
        self._count = reply


class Clients:
    """All of them."""

    def __init__(self, addresses: list[Address], count: int, seed: int) -> None:
        self._all = [Client(n, addresses[n % len(addresses)], seed) for n in range(count)]

    def __enter__(self) -> Clients:
        for client in self._all:
            client.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self._all:
            client.finish()
        for client in self._all:
            client.join()

    def check(self) -> None:
        """Raise the first fault."""
        for client in self._all:
            if client.fault is not None:
                raise AssertionError(f"client {client.number}") from client.fault

    def await_progress(self, timeout_s: float) -> float:
        """Wait until each has been answered again; returns how long that took."""
        begin = time.monotonic()
        before = [client.answered for client in self._all]
        # The second pipeline began behind this call.
        while any(c.answered < was + 32 for c, was in zip(self._all, before, strict=True)):
            self.check()
            waited = time.monotonic() - begin
            pairs = zip(self._all, before, strict=True)
            stuck = [client.number for client, was in pairs if client.answered < was + 32]
            assert waited < timeout_s, f"clients {stuck} are not served after {waited:.1f} s"
            time.sleep(0.002)
        return time.monotonic() - begin

    def told(self) -> str:
        """Return what they went through."""
        errors: Counter[str] = Counter()
        for client in self._all:
            errors += client.errors
        outage = max(client.outage_s_max for client in self._all)
        return (
            f"{sum(c.answered for c in self._all)} answers, "
            f"{sum(c.reconnects for c in self._all)} connections lost or refused, longest outage "
            f"{outage:.2f} s, errors {dict(errors)}"
        )


class Supervisor:
    """Runs a service and starts it again whenever it ends, as an init system does."""

    def __init__(self, directory: Path, unix: Address, readers: int) -> None:
        self._directory = directory
        self._unix = unix
        self._options = ("--readers", str(readers))
        self._stop = threading.Event()
        self._process = start_service(directory, *self._options)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Supervisor:
        try:
            await_workers(self._unix, range(int(self._options[1])))
        except BaseException:
            self._end()
            raise
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._end()

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            if self._process.poll() is not None:
                self._process = start_service(self._directory, *self._options)

    @property
    def coordinator(self) -> psutil.Process:
        """The coordinator that runs, or is starting."""
        return psutil.Process(self._process.pid)

    def workers(self) -> list[psutil.Process]:
        """Return the workers that have their sockets."""
        return readers(self._directory)


def slowness() -> float:
    """Return how many times longer processes take to start than if nobody else had work."""
    return max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def kill_worker(
    supervisor: Supervisor, clients: Clients, address: Address, rng: random.Random, say: Say
) -> None:
    """Kill one worker; see its clients go on, and another worker come.

    Raises: AssertionError.
    """
    workers = supervisor.workers()
    number = rng.randrange(len(workers))
    time.sleep(rng.random() * 0.3)
    workers[number].kill()
    back = await_workers(address, [number])
    clients.await_progress(PATIENCE_S)
    say(f"worker {number} killed: it serves again after {back:.2f} s; {clients.told()}")
    assert back < WORKER_BACK_S * slowness(), f"a worker came back after {back:.2f} s"


def kill_coordinator(
    supervisor: Supervisor, clients: Clients, rng: random.Random, say: Say
) -> None:
    """Kill the coordinator; see everybody served again.

    Raises: AssertionError.
    """
    time.sleep(rng.random() * 0.3)
    pid = supervisor.coordinator.pid
    supervisor.coordinator.kill()
    waited = clients.await_progress(PATIENCE_S)
    say(f"coordinator {pid} killed: all are served after {waited:.2f} s; {clients.told()}")
    assert waited < SERVICE_BACK_S * slowness(), f"the service came back after {waited:.2f} s"


def besiege(
    folder: Path, kill_count: int, seed: int, say: Say, *, workers: int = 3, clients: int = 48
) -> None:
    """Serve many clients and kill a worker or the coordinator so many times.

    Raises: AssertionError.
    """
    say(f"socket kills: seed {seed}, {kill_count} kills")
    rng = random.Random(seed)
    directory, unix, tcp = prepare(folder)
    with Supervisor(directory, unix, workers) as supervisor:
        with Clients([unix, tcp], clients, seed) as all_clients:
            all_clients.await_progress(PATIENCE_S)
            for number in range(kill_count):
                if number % 3 == 2:
                    kill_coordinator(supervisor, all_clients, rng, say)
                else:
                    kill_worker(supervisor, all_clients, unix, rng, say)
                all_clients.check()
        all_clients.check()
        say(all_clients.told())
