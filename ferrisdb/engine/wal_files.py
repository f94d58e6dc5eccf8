"""Make WAL files ready ahead of their use, recycle old ones, and put one to use.

L1  A file gets its name once header, extension and every byte of its capacity are synced; its
    name is synced before it takes a record.
L2  A file takes its opening record (format/wal.py, W2) once its predecessor is synced to its
    last byte. `activate` writes it without a sync: the first group's sync covers it, and until
    then the file reads as empty, which it is.
L3  Only a file below the MANIFEST's log_number, by a synced edit, is recycled.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrisdb.errors import UsageError
from ferrisdb.format import wal
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.seams import Clock, File, FileSystem, Rng


@dataclass(frozen=True, slots=True)
class WalOwner:
    """What every WAL file of one coordinator says alike."""

    database_id: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class OpenWal:
    """The WAL file that takes records.

    The commit loop writes whole records from `append_offset` on, through `file.fileno()`, never
    beyond `capacity`; it syncs through `file.datasync()`.
    """

    file: File
    number: int
    salt: int
    append_offset: int
    capacity: int


def prepare_wal(
    fs: FileSystem,
    directory: DIR,
    *,
    number: int,
    file_bytes: int,
    owner: WalOwner,
    base_seq: int,
    clock: Clock,
    rng: Rng,
) -> None:
    """Create a zero-filled WAL file under its name, without records.

    Shape:   number, a new one; base_seq, any sequence number not above the first it will take.
    Raises:  StorageError (DiskFullError among them): there is no such file, and a later call
             with the same number may succeed. Only where the directory's sync failed is the file
             there; then, as after any failed sync, the coordinator recovers.
    Durable: yes (L1).
    Cost:    writes file_bytes; for the compactor, not for the commit thread.
    """
    temporary = directory.temporary(FileKind.WAL, number)
    file = fs.create(temporary)
    try:
        file.append(_new_header(number, owner, base_seq, clock, rng))
        file.allocate_zeroed(file_bytes)
        fs.rename(temporary, directory.file(FileKind.WAL, number))
    except BaseException:
        fs.unlink(temporary)
        raise
    finally:
        file.close()
    fs.sync_dir(directory.path)


def recycle_wal(
    fs: FileSystem,
    directory: DIR,
    *,
    old_number: int,
    number: int,
    owner: WalOwner,
    base_seq: int,
    clock: Clock,
    rng: Rng,
) -> None:
    """Turn an old WAL file (L3) into a new one without records: what `prepare_wal` does, cheaper.

    Raises:  StorageError: both files are gone, or, where the directory's sync failed, the new one
             is there and the coordinator recovers.
    Durable: yes (L1). The new salt makes the old records unreadable.
    """
    temporary = directory.temporary(FileKind.WAL, number)
    fs.rename(directory.file(FileKind.WAL, old_number), temporary)
    file = fs.open_rw(temporary)
    try:
        file.pwrite(_new_header(number, owner, base_seq, clock, rng, recycled=True), 0)
        file.datasync()
        fs.rename(temporary, directory.file(FileKind.WAL, number))
    except BaseException:
        fs.unlink(temporary)
        raise
    finally:
        file.close()
    fs.sync_dir(directory.path)


def activate(
    fs: FileSystem,
    directory: DIR,
    *,
    number: int,
    owner: WalOwner,
    opening: wal.Opening,
) -> OpenWal:
    """Open a prepared file and write its opening record.

    Shape:   opening names the predecessor and its end, which the caller has synced (L2).
    Raises:  StorageError; CorruptionError where the prepared file is not what was prepared.
    Owner:   the coordinator.
    Durable: no; the sync of the first group makes it so.
    """
    path = directory.file(FileKind.WAL, number)
    file = fs.open_rw(path)
    try:
        header = wal.decode_file_header(
            file.pread(wal.FIRST_RECORD_OFFSET, 0),
            path,
            file_number=number,
            database_id=owner.database_id,
        )
        if header.generation != owner.generation or opening.next_seq < header.base_seq:
            raise UsageError(f"{path} was prepared by another coordinator, or for later records")
        file.pwrite(wal.encode_opening(opening, header.salt), wal.FIRST_RECORD_OFFSET)
    except BaseException:
        file.close()
        raise
    return OpenWal(
        file=file,
        number=number,
        salt=header.salt,
        append_offset=wal.FIRST_RECORD_OFFSET + wal.OPENING_RECORD_BYTES,
        capacity=file.size(),
    )


def _new_header(
    number: int,
    owner: WalOwner,
    base_seq: int,
    clock: Clock,
    rng: Rng,
    *,
    recycled: bool = False,
) -> bytes:
    return wal.encode_file_header(
        file_number=number,
        database_id=owner.database_id,
        created_us=clock.wall_us(),
        salt=rng.u64(),
        base_seq=base_seq,
        generation=owner.generation,
        recycled=recycled,
    )
