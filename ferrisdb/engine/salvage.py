"""Write what damaged files still hold as new tables: of a table its whole blocks, of a WAL file
its whole records.

S1  A table's entries are taken from blocks all of whose pages check out, and its range tombstones
    if theirs do. Nothing is taken on trust.
S2  A WAL file's records up to the first bad one are taken. Those behind it are taken only if
    something proves that the bad one had been durable; else they are the torn tail that every
    start drops. A record is taken whole or not at all.
S3  The outputs say in their properties that a repair wrote them, and from which file; they are
    named in no version before the repair's own MANIFEST is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ferrisdb.engine.flush import flush_memtable, table_meta
from ferrisdb.engine.survey import TableFinding
from ferrisdb.engine.tablescan import LostPart, TableScan
from ferrisdb.engine.walwalk import RecordPlace
from ferrisdb.errors import CorruptionError, Error, StorageError
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.kernel.memtable import MemtableWriter
from ferrisdb.kernel.properties import TableOrigin
from ferrisdb.seams import File, FileSystem

_MEMTABLE_BYTES: Final = 64 << 20
_OPERATION_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """What every table that a repair writes has in common."""

    fs: FileSystem
    directory: DIR
    database_id: bytes
    created_us: int
    block_bytes: int
    #: Nothing is kept of what is written: to see what a repair would do.
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Salvage:
    """What came out of one damaged table; `meta` is None where nothing did."""

    meta: TableMeta | None
    entry_count: int
    lost: tuple[LostPart, ...]
    #: None: they are lost.
    range_count: int | None


class Nothing:
    """A file that forgets what is appended."""

    def append(self, chunk: bytes | memoryview, /) -> None:
        """Take a chunk."""
        del chunk


class NewTable:
    """A table being written under its temporary name, or nowhere."""

    def __init__(self, to: WriteSettings, number: int) -> None:
        self._to, self._number = to, number
        self._file: File | None = None

    def __enter__(self) -> File | Nothing:
        if self._to.is_dry_run:
            return Nothing()
        temporary = self._to.directory.temporary(FileKind.TABLE, self._number)
        if self._to.fs.exists(temporary):
            self._to.fs.unlink(temporary)
        self._file = self._to.fs.create(temporary)
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is not None:
            self._to.fs.unlink(self._file.path)

    def name(self) -> None:
        """Sync the file and give it its name; the directory is the caller's to sync."""
        if self._file is None:
            return
        self._file.datasync()
        path = self._to.directory.file(FileKind.TABLE, self._number)
        self._to.fs.rename(self._file.path, path)

    def drop(self) -> None:
        """Give up an empty table."""
        if self._file is not None:
            self._to.fs.unlink(self._file.path)


def salvage_table(to: WriteSettings, finding: TableFinding, number: int) -> Salvage:
    """Write the entries of a damaged table's whole blocks as a new one (S1).

    Raises: StorageError.
    Cost:   a few µs an entry.
    """
    try:
        source = to.fs.open_read(finding.path)
    except StorageError:
        return Salvage(None, 0, (LostPart(0, 0, None, None),), None)
    try:
        scan = TableScan(source, finding.path)
        lost: list[LostPart] = []
        new = NewTable(to, number)
        with new as file:
            builder = TableBuilder(
                file,
                file_number=number,
                database_id=to.database_id,
                created_us=to.created_us,
                block_bytes=to.block_bytes,
                origin=TableOrigin(inputs=(finding.number,), is_repair=True),
            )
            _copy_blocks(scan, builder, lost)
            ranges = scan.ranges()
            for one in ranges or ():
                builder.add_range_tombstone(*one)
            count = builder.entries
            meta = None
            if count or ranges:
                meta = table_meta(builder.finish(), level=0)
                new.name()
            else:
                new.drop()
    finally:
        source.close()
    return Salvage(meta, count, tuple(lost), None if ranges is None else len(ranges))


def _copy_blocks(scan: TableScan, builder: TableBuilder, lost: list[LostPart]) -> None:
    if not scan.page_area:
        lost.append(LostPart(0, scan.file_bytes, None, None))
        return
    for block in scan.blocks():
        if isinstance(block, LostPart):
            lost.append(block)
            continue
        for entry in block.entries:
            try:
                builder.add(entry.key, entry.seq, entry.kind, entry.expires_us, entry.value)
            except Error as error:
                if isinstance(error, StorageError):
                    raise
                scan.faults.append(
                    CorruptionError(scan.path, entry.offset, "an entry in its place", str(error))
                )
                lost.append(LostPart(entry.offset, block.end, entry.key, None))
                break


def replay_records(
    to: WriteSettings,
    buffer: bytes,
    places: Sequence[RecordPlace],
    wal_number: int,
    numbers: Iterable[int],
) -> list[TableMeta]:
    """Write the operations of whole records as tables of level 0.

    Shape:  places, in the order of the file; numbers, new ones, as many as it takes.
    Raises: StorageError.
    Cost:   memory for a memtable beside the buffer.
    """
    supply = iter(numbers)
    found: list[TableMeta] = []
    todo = [place for place in places if place.count]
    while todo:
        size, upto = 1 << 20, 0
        for place in todo:
            size += 2 * (place.end - place.offset) + _OPERATION_BYTES * place.count
            upto += 1
            if size > _MEMTABLE_BYTES:
                break
        memtable = _fill(buffer, todo[:upto], size)
        taken = memtable[1]
        number = next(supply)
        meta = _flush(to, memtable[0], number, wal_number)
        if meta is not None:
            found.append(meta)
        todo = todo[taken:]
    return found


def _fill(buffer: bytes, places: Sequence[RecordPlace], size: int) -> tuple[MemtableWriter, int]:
    """Apply as many records as fit, at least one; return the memtable and their count."""
    while True:
        memtable = MemtableWriter(bytearray(size), 1, places[0].first_seq)
        taken = 0
        for place in places:
            if memtable.apply_records(buffer, place.offset, place.end) != place.end:
                break
            taken += 1
        if taken:
            memtable.link_all()
            return memtable, taken
        size *= 2


def _flush(
    to: WriteSettings, memtable: MemtableWriter, number: int, wal_number: int
) -> TableMeta | None:
    origin = TableOrigin(inputs=(wal_number,), is_repair=True)
    if not to.is_dry_run:
        return flush_memtable(
            memtable,
            to.fs,
            to.directory,
            file_number=number,
            database_id=to.database_id,
            created_us=to.created_us,
            gc_floor=0,
            block_bytes=to.block_bytes,
            origin=origin,
        )
    builder = TableBuilder(
        Nothing(), file_number=number, database_id=to.database_id, created_us=to.created_us
    )
    builder.build_from(memtable.source(all_versions=True))
    for one in memtable.range_tombstones():
        builder.add_range_tombstone(*one)
    return table_meta(builder.finish(), level=0)


def offsets_of(places: Iterable[RecordPlace]) -> array[int]:
    """Return the records' offsets as the kernel takes them."""
    return array("Q", [place.offset for place in places])
