"""Build a checkpoint: a directory that holds a pinned version as a database of its own.

H1  Tables are linked: a table never changes, so a second name of it is a copy. On another file
    system, or where the file system refuses another link, it is copied and synced.
H2  Memtables are written as tables of level 0 up to the checkpoint's sequence, under their own
    numbers, which no table has. So a checkpoint holds no WAL file: nothing of what clients can
    still ask for goes with it, a WAL file that is recycled meanwhile is no matter, and a start
    on it replays nothing (docs/adr/0005-checkpoints-flush-memtables.md).
H3  The MANIFEST is written anew, under a new database id: the checkpoint's segments and requests
    are never those of the database that it was made of. Tables keep the id of the database that
    wrote them; a table belongs to the directory whose MANIFEST names it by number and size.
H4  CURRENT comes last, and everything is synced, names included, when `build_checkpoint` returns.

Owner: any process that holds a pin of the version until this has returned, and verifies it then.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ferrisdb.engine.flush import flush_memtable, table_meta
from ferrisdb.engine.version import Version
from ferrisdb.errors import StorageError
from ferrisdb.format.edit import TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.format.header import DATABASE_ID_BYTES
from ferrisdb.format.manifest import ManifestWriter
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.properties import TableProperties
from ferrisdb.kernel.source import Source
from ferrisdb.seams import Clock, File, FileSystem, Rng

COPY_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 4096
#: What link(2) says where a copy is to be made instead: another file system, one without links,
#: a table with as many links as its file system allows, a user who may not link the file.
_COPY_INSTEAD: Final = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}
)


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """What a checkpoint is made of: a version, as far as one sequence.

    Shape: memtables, newest first, their order complete up to `seq`; tables, (level, properties).
    """

    directory: DIR
    seq: int
    memtables: Sequence[Memtable]
    tables: Sequence[tuple[int, TableProperties]]


def build_checkpoint(
    fs: FileSystem,
    pinned: PinnedVersion,
    path: str,
    *,
    clock: Clock,
    rng: Rng,
    on_chunk: Callable[[], None] = lambda: None,
) -> None:
    """Make `path` a database that holds what the pinned version shows at its sequence.

    Shape:   path, a directory without database files; on_chunk is called before each MiB is
             written and before each table is linked, and may raise to give up.
    Raises:  StorageError (DiskFullError; ENOENT: a table is gone, the pin does not hold any
             more), or what on_chunk raises. Then what is in `path` is to be thrown away.
    Durable: yes, but for the name `path` in its parent (H4).
    Cost:    one link for each table; writes what the memtables hold.
    """
    directory = DIR(path)
    # Links first: the sooner a table has its second name, the less hangs on the pin.
    tables = [_take_table(fs, pinned, directory, one, on_chunk) for one in pinned.tables]
    database_id = rng.bytes(DATABASE_ID_BYTES)
    for memtable in reversed(pinned.memtables):
        made = flush_memtable(
            _UpTo(memtable, pinned.seq),
            fs,
            directory,
            file_number=memtable.number,
            database_id=database_id,
            created_us=clock.wall_us(),
            gc_floor=pinned.seq,
            block_bytes=BLOCK_BYTES,
            on_chunk=on_chunk,
        )
        if made is not None:
            tables.append(made)
    numbers = [0, *(table.number for table in tables), *(m.number for m in pinned.memtables)]
    manifest_number = max(numbers) + 1
    # Levels that overlap, or a number twice, would be found at the next start: rather now.
    version = Version().apply(VersionEdit(added=tuple(tables)), path)
    snapshot = VersionEdit(
        database_id=database_id,
        next_file_number=manifest_number + 1,
        last_seq=pinned.seq,
        log_number=0,
        generation=0,
        added=version.tables(),
    )
    on_chunk()
    ManifestWriter.create(
        fs,
        directory,
        number=manifest_number,
        database_id=database_id,
        snapshot=snapshot,
        clock=clock,
    ).close()


class _UpTo:
    """A memtable as it was at a sequence (engine.flush.FlushInput)."""

    __slots__ = ("_memtable", "_seq")

    def __init__(self, memtable: Memtable, seq: int) -> None:
        self._memtable = memtable
        self._seq = seq

    def source(self, *, all_versions: bool) -> Source:
        return self._memtable.source(self._seq, all_versions=all_versions)

    def range_tombstones(self) -> list[tuple[bytes, bytes, int]]:
        return [one for one in self._memtable.range_tombstones() if one[2] <= self._seq]


def _take_table(
    fs: FileSystem,
    pinned: PinnedVersion,
    directory: DIR,
    table: tuple[int, TableProperties],
    on_chunk: Callable[[], None],
) -> TableMeta:
    level, properties = table
    on_chunk()
    source = pinned.directory.file(FileKind.TABLE, properties.file_number)
    target = directory.file(FileKind.TABLE, properties.file_number)
    try:
        fs.link(source, target)
    except StorageError as error:
        if error.errno not in _COPY_INSTEAD:
            raise
        _copy(fs, source, target, properties.file_bytes, on_chunk)
    return table_meta(properties, level=level)


def _copy(
    fs: FileSystem, source: str, target: str, file_bytes: int, on_chunk: Callable[[], None]
) -> None:
    reader: File = fs.open_read(source)
    try:
        writer = fs.create(target)
        try:
            at = 0
            while at < file_bytes:
                chunk = reader.pread(min(COPY_BYTES, file_bytes - at), at)
                if not chunk:
                    raise StorageError(errno.EIO, "the table is shorter than it says", source)
                on_chunk()
                writer.append(chunk)
                at += len(chunk)
            writer.datasync()
        finally:
            writer.close()
    finally:
        reader.close()
