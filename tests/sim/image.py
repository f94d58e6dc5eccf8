"""Start a coordinator on what a power cut left, and compare what it shows with what was promised.

C1  Every commit at or below a promised sequence number is there, with the number that its writer
    was told.
C2  A batch is there whole or not at all, and batch n of a life only behind its batch n-1.
C3  Nothing is there that was not submitted, and nothing twice: no sequence number is used twice.
    (Some may be used by nothing: an edit's last_seq covers "os" commits that a cut can take.)
C4  The outcome of the last batch of a life is known, unless its writer has died, or has said in a
    later request that it saw the answer.
C5  What is there is a prefix of the order of commits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ferrisdb.bench.inline_compactor import InlineCompactor
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.merge import Cursor, Merge
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.table import Table
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.limits import SEQNO_MAX
from ferrisdb.seams import FileSystem, RealFile, RealFileSystem
from ferrisdb.shm import version_page
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.coordinator import Coordinator
from ferrisdb.workers.messages import CompactorOptions
from tests.sim.batches import Batch, Life, parse_row
from tests.sim.world import World, tiny_options
from tests.support.fakes import ManualClock, SeededRng

_PUT = 1
_READ_WRITE, _CREATE = os.O_RDWR, os.O_CREAT | os.O_EXCL


class _UnsyncedFile(RealFile):
    def datasync(self) -> None:
        """Do nothing: no power is cut here any more."""


class UnsyncedFileSystem(RealFileSystem):
    """The real one, but nothing is synced: no power is cut behind it."""

    def open_rw(self, path: str) -> RealFile:
        return _UnsyncedFile(path, _READ_WRITE)

    def create(self, path: str) -> RealFile:
        return _UnsyncedFile(path, _READ_WRITE | _CREATE)

    def sync_dir(self, path: str) -> None:
        """Do nothing."""


@contextmanager
def recovered(path: str) -> Iterator[Coordinator]:
    """Start a coordinator, and leave nothing of it in shared memory."""
    fs: FileSystem = UnsyncedFileSystem()
    clock, rng = ManualClock(), SeededRng(1)

    def compactor(
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> InlineCompactor:
        return InlineCompactor(
            directory, options, generation, inbox, ring, fs=fs, clock=clock, rng=rng
        )

    try:
        coordinator = Coordinator(
            path,
            tiny_options(),
            fs=fs,
            clock=clock,
            rng=rng,
            compactor=compactor,
            background_sync=False,
        )
        try:
            yield coordinator
        finally:
            assert coordinator.jobs.compactor is not None
            coordinator.jobs.compactor.stop(0)
            coordinator.abandon()
    finally:
        names = SegmentNames.read(path)
        if names is not None:
            names.sweep()


@dataclass(slots=True)
class Image:
    """What a coordinator shows: for each batch, its rows by index; for each other key, its
    newest version."""

    last_seq: int
    rows: dict[Batch, dict[int, tuple[int, bytes]]] = field(default_factory=dict)
    others: dict[bytes, tuple[int, int, bytes]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    #: Last batch of each life.
    heads: dict[Life, int] = field(default_factory=dict)

    @classmethod
    def read(cls, coordinator: Coordinator, path: str) -> Image:
        """Read every version of every key of the published version, as a reader maps it."""
        image = cls(coordinator.page.visible_seq)
        segments: list[Segment] = []
        tables: list[Table] = []
        sources: list[Source] = []
        names = SegmentNames.read(path)
        assert names is not None
        page_segment = _mapped(names.name("v", coordinator.page.epoch))
        page = version_page.decode(page_segment.view)
        page_segment.close()
        for ref in page.memtables:
            segments.append(_mapped(names.name("m", ref.number)))
            sources.append(Memtable(segments[-1].view).source(all_versions=True))
        for table in page.tables:
            file = DIR(path).file(FileKind.TABLE, table.number)
            tables.append(Table(file, path=file, file_number=table.number))
            sources.append(tables[-1].source(SEQNO_MAX, all_versions=True))
        image._take(sources)
        return image

    def _take(self, sources: list[Source]) -> None:
        cursor = Cursor(Merge(sources))
        cursor.seek_first()
        while (entry := cursor.entry()) is not None:
            stored, seq, kind, _, value = entry
            key = stored.removeprefix(DEFAULT_PREFIX)
            row = parse_row(key)
            if row is None:
                if key not in self.others or self.others[key][0] < seq:
                    self.others[key] = (seq, kind, value)
            else:
                batch, j = row
                rows = self.rows.setdefault(batch, {})
                if j in rows:
                    self.faults.append(f"{key!r} was written at {rows[j][0]} and at {seq}")
                rows[j] = (seq, value)
                if value != batch.row(j)[1] or kind != _PUT:
                    self.faults.append(f"{key!r} has another value")
            cursor.step()

    def check(self) -> list[str]:
        """Return what is against C2 and C3, as far as the image alone tells."""
        ranges = []
        for batch, rows in self.rows.items():
            first = min(seq for seq, _ in rows.values()) - min(rows)
            if {j: seq for j, (seq, _) in rows.items()} != {
                j: first + j for j in range(batch.row_count)
            }:
                self.faults.append(f"{batch} is there in part: {sorted(rows)}")
            ranges.append((first, first + batch.op_count))
            self.heads[batch.life] = max(self.heads.get(batch.life, 0), batch.number)
        ranges.sort()
        ends = [0, *(end for _, end in ranges)]
        if any(begin < end for (begin, _), end in zip(ranges, ends[:-1], strict=True)):
            self.faults.append(f"sequence numbers are used twice: {ranges}")
        if ends[-1] > self.last_seq + 1:
            self.faults.append(f"{ends[-1] - 1} is used, {self.last_seq} is the last")
        for life, head in self.heads.items():
            self._check_life(life, head)
        return self.faults

    def _check_life(self, life: Life, head: int) -> None:
        seqs = [self.rows.get(Batch(life, n), {}).get(0, (0, b""))[0] for n in range(1, head + 1)]
        if 0 in seqs or seqs != sorted(seqs):
            self.faults.append(f"batches of {life} are missing or out of order: {seqs}")
        newest = Batch(life, head)
        if self.others.get(newest.head(), (0, 0, b""))[1:] != (_PUT, b"%d" % head):
            self.faults.append(f"the head of {life} is not {head}")
        marks = [
            n
            for n in range(1, head + 1)
            if self.others.get(Batch(life, n).mark(), (0, 0, b""))[1] == _PUT
        ]
        if marks != [head]:
            self.faults.append(f"the marks of {life} are {marks}, not {head}")

    def last_batches(self) -> dict[Life, int]:
        """Return the last batch of each life."""
        self.check()
        return self.heads

    def first_seq(self, batch: Batch) -> int:
        """Return a batch's first sequence number, 0 if it isn't there."""
        return self.rows.get(batch, {}).get(0, (0, b""))[0]


def compare(world: World, coordinator: Coordinator, path: str, index: int) -> list[str]:
    """Return what is against C1 to C5 in a database recovered from a cut before call `index`."""
    image = Image.read(coordinator, path)
    faults = image.check()
    promised = max((seq for at, seq in world.promised if at <= index), default=0)
    if image.last_seq < promised:
        faults.append(f"{promised} was promised, {image.last_seq} is there")
    known = world.batches()
    newest = max((image.first_seq(batch) for batch in image.rows), default=0)
    for batch in image.rows:
        if batch not in known and batch.number > world.inherited.get(batch.life, 0):
            faults.append(f"{batch} was never submitted")
    for batch, sent in known.items():
        first = image.first_seq(batch)
        told = sent.last_seq - batch.op_count + 1
        if sent.last_seq and sent.call_index <= index and first not in (0, told):
            faults.append(f"{batch} is at {first}; its writer was told {told}")
        if 0 < sent.last_seq <= promised and not first:
            faults.append(f"{batch} is lost; it was promised")
        if 0 < sent.last_seq < newest and sent.call_index <= index and not first:
            faults.append(f"{batch} is lost, and a later one is there")
    faults += _unknown_outcomes(world, coordinator, image, index)
    return faults


def _unknown_outcomes(
    world: World, coordinator: Coordinator, image: Image, index: int
) -> Iterator[str]:
    known = world.batches()
    for life, head in image.heads.items():
        sent = known.get(Batch(life, head))
        if sent is None or world.dead_since.get(life, index + 1) <= index:
            continue
        later = [s for s in world.sent if s.batch.life == life and s.submitted_index <= index]
        if any(s.unanswered_no > sent.request_no for s in later):
            continue
        outcome = coordinator._ports._outcomes.get(sent.client_id, {}).get(sent.request_no)
        want = (image.first_seq(sent.batch), sent.batch.op_count)
        if outcome is None or (outcome.first_seq, outcome.count) != want:
            yield f"the outcome of {sent.batch} is {outcome}, not {want}"


def _mapped(name: str) -> Segment:
    segment = Segment.open(name, writable=False)
    assert segment is not None, f"there is no segment {name}"
    return segment
