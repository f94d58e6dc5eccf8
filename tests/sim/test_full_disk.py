"""Space is refused at every kind of call of a whole service, and comes back: all goes on.

Method: a writer, a coordinator and a compactor in one process, on a file system that can be full.
A history without failures tells the calls; then each kind of call that may lack space is refused in
a history of its own: once alone, and once with all that need space behind it, for three seconds of
the clock. The coordinator must not stop; what was acknowledged is there and what was refused is
not, for readers and for the next coordinator, which finds what the first left when it was killed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from ferrisdb.bench.inline_compactor import InlineCompactor
from ferrisdb.errors import DiskFullError, SharedMemoryFullError
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.coordinator import TICK_NS, Coordinator
from ferrisdb.workers.messages import CompactorOptions
from tests.sim.world import tiny_limits, tiny_options
from tests.sim.writer import SYNC, Writer
from tests.support.fakes import ManualClock, SeededRng
from tests.support.simfs import Call, SimFileSystem

FULL = DiskFullError.wire_code
WRITES = 64
VALUE_BYTES = 6000
TAKES_SPACE = ("write", "create", "rename")


class Service:
    """A coordinator, its compactor and one writer, run by hand."""

    def __init__(self, root: Path) -> None:
        self.fs = SimFileSystem(str(root))
        self.path = f"{root}/db"
        if not self.fs.exists(self.path):
            self.fs.mkdir(self.path)
        self.clock, self.rng = ManualClock(), SeededRng(7)
        self._lock = DirectoryLock(self.path)
        self._lock.acquire()
        self.coordinator = Coordinator(
            self.path,
            tiny_options(),
            fs=self.fs,
            clock=self.clock,
            rng=self.rng,
            compactor=self._make_compactor,
            background_sync=False,
        )
        self.first_call = self.fs.call_count
        self.writer = Writer(self.path, (0, 1))
        self.written: dict[bytes, bytes] = {}
        #: When a full disk has space again.
        self.space_from_ns = 0

    def _make_compactor(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> InlineCompactor:
        self.compactor = InlineCompactor(
            directory, options, generation, inbox, ring, fs=self.fs, clock=self.clock, rng=self.rng
        )
        return self.compactor

    def go_on(self) -> None:
        """Let everyone do what there is to do, and a tick pass."""
        for _ in range(3):
            self.coordinator.step()
            while self.compactor.has_work or self.compactor.has_compactions:
                self.compactor.work()
                self.coordinator.step()
        self.clock.advance_us(TICK_NS // 1000)
        assert self.coordinator.exit_code is None, "the service gave up"

    def put(self, number: int) -> int:
        """Write one row; returns the status of the answer, which must come within three seconds."""
        key, value = b"%06d" % (number % (WRITES // 2)), b"%d" % number + bytes(VALUE_BYTES)
        batch = BatchBuffer(DEFAULT_PREFIX)
        batch.put(key, value)
        request_no = self.writer.handle.attached.submit(batch, SYNC)
        for _ in range(15):
            self.go_on()
            answer = self.writer.handle.attached.poll(request_no)
            if answer is None:
                continue
            if answer[0] == 0:
                self.written[key] = value
            return answer[0]
        raise AssertionError("no answer")

    def live(self) -> set[int]:
        """Write all rows, each again until it is accepted; returns the refusals' codes."""
        codes: set[int] = set()
        for number in range(WRITES):
            for _ in range(100):
                code = self.put(number)
                if code == 0:
                    break
                codes.add(code)
                self.check()
                if self.clock.monotonic_ns() > self.space_from_ns:
                    self.fs.free()
            else:
                raise AssertionError("the writer is not accepted again")
        return codes

    def check(self) -> None:
        """Read everything back."""
        handle = self.writer.handle
        assert {k: handle.get(k) for k in self.written} == self.written
        assert list(handle.scan(keys_only=True)) == sorted(self.written)

    def kill(self) -> None:
        """End as by SIGKILL."""
        self.writer.close()
        self.compactor.stop(0)
        self.coordinator.abandon()
        self._lock.release()


@contextmanager
def service(root: Path) -> Iterator[Service]:
    """Run one, check what the next finds of it, and leave no segment."""
    root.mkdir()
    with tiny_limits(), patch("ferrisdb.workers.memtables.MANIFEST_ROTATE_BYTES", 1200):
        one = Service(root)
        try:
            try:
                yield one
                one.check()
            finally:
                one.kill()
            again = Service(root)
            try:
                again.written = one.written
                again.check()
            finally:
                again.kill()
        finally:
            names = SegmentNames.read(one.path)
            assert names is not None
            names.sweep()


def calls_of_a_history(root: Path) -> list[Call]:
    """Return one of each kind of call that may lack space: the first, and one amid the history."""
    with service(root) as one:
        assert one.live() == set()
        calls = [c for c in one.fs.calls[one.first_call :] if c.kind in TAKES_SPACE]
    by_site: dict[tuple[str, str, str], list[Call]] = {}
    for call in calls:
        suffix = call.path.rsplit("/", 1)[-1].strip("0123456789")
        by_site.setdefault((call.kind, call.site, suffix), []).append(call)
    return [call for found in by_site.values() for call in {found[0], found[len(found) // 2]}]


def test_every_call_may_lack_space_and_the_service_goes_on(tmp_path: Path) -> None:
    calls = calls_of_a_history(tmp_path / "whole")
    sites = {call.site.rpartition(".")[2] for call in calls}
    assert {"activate", "append", "create", "_switch_current", "recycle_wal"} <= sites, sites
    for call in calls:
        with service(tmp_path / f"alone-{call.index}") as one:
            one.fs.fail(call.index, errno.ENOSPC)
            codes = one.live()
            assert codes <= {FULL}, f"{call}: {codes}"
            for _ in range(10):
                one.go_on()
            assert one.coordinator.page.state == layout.STATE_RUNNING, call


def test_all_that_needs_space_may_lack_it_for_seconds(tmp_path: Path) -> None:
    refusals = 0
    for call in calls_of_a_history(tmp_path / "whole"):
        with service(tmp_path / f"from-{call.index}") as one:
            one.fs.fill(call.index)
            one.space_from_ns = one.clock.monotonic_ns() + 8_000_000_000
            codes = one.live()
            assert codes <= {FULL}, f"{call}: {codes}"
            refusals += bool(codes)
            one.fs.free()
            for _ in range(10):
                one.go_on()
            assert one.coordinator.page.state == layout.STATE_RUNNING, call
    assert refusals > 5


@pytest.mark.parametrize("letter", ["m", "v"])
def test_shared_memory_may_be_full_for_seconds(tmp_path: Path, letter: str) -> None:
    create = Segment.create
    with service(tmp_path / "db") as one:
        for _ in range(5):
            one.go_on()

        def refuse(name: str, nbytes: int) -> Segment:
            if f".{letter}" in name and one.clock.monotonic_ns() < 20_000_000_000:
                raise SharedMemoryFullError(errno.ENOSPC, "full")
            return create(name, nbytes)

        with patch.object(Segment, "create", staticmethod(refuse)):
            codes = one.live()
            assert codes <= {SharedMemoryFullError.wire_code} and (codes or letter == "v")
            for _ in range(10):
                one.go_on()
        assert one.coordinator.page.state == layout.STATE_RUNNING
