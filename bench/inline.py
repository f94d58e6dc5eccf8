"""A whole service in one thread: nothing waits for another process, and nothing runs by chance.

The parts are those of the real service. The compactor works when the coordinator has nothing to
do, the coordinator when a handle waits for an answer, and its clock stands still, so that nothing
is done because time has passed. The same calls cost the same instructions, run after run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ferrisdb.attached import Attached
from ferrisdb.bench.inline_compactor import InlineCompactor
from ferrisdb.database import Database
from ferrisdb.kernel.commit import Reason
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.keyspace import Keyspace
from ferrisdb.options import Options
from ferrisdb.seams import RealClock, RealFileSystem, RealRng
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.coordinator import Coordinator
from ferrisdb.workers.messages import CompactorOptions

TIMEOUT_S = 60.0


class StillClock:
    """The time at which it was made, for ever."""

    def __init__(self) -> None:
        clock = RealClock()
        self._wall_us, self._monotonic_ns = clock.wall_us(), clock.monotonic_ns()

    def wall_us(self) -> int:
        """Return microseconds since the epoch."""
        return self._wall_us

    def monotonic_ns(self) -> int:
        """Return nanoseconds on the monotonic clock."""
        return self._monotonic_ns


class _PumpingAttached(Attached):
    """A handle that has the service go on where others wait for it."""

    def __init__(self, path: str, *, durability: str, pump: Callable[[], None]) -> None:
        self._pump = pump
        super().__init__(path, start=False, timeout=TIMEOUT_S, durability=durability)
        # As many clients as cores: then nobody looks for a while whether the answer comes.
        self.cpu_count = 0

    def _await_served(self, deadline_ns: int) -> None:
        del deadline_ns
        self._pump()

    def _check_service(self, deadline_ns: int) -> None:
        # Asked behind each sleep, of at most 20 ms, whether the service lives.
        del deadline_ns
        self._pump()


class PumpedDatabase(Database):
    """As `Database`, over a handle whose service runs in the same thread."""

    def __init__(self, attached: Attached) -> None:
        Keyspace.__init__(self, attached, DEFAULT_PREFIX, 0, "")


class InlineService:
    """The service of one directory, made if it is not there, without processes or threads.

    Owner:   the thread that made it.
    """

    def __init__(self, directory: str, options: Options) -> None:
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        #: Whether tables are merged; flushed they are in any case.
        self.merges = True
        self._clock = StillClock()
        self._compactor: InlineCompactor | None = None
        self._lock = DirectoryLock(directory)
        self._lock.acquire()
        self._coordinator: Coordinator | None = None
        try:
            self._coordinator = Coordinator(
                directory,
                options,
                fs=RealFileSystem(),
                clock=self._clock,
                rng=RealRng(),
                compactor=self._make_compactor,
                background_sync=False,
            )
            self.pump()
        except BaseException:
            self._lock.release()
            raise

    def _make_compactor(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> InlineCompactor:
        self._compactor = InlineCompactor(
            directory, options, generation, inbox, ring,
            fs=RealFileSystem(), clock=self._clock, rng=RealRng(),
        )  # fmt: skip
        return self._compactor

    def attach(self) -> Attached:
        """Return a hold on the database, with durability "os"."""
        return _PumpingAttached(self.directory, durability="os", pump=self.pump)

    def open(self) -> Database:
        """Return a handle over a hold of its own."""
        return PumpedDatabase(self.attach())

    def pump(self) -> None:
        """Do all that there is to do: requests, flushes, merges unless they are to wait."""
        assert self._coordinator is not None and self._compactor is not None
        while True:
            while self._coordinator.step() is not Reason.IDLE:
                pass
            if not (self._compactor.has_work or (self.merges and self._compactor.has_compactions)):
                return
            self._compactor.work()

    def close(self) -> None:
        """Stop it cleanly."""
        coordinator, self._coordinator = self._coordinator, None
        try:
            if coordinator is not None:
                coordinator.request_exit()
                coordinator.stop()
        finally:
            self._lock.release()
