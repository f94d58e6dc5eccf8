"""Have writers commit while SIGKILL takes processes of the service and writers at random.

A `Siege` is one directory with its writers. Each round kills something, waits until every writer
goes on (nobody hangs), and has a fresh process compare the database with the writers' notes. One
more process, which is never killed, compares all the while.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support import processes
from tests.support.records import Note, acknowledged_count, highest
from tests.support.service import ROOT, environment

GO_ON_S = 60.0
WRITER_COUNT = 8


class Siege:
    """One directory under attack.

    `own_service`: whether the service is started by us, as an init system would, and not by the
    handles of the writers.
    """

    def __init__(
        self,
        folder: Path,
        rng: random.Random,
        *,
        own_service: bool,
        memtable_bytes: int = 1 << 20,
        pause_ms: int = 16,
        say: Callable[[str], None] = print,
    ) -> None:
        self.directory = folder / "db"
        self.records = folder / "records"
        self.directory.mkdir(parents=True)
        self.records.mkdir()
        (self.directory / "ferrisdb.toml").write_text(f"memtable_bytes = {memtable_bytes}\n")
        self._rng = rng
        self._own_service = own_service
        self._pause_ms = pause_ms
        self._say = say
        self._service: subprocess.Popen[bytes] | None = None
        self._writers: dict[int, subprocess.Popen[bytes]] = {}
        self._watcher: subprocess.Popen[bytes] | None = None
        self.kill_count = 0
        self.report: dict[str, object] = {}
        self._ways = [
            (5, "coordinator", self._kill_coordinator),
            (3, "compactor", self._kill_compactor),
            (2, "coordinator and compactor", self._kill_service),
            (3, "coordinator, then again as it starts", self._kill_start),
            (2, "writers", self._kill_writers),
            (2, "coordinator and writers", self._kill_coordinator_and_writers),
            (1, "everything", self._kill_everything),
        ]

    def begin(self) -> None:
        """Start the service and the writers, and wait for first commits."""
        self._restart()
        self._await_progress()
        self._nonce = processes.nonce(self.directory)
        self._watcher = self._run_reader("watch")

    def round(self) -> None:
        """Kill once (or more), see everyone go on, and check everything.

        Raises: AssertionError, something was lost, torn or doubled, or someone hangs.
        """
        time.sleep(self._rng.random() ** 2)
        weights = [weight for weight, _, _ in self._ways]
        _, name, way = self._rng.choices(self._ways, weights)[0]
        begin = time.monotonic()
        way()
        self._restart()
        self._await_progress()
        waited = time.monotonic() - begin
        self.check()
        self._say(f"{self.kill_count:4} {name}: all go on after {waited:.2f} s; {self.report}")

    def check(self) -> None:
        """Compare the database with the notes, by a fresh process."""
        self.report = self._report_of(self._run_reader("once"))

    def _run_reader(self, how: str) -> subprocess.Popen[bytes]:
        words = (how, self.directory, self.records, self._start_flag)
        return self._run("tests.support.history", *words)

    def _report_of(self, reader: subprocess.Popen[bytes]) -> dict[str, object]:
        output, errors = reader.communicate(timeout=120)
        assert reader.returncode == 0, errors.decode()[-3000:]
        report: dict[str, object] = json.loads(output)
        assert not report.pop("faults"), output.decode()[-3000:]
        return report

    def end(self) -> None:
        """Let everyone leave; see that all is there, and that nothing is left in memory."""
        (self.records / "stop").touch()
        for number, writer in self._writers.items():
            _, errors = writer.communicate(timeout=GO_ON_S)
            assert writer.returncode == 0, f"writer {number}: {errors.decode()[-2000:]}"
        assert self._watcher is not None
        self._say(f"     one reader all the while: {self._report_of(self._watcher)}")
        self.check()
        unknown = highest(self.records, Note.UNKNOWN)
        assert not unknown, f"commits of unknown outcome: {unknown}"
        self._stop_service()
        left = processes.segments(self._nonce)
        assert not left, f"left in shared memory: {left}"

    def abandon(self) -> None:
        """Kill whatever is still there; for use behind a failure."""
        (self.records / "stop").touch()
        for child in (self._watcher, *self._writers.values()):
            if child is not None:
                child.kill()
                child.communicate()
        self._stop_service()

    def _stop_service(self) -> None:
        processes.stop_services(self.directory, self._service)
        self._service = None

    # Starting

    @property
    def _start_flag(self) -> int:
        return 0 if self._own_service else 1

    def _run(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            processes.python(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )

    def _restart(self) -> None:
        """Start what was killed, if it is on us to start it."""
        if self._own_service and (self._service is None or self._service.poll() is not None):
            self._service = processes.start_service(self.directory)
        for number in range(WRITER_COUNT):
            writer = self._writers.get(number)
            if writer is not None and writer.poll() is None:
                continue
            if writer is not None:
                _, errors = writer.communicate()
                assert writer.returncode == -signal.SIGKILL, errors.decode()[-2000:]
            words = (self.directory, self.records, number, self._start_flag, self._pause_ms)
            self._writers[number] = self._run("tests.support.writers", *words)

    def _await_progress(self) -> None:
        """Wait until every writer has committed twice more: the second began behind the kill."""
        before = self._acknowledged()
        give_up = time.monotonic() + GO_ON_S
        while any(now < was + 2 for now, was in zip(self._acknowledged(), before, strict=True)):
            for number, writer in self._writers.items():
                if writer.poll() is not None:
                    _, errors = writer.communicate()
                    message = f"writer {number}: {writer.returncode} {errors.decode()[-2000:]}"
                    raise AssertionError(message)
            assert time.monotonic() < give_up, f"someone hangs: {before} {self._acknowledged()}"
            time.sleep(0.01)

    def _acknowledged(self) -> list[int]:
        return [acknowledged_count(self.records, n) for n in range(WRITER_COUNT)]

    # Killing

    def _kill(self, *victims: psutil.Process) -> None:
        self.kill_count += 1
        processes.kill(*victims)
        # Seen as gone is not yet reaped: its threads may take longer to die than the process.
        killed = {victim.pid for victim in victims}
        for child in (self._service, *self._writers.values()):
            if child is not None and child.pid in killed:
                child.wait()

    def _coordinator(self) -> psutil.Process:
        processes.wait_until(lambda: bool(processes.coordinators(self.directory)), "it starts")
        return processes.coordinators(self.directory)[0]

    def _chosen_writers(self) -> list[psutil.Process]:
        chosen = self._rng.sample(range(WRITER_COUNT), self._rng.randint(1, 3))
        return [psutil.Process(self._writers[number].pid) for number in chosen]

    def _kill_coordinator(self) -> None:
        self._kill(self._coordinator())

    def _kill_compactor(self) -> None:
        self._kill(*processes.children(self._coordinator()))

    def _kill_service(self) -> None:
        coordinator = self._coordinator()
        self._kill(coordinator, *processes.children(coordinator))

    def _kill_start(self) -> None:
        self._kill_coordinator()
        for _ in range(self._rng.randint(1, 2)):
            self._restart()
            self._coordinator()
            # Somewhere between the imports, the recovery and the first commits.
            time.sleep(self._rng.random() * 0.8)
            self._kill(*processes.coordinators(self.directory))

    def _kill_writers(self) -> None:
        self._kill(*self._chosen_writers())

    def _kill_coordinator_and_writers(self) -> None:
        self._kill(self._coordinator(), *self._chosen_writers())

    def _kill_everything(self) -> None:
        writers = [psutil.Process(writer.pid) for writer in self._writers.values()]
        service = [
            process
            for coordinator in processes.coordinators(self.directory)
            for process in (coordinator, *processes.children(coordinator))
        ]
        self._kill(*writers, *service)


def besiege(siege: Siege, kill_count: int) -> None:
    """Run one siege from beginning to end; leave its folder and no process.

    Raises: AssertionError, as `Siege.round` and `Siege.end`.
    """
    try:
        siege.begin()
        while siege.kill_count < kill_count:
            siege.round()
        siege.end()
    except BaseException:
        siege.abandon()
        raise
