"""A small database that has everything, and a way to open and read it in one process.

`make` runs a real coordinator and compactor in this process (tests/sim) and leaves a directory
with several levels, range tombstones, expiring entries, many versions of one key, two WAL files
with data that no table has, one of them recycled, a prepared one, and a MANIFEST of many edits; it
was stopped cleanly. `reading` starts a real coordinator on such a directory, without its
syncs, and attaches a real handle to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ferrisdb.bench.inline_compactor import InlineCompactor
from ferrisdb.database import Database
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.commit import Reason
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.options import Options
from ferrisdb.seams import FileSystem
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.coordinator import Coordinator
from ferrisdb.workers.messages import CompactorOptions
from tests.sim.image import UnsyncedFileSystem
from tests.support.fakes import ManualClock, SeededRng
from tests.support.inline_handle import InlineDatabase

KEY_COUNT = 240
MEMTABLE_BYTES = 1 << 16

Contents = dict[bytes, bytes]


def tiny_options() -> Options:
    """Return settings under which a few hundred rows make a tree."""
    options = Options(block_bytes=512, table_bytes=8 << 10, level_base_bytes=16 << 10)
    object.__setattr__(options, "memtable_bytes", MEMTABLE_BYTES)
    return options


class _Compactor(InlineCompactor):
    merges = True

    @property
    def has_work(self) -> bool:
        """Compactions count, too, unless they are to wait."""
        jobs = self._jobs
        return super().has_work or (self.merges and jobs is not None and bool(jobs._compactions))


class Running:
    """A coordinator, its compactor and one handle, in this process."""

    def __init__(self, path: str, fs: FileSystem, clock: ManualClock, seed: int) -> None:
        """Start them.

        Raises: what a start raises; nothing is left behind then but what `sweep` removes.
        """
        self.path = path
        self._rng = SeededRng(seed)
        self._fs, self._clock = fs, clock
        self._compactor: _Compactor | None = None
        self._lock = DirectoryLock(path)
        self._lock.acquire()
        try:
            self.coordinator = Coordinator(
                path,
                tiny_options(),
                fs=fs,
                clock=clock,
                rng=self._rng,
                compactor=self._make_compactor,
                background_sync=False,
            )
        except BaseException:
            self._lock.release()
            raise
        self.handle = InlineDatabase(path, durability="os")

    def _make_compactor(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> _Compactor:
        self._compactor = _Compactor(
            directory, options, generation, inbox, ring,
            fs=self._fs, clock=self._clock, rng=self._rng,
        )  # fmt: skip
        return self._compactor

    @property
    def active_number(self) -> int:
        """Number of the memtable that takes writes."""
        return self.coordinator._memtables.active_number

    def commit(self, batch: BatchBuffer, *, flush: bool = True) -> None:
        """Commit a batch; with `flush` the compactor does all that it has to do."""
        number = self.handle.attached.submit(batch, layout.DURABILITY_OS)
        while self.handle.attached.poll(number) is None:
            if self.coordinator.step() is Reason.IDLE:
                self.work(flush=flush)
        if flush:
            self.settle()

    def work(self, *, flush: bool) -> None:
        """Have the compactor do one job; without `flush` only what a rotation waits for."""
        compactor = self._compactor
        if compactor is not None and compactor.has_work and (flush or compactor.has_requests):
            compactor.work()

    def settle(self) -> None:
        """Go on until nobody has anything to do before the next tick."""
        while self.coordinator.step() is not Reason.IDLE or (
            self._compactor is not None and self._compactor.has_work
        ):
            self.work(flush=True)

    def stop(self) -> None:
        """Stop cleanly."""
        self.handle.close()
        self.coordinator.request_exit()
        self.coordinator.stop()
        self._lock.release()

    def abandon(self) -> None:
        """Be gone as after SIGKILL, but for the names in shared memory."""
        self.handle.close()
        if self._compactor is not None:
            self._compactor.stop(0)
        self.coordinator.abandon()
        self._lock.release()


def sweep(path: str) -> None:
    """Remove what a directory's services have left in shared memory."""
    names = SegmentNames.read(path)
    if names is not None:
        names.sweep()


@contextmanager
def reading(path: str) -> Iterator[Database]:
    """Start on a directory and attach; behind it nothing is left in shared memory.

    Raises: what a start raises.
    """
    try:
        running = Running(path, UnsyncedFileSystem(), ManualClock(), 1)
        try:
            # The handle's ring is taken on, and the order is complete.
            while running.coordinator.step() is not Reason.IDLE:
                pass
            yield running.handle
        finally:
            running.abandon()
    finally:
        sweep(path)


def _batches(rng: random.Random, contents: Contents, count: int) -> Iterator[BatchBuffer]:
    for _ in range(count):
        batch = BatchBuffer(DEFAULT_PREFIX)
        for _ in range(rng.randint(1, 24)):
            key = b"key/%06d/" % rng.randrange(KEY_COUNT) + b"k" * rng.randrange(9)
            value = rng.randbytes(rng.choice((0, 8, 60, 300)))
            dice = rng.random()
            if dice < 0.12:
                batch.delete(key)
                contents.pop(key, None)
            elif dice < 0.15:
                number = rng.randrange(KEY_COUNT)
                first, last = (b"key/%06d" % (number + add) for add in (0, rng.randint(1, 9)))
                batch.delete_range(first, last)
                for gone in [one for one in contents if first <= one < last]:
                    del contents[gone]
            elif dice < 0.2:
                batch.put(key, value, 0.001)
                contents.pop(key, None)
            else:
                batch.put(key, value, 1e9 if dice < 0.25 else None)
                contents[key] = value
        yield batch


def make(path: Path, seed: int) -> Contents:
    """Make the database; returns what can be read of it, once a few milliseconds have passed."""
    rng, contents = random.Random(seed), Contents()
    path.mkdir()
    running = _start(path, seed)
    try:
        for batch in _batches(rng, contents, 260):
            running.commit(batch)
        running.stop()
        # What a recovery and the first preparation write is new; what comes later is recycled.
        running = _start(path, seed + 1)
        # Level 0 is to keep what comes now.
        assert running._compactor is not None
        running._compactor.merges = False
        for _ in range(2):
            before = running.active_number
            while running.active_number == before:
                running.commit(*_batches(rng, contents, 1))
        before = running.active_number
        while running.active_number == before:
            running.commit(*_batches(rng, contents, 1), flush=False)
        for batch in _batches(rng, contents, 8):
            running.commit(batch, flush=False)
        # The next preparation, which takes up a file that is done with.
        running.work(flush=False)
    finally:
        running.stop()
        sweep(str(path))
    return contents


def _start(path: Path, seed: int) -> Running:
    return Running(str(path), UnsyncedFileSystem(), ManualClock(), seed)
