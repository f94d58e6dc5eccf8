"""Compact: merge tables into new tables of one level, without what nobody can see any more.

M1  The outputs have their names only when all of them are synced, and the caller knows of them
    only when the names are synced too. A crash before leaves temporary files or tables that no
    MANIFEST names; the next start removes either.
M2  Versions that no snapshot can see (shadowed at or below `gc_floor`, or covered by a range
    tombstone there) are left out. Deletes, range tombstones and expired entries at or below the
    floor go only where nothing older lies below (Compaction.bottom): elsewhere they still hide it.
M3  An output ends between two keys, and its range tombstones end with it: the output at hand has
    those from its first key on, up to the next output's first key. So outputs never overlap.
M4  A compaction changes nothing but its own files, so it may be given up and done again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from ferrisdb.engine.flush import discard_file, table_meta
from ferrisdb.engine.pick import Compaction
from ferrisdb.engine.table_file import TableFile
from ferrisdb.errors import StorageError
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.kernel.level import Level
from ferrisdb.kernel.merge import Merge
from ferrisdb.kernel.properties import NO_ORIGIN, TableOrigin
from ferrisdb.kernel.run import TableRun
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.table import Table
from ferrisdb.kernel.tombstones import RangeTombstones
from ferrisdb.limits import SEQNO_MAX
from ferrisdb.seams import File, FileSystem

#: Steps of the merge after which `on_chunk` is called, whether or not anything was written.
STEPS_MAX: Final = 1 << 16
#: Outputs that are complete and may still be on their way to the disk: behind these, syncing one
#: waits for little more than the journal.
UNSYNCED_MAX: Final = 2

Range = tuple[bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class CompactSettings:
    """What a compaction needs to know beside its tables."""

    database_id: bytes
    created_us: int
    gc_floor: int
    #: What expired by then is expired for every snapshot.
    expired_us: int
    block_bytes: int
    table_bytes: int
    #: What the outputs' properties say, beside their inputs.
    origin: TableOrigin = NO_ORIGIN
    #: A Bloom filter in place of each output's hash index.
    is_filtered: bool = False


def file_count_max(compaction: Compaction, table_bytes: int) -> int:
    """Return how many file numbers a compaction is to be given."""
    return compaction.input_bytes // table_bytes + len(compaction.splits) + 2


def compact_tables(
    compaction: Compaction,
    fs: FileSystem,
    directory: DIR,
    settings: CompactSettings,
    *,
    file_numbers: Sequence[int],
    on_chunk: Callable[[int], None] = lambda _: None,
    open_table: Callable[[str, int], Table] | None = None,
) -> tuple[TableMeta, ...]:
    """Write the outputs, sync them, name them, sync the names.

    Shape:   file_numbers, new ones, at least one (see file_count_max): the last one's table takes
             all the rest. on_chunk is called with the bytes, about a MiB, that are written next,
             and with 0 every STEPS_MAX entries; it may raise to give up.
    Returns: what the MANIFEST is to say of the outputs, in key order; none if nothing is left.
    Raises:  CorruptionError of an input; StorageError (DiskFullError among them); what on_chunk
             raises. No file is left then, except what could not be removed.
    Durable: yes (M1).
    Cost:    one pass; memory for 1 MiB and 12 bytes for each key of one output.
    """
    with ExitStack() as cleanup:
        opened: dict[int, Table] = {}
        for meta in compaction.inputs:
            path = directory.file(FileKind.TABLE, meta.number)
            table = open_table(path, meta.number) if open_table else _open_table(path, meta.number)
            cleanup.callback(table.close)
            opened[meta.number] = table
        outputs = _Outputs(compaction, fs, directory, settings, file_numbers, on_chunk)
        try:
            return outputs.write(
                _merged(compaction, opened),
                [r for table in opened.values() for r in table.range_tombstones().ranges()],
            )
        except BaseException:
            outputs.discard()
            raise


def _open_table(path: str, number: int) -> Table:
    return Table(path, path=path, file_number=number)


def _merged(compaction: Compaction, opened: dict[int, Table]) -> Source:
    sources: list[Source] = []
    for level, metas in groupby(compaction.inputs, key=lambda meta: meta.level):
        run = list(metas)
        tables = [opened[meta.number] for meta in run]
        if level == 0:
            sources += [table.source(SEQNO_MAX, all_versions=True) for table in tables]
        else:
            sources.append(Level(TableRun(run, None, tables), SEQNO_MAX, all_versions=True))
    return Merge(sources)


def clip_ranges(ranges: Iterable[Range], low: bytes, high: bytes | None) -> list[Range]:
    """Return the range tombstones' parts within [low, high), high None for no bound (M3)."""
    clipped: list[Range] = []
    for start, end, seq in ranges:
        first = max(start, low)
        last = end if high is None else min(end, high) if end else high
        if not last or first < last:
            clipped.append((first, last, seq))
    return clipped


class _Outputs:
    """The tables that a compaction writes, one behind the other."""

    def __init__(
        self,
        compaction: Compaction,
        fs: FileSystem,
        directory: DIR,
        settings: CompactSettings,
        file_numbers: Sequence[int],
        on_chunk: Callable[[int], None],
    ) -> None:
        self._compaction = compaction
        self._fs, self._dir, self._settings = fs, directory, settings
        self._numbers = deque(file_numbers)
        self._on_chunk = on_chunk
        self._splits = deque(compaction.splits)
        self._file: File | None = None
        inputs = tuple(table.number for table in compaction.inputs)
        self._origin = replace(settings.origin, inputs=inputs)
        #: Complete and on their way to the disk, oldest first.
        self._unsynced: deque[File] = deque()
        #: Numbers of the files that may be there under either name.
        self._made: list[int] = []

    def write(self, source: Source, ranges: list[Range]) -> tuple[TableMeta, ...]:
        """Drain the source into tables; see compact_tables."""
        floor = self._settings.gc_floor
        hiding = RangeTombstones(ranges, floor)
        kept = hiding.ranges()
        if self._compaction.bottom:
            # Carried out by what `hiding` leaves out, and nothing lies below.
            kept = [one for one in kept if one[2] > floor]
        metas: list[TableMeta] = []
        low: bytes | None = b""
        while low is not None:
            meta, low = self._write_table(source, hiding, kept, low)
            if meta is not None:
                metas.append(meta)
            self._sync(UNSYNCED_MAX)
        self._sync(0)
        for meta in metas:
            self._fs.rename(
                self._dir.temporary(FileKind.TABLE, meta.number),
                self._dir.file(FileKind.TABLE, meta.number),
            )
        if metas:
            self._fs.sync_dir(self._dir.path)
        return tuple(metas)

    def _sync(self, left: int) -> None:
        """Sync and close outputs until so many wait."""
        while len(self._unsynced) > left:
            self._on_chunk(0)
            self._unsynced[0].datasync()
            self._unsynced.popleft().close()

    def discard(self) -> None:
        """Remove every file of a compaction that is given up."""
        if self._file is not None:
            number = self._made.pop()
            discard_file(self._fs, self._file, self._dir.temporary(FileKind.TABLE, number))
        while self._unsynced:
            discard_file(self._fs, self._unsynced.popleft())
        for number in self._made:
            for path in (
                self._dir.temporary(FileKind.TABLE, number),
                self._dir.file(FileKind.TABLE, number),
            ):
                try:
                    if self._fs.exists(path):
                        self._fs.unlink(path)
                except StorageError:
                    # The first error is the one to report; the next start removes what stays.
                    continue

    def _write_table(
        self, source: Source, hiding: RangeTombstones, kept: list[Range], low: bytes
    ) -> tuple[TableMeta | None, bytes | None]:
        """Write one output from key `low` on; return its meta and where the next one begins."""
        number = self._numbers.popleft()
        temporary = self._dir.temporary(FileKind.TABLE, number)
        if self._fs.exists(temporary):
            self._fs.unlink(temporary)
        file = self._fs.create(temporary)
        self._made.append(number)
        self._file = file
        settings = self._settings
        builder = TableBuilder(
            TableFile(file, self._on_chunk),
            file_number=number,
            database_id=settings.database_id,
            created_us=settings.created_us,
            gc_floor=settings.gc_floor,
            block_bytes=settings.block_bytes,
            bottom=self._compaction.bottom,
            filtered=settings.is_filtered,
            origin=self._origin,
        )
        high = self._fill(builder, source, hiding)
        clipped = clip_ranges(kept, low, high)
        for one in clipped:
            builder.add_range_tombstone(*one)
        if not builder.entries and not clipped:
            self._made.pop()
            self._file = None
            discard_file(self._fs, file, temporary)
            return None, high
        properties = builder.finish()
        file.start_sync()
        self._file = None
        self._unsynced.append(file)
        level = self._compaction.output_level
        quarter_us = builder.quarter_expires_us
        return table_meta(properties, level=level, quarter_expires_us=quarter_us), high

    def _fill(self, builder: TableBuilder, source: Source, hiding: RangeTombstones) -> bytes | None:
        """Add entries until the table is to end; return the next one's first key, None: no more."""
        is_last = not self._numbers
        while True:
            builder.build_from(
                source,
                tombstones=hiding if len(hiding) else None,
                expired_us=self._settings.expired_us,
                bytes_max=0 if is_last else self._settings.table_bytes,
                until=self._splits[0] if self._splits and not is_last else None,
                steps_max=STEPS_MAX,
            )
            self._on_chunk(0)
            next_key = builder.next_key
            if next_key is None:
                return None
            while self._splits and self._splits[0] <= next_key:
                self._splits.popleft()
            # A split that nothing was written before only moves on.
            if builder.is_split and builder.entries:
                return next_key
