"""Flush a frozen memtable: write it as one table of level 0.

F1  The table has its name only when every byte of it is synced, and the caller knows of it only
    when the name is synced too. A crash before leaves a temporary file or a table that no
    MANIFEST names; the next start removes either.
F2  Versions that no snapshot can see any more (shadowed at or below `gc_floor`, or covered by a
    range tombstone there) are left out; deletes stay, for older tables may hold the key.
F3  A flush changes nothing but its own file, so it may be given up and done again at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ferrisdb.engine.table_file import TableFile
from ferrisdb.errors import StorageError
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.kernel.properties import NO_ORIGIN, TableOrigin, TableProperties
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.tombstones import RangeTombstones
from ferrisdb.seams import File, FileSystem


class FlushInput(Protocol):
    """What a flush needs of a memtable (kernel.memtable.Memtable); its order must be complete."""

    def source(self, *, all_versions: bool) -> Source:
        """Return a source of its entries."""

    def range_tombstones(self) -> list[tuple[bytes, bytes, int]]:
        """Return its range tombstones as (start, end, sequence)."""


def flush_memtable(
    memtable: FlushInput,
    fs: FileSystem,
    directory: DIR,
    *,
    file_number: int,
    database_id: bytes,
    created_us: int,
    gc_floor: int,
    block_bytes: int,
    origin: TableOrigin = NO_ORIGIN,
    on_chunk: Callable[[], None] = lambda: None,
) -> TableMeta | None:
    """Write the table, sync it, name it, sync the name.

    Shape:   memtable, frozen and pinned by the caller; file_number, a new one; on_chunk is
             called for about every MiB written, before it is written, and may raise to give up.
    Returns: what the MANIFEST is to say of the table; None if the memtable is empty: no file.
    Raises:  StorageError (DiskFullError among them), or what on_chunk raises; no file is left
             then, except a temporary one that could not be removed.
    Durable: yes (F1).
    Cost:    one pass; memory for 1 MiB and 12 bytes for each key.
    """
    ranges = memtable.range_tombstones()
    temporary = directory.temporary(FileKind.TABLE, file_number)
    if fs.exists(temporary):
        fs.unlink(temporary)
    file = fs.create(temporary)
    try:
        builder = TableBuilder(
            TableFile(file, lambda _: on_chunk()),
            file_number=file_number,
            database_id=database_id,
            created_us=created_us,
            gc_floor=gc_floor,
            block_bytes=block_bytes,
            origin=origin,
        )
        added = builder.build_from(
            memtable.source(all_versions=True), tombstones=RangeTombstones(ranges)
        )
        for start, end, seq in ranges:
            builder.add_range_tombstone(start, end, seq)
        properties = builder.finish() if added or ranges else None
        if properties is not None:
            file.datasync()
    except BaseException:
        discard_file(fs, file, temporary)
        raise
    if properties is None:
        discard_file(fs, file, temporary)
        return None
    try:
        fs.rename(temporary, directory.file(FileKind.TABLE, file_number))
    except BaseException:
        discard_file(fs, file, temporary)
        raise
    file.close()
    fs.sync_dir(directory.path)
    return table_meta(properties, level=0, quarter_expires_us=builder.quarter_expires_us)


def table_meta(
    properties: TableProperties, *, level: int, quarter_expires_us: int | None = None
) -> TableMeta:
    """Return what the MANIFEST says of a table.

    Shape: quarter_expires_us, the builder's. None, where only the table is at hand: its first
           expiry stands for it, so that it is rewritten too early, once.
    """
    if quarter_expires_us is None:
        quarter_expires_us = properties.expires_us_min
    return TableMeta(
        level=level,
        number=properties.file_number,
        file_bytes=properties.file_bytes,
        entry_count=properties.entry_count,
        smallest=properties.smallest_key,
        # Says nothing where the table is unbounded, but must not come before the smallest.
        largest=max(properties.smallest_key, properties.largest_key),
        min_seq=properties.min_seq,
        max_seq=properties.max_seq,
        delete_count=properties.delete_count,
        range_delete_count=properties.fragment_count,
        expiring_count=properties.expiring_count,
        older_count=properties.entry_count - properties.key_count,
        quarter_expires_us=quarter_expires_us,
        unbounded=properties.unbounded,
    )


def discard_file(fs: FileSystem, file: File, temporary: str | None = None) -> None:
    """Close a file that is given up, and remove it by its name; never raises StorageError.

    The first error is the one to report, and what stays here the next start removes.
    """
    try:
        file.close()
        if temporary is not None:
            fs.unlink(temporary)
    except StorageError:
        pass
