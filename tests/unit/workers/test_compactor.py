"""The compactor's jobs, in this process. Method: a pipe that hands out requests when asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferrisdb.errors import SharedMemoryFullError, StorageError
from ferrisdb.kernel import layout
from ferrisdb.seams import RealClock, RealFileSystem, RealRng
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment
from ferrisdb.workers.compactor import Compactor
from ferrisdb.workers.messages import (
    Answer,
    CompactorOptions,
    Failed,
    Flushed,
    FlushMemtable,
    Prepared,
    PrepareMemtable,
    Request,
    Stop,
)
from ferrisdb.workers.parent import OrphanedError
from tests.support.fakes import ManualClock
from tests.support.memtables import fill, put

GENERATION = 3


class Pipe:
    """Gives requests in order; one behind a gate arrives only when the gate says so."""

    def __init__(self) -> None:
        self.requests: list[tuple[Callable[[], bool], Request]] = []
        self.answers: list[Answer] = []

    def add(self, request: Request, when: Callable[[], bool] = lambda: True) -> None:
        self.requests.append((when, request))

    def poll(self, timeout: float = 0.0, /) -> bool:
        return bool(self.requests) and self.requests[0][0]()

    def recv(self) -> Request:
        if not self.requests:
            raise EOFError
        arrives, request = self.requests.pop(0)
        arrives()
        return request

    def send(self, message: Answer, /) -> None:
        self.answers.append(message)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[tuple[SegmentNames, ControlPage]]:
    names = SegmentNames.load_or_create(tmp_path)
    name = names.name("k", 0)
    names.record(name)
    page = ControlPage.format(
        Segment.create(name, layout.CONTROL_BYTES),
        database_id=bytes(range(16)),
        memtable_bytes=1 << 20,
        batch_bytes_max=1 << 19,
    )
    page.generation = GENERATION
    yield names, page
    names.sweep()
    page.close()


@pytest.fixture
def names(control: tuple[SegmentNames, ControlPage]) -> SegmentNames:
    return control[0]


@pytest.fixture
def page(control: tuple[SegmentNames, ControlPage]) -> ControlPage:
    return control[1]


def compactor(directory: str, pipe: Pipe, generation: int = GENERATION) -> Compactor:
    return Compactor(
        directory,
        pipe,
        CompactorOptions(),
        generation,
        fs=RealFileSystem(),
        clock=RealClock(),
        rng=RealRng(),
    )


def run(names: SegmentNames, pipe: Pipe) -> list[Answer]:
    compactor(names.directory, pipe).run()
    return pipe.answers


def frozen(names: SegmentNames, number: int, row_count: int = 3) -> None:
    name = names.name("m", number)
    names.record(name)
    segment = Segment.create(name, 1 << 23)
    writer = fill(
        segment.view, [put(b"k%05d" % n, b"v" * 1000) for n in range(row_count)], number=number
    )
    writer.close()
    segment.close()


def prepare(names: SegmentNames, number: int, **changes: int) -> PrepareMemtable:
    names.record(names.name("m", number))
    fields = {"segment_bytes": 1 << 18, "wal_bytes": 1 << 16, "base_seq": 1, **changes}
    return PrepareMemtable(number, **fields)


def test_prepared_number_has_segment_and_wal(names: SegmentNames) -> None:
    pipe = Pipe()
    pipe.add(prepare(names, 12))
    pipe.add(Stop())
    assert run(names, pipe) == [Prepared(12)]
    assert os.stat(f"{names.directory}/000012.wal").st_size == 1 << 16
    segment = Segment.open(names.name("m", 12), writable=False, bytes_expected=1 << 18)
    assert segment is not None
    segment.close()


def test_recycled_wal_takes_the_place_of_the_old(names: SegmentNames) -> None:
    pipe = Pipe()
    pipe.add(prepare(names, 12))
    pipe.add(prepare(names, 14, recycle_number=12))
    pipe.add(Stop())
    assert run(names, pipe) == [Prepared(12), Prepared(14)]
    assert sorted(os.listdir(names.directory)) == ["000014.wal", "segments"]


def test_preparing_overtakes_a_flush(names: SegmentNames) -> None:
    frozen(names, 5, row_count=4000)
    pipe = Pipe()
    pipe.add(FlushMemtable(5, 20, 0))
    # Arrives once the table has been begun.
    pipe.add(prepare(names, 12), lambda: os.path.exists(f"{names.directory}/000020.sst.tmp"))
    pipe.add(FlushMemtable(5, 21, 0))
    pipe.add(Stop(), lambda: len(pipe.answers) == 3)
    answers = run(names, pipe)
    assert [type(answer) for answer in answers] == [Prepared, Flushed, Flushed]
    flushed = answers[1]
    assert isinstance(flushed, Flushed) and flushed.table is not None
    assert (flushed.number, flushed.table.number, flushed.table.entry_count) == (5, 20, 4000)


def test_stop_gives_up_a_flush_and_leaves_no_file(names: SegmentNames) -> None:
    frozen(names, 5, row_count=4000)
    pipe = Pipe()
    pipe.add(FlushMemtable(5, 20, 0))
    pipe.add(Stop(), lambda: os.path.exists(f"{names.directory}/000020.sst.tmp"))
    assert run(names, pipe) == []
    assert os.listdir(names.directory) == ["segments"]


def test_failures_are_answers_and_leave_nothing(names: SegmentNames) -> None:
    status = os.statvfs("/dev/shm")
    too_much = status.f_blocks * status.f_frsize + 4096
    pipe = Pipe()
    pipe.add(prepare(names, 12, segment_bytes=too_much))
    pipe.add(prepare(names, 13, recycle_number=7))
    pipe.add(FlushMemtable(99, 20, 0))
    pipe.add(prepare(names, 13))
    pipe.add(Stop(), lambda: len(pipe.answers) == 4)
    no_memory, prepared, no_file, no_segment = run_sorted(names, pipe)
    assert prepared == Prepared(13)
    assert isinstance(no_memory, Failed) and isinstance(no_segment, Failed)
    assert no_memory.wire_code == SharedMemoryFullError.wire_code
    assert "enlarge /dev/shm" in no_memory.text
    assert isinstance(no_file, Failed) and no_file.wire_code == StorageError.wire_code
    assert no_segment.request == FlushMemtable(99, 20, 0)
    assert sorted(os.listdir(names.directory)) == ["000013.wal", "segments"]
    assert Segment.open(names.name("m", 12), writable=False) is None


def run_sorted(names: SegmentNames, pipe: Pipe) -> list[Answer]:
    """Answers by the number of what they are about; a failure comes behind a success."""

    def order(answer: Answer) -> tuple[int, bool]:
        failed = isinstance(answer, Failed)
        about = answer.request if isinstance(answer, Failed) else answer
        assert isinstance(about, (PrepareMemtable, FlushMemtable, Prepared, Flushed))
        return (about.number, failed)

    return sorted(run(names, pipe), key=order)


def test_leftovers_of_a_killed_predecessor_do_not_hinder(names: SegmentNames) -> None:
    frozen(names, 5)
    request = prepare(names, 12)
    Segment.create(names.name("m", 12), 4096).close()
    for left in ("000012.wal.tmp", "000020.sst.tmp"):
        (Path(names.directory) / left).write_bytes(b"half")
    pipe = Pipe()
    pipe.add(request)
    pipe.add(FlushMemtable(5, 20, 0))
    pipe.add(Stop(), lambda: len(pipe.answers) == 2)
    assert [type(answer) for answer in run(names, pipe)] == [Prepared, Flushed]
    assert sorted(os.listdir(names.directory)) == ["000012.wal", "000020.sst", "segments"]


@pytest.mark.parametrize("request_", ["flush", "prepare"])
def test_nothing_is_renamed_under_another_generation(
    names: SegmentNames, page: ControlPage, request_: str
) -> None:
    frozen(names, 5)
    pipe = Pipe()

    def take_over() -> bool:
        page.generation = GENERATION + 1
        return True

    job = FlushMemtable(5, 20, 0) if request_ == "flush" else prepare(names, 12)
    pipe.add(job, take_over)
    with pytest.raises(OrphanedError):
        run(names, pipe)
    assert pipe.answers == []
    assert not [n for n in os.listdir(names.directory) if n.endswith((".sst", ".wal"))]


def test_a_retired_page_or_none_is_no_place_to_start(
    names: SegmentNames, page: ControlPage, tmp_path: Path
) -> None:
    with pytest.raises(OrphanedError):
        compactor(names.directory, Pipe(), GENERATION - 1)
    page.retire()
    with pytest.raises(OrphanedError):
        compactor(names.directory, Pipe())
    with pytest.raises(OrphanedError):
        compactor(str(tmp_path / "nowhere"), Pipe())


def test_compactions_write_no_faster_than_their_rate(names: SegmentNames) -> None:
    clock = ManualClock()

    class Waiting(Pipe):
        """Time passes only where the compactor waits for a request."""

        def poll(self, timeout: float = 0.0, /) -> bool:
            clock.advance_us(round(timeout * 1e6))
            return super().poll(timeout)

    pipe = Waiting()
    one = Compactor(
        names.directory,
        pipe,
        CompactorOptions(compaction_bytes_per_s=1000),
        GENERATION,
        fs=RealFileSystem(),
        clock=clock,
        rng=RealRng(),
    )
    begun_ns = clock.monotonic_ns()
    for _ in range(10):
        one._between_merge_chunks(500)
    # What was written last is waited for only before the next chunk.
    assert clock.monotonic_ns() - begun_ns == 9 * 500_000_000
    # Time that passed without writing is not saved up.
    clock.advance_us(60_000_000)
    begun_ns = clock.monotonic_ns()
    for _ in range(3):
        one._between_merge_chunks(500)
    assert clock.monotonic_ns() - begun_ns == 2 * 500_000_000
    # A request is served amid the wait.
    pipe.add(prepare(names, 12))
    one._between_merge_chunks(500)
    assert pipe.answers == [Prepared(12)]
    one.close()
