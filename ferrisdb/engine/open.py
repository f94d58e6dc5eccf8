"""Create a database directory, and find out what one holds before its logs are replayed.

O1  A directory without CURRENT is a new one only if it holds nothing but what an interrupted
    creation leaves. Foreign files: not a database, and nothing is touched. Tables or WAL files
    without CURRENT: a damaged database, and nothing is touched.
O2  Files that neither the MANIFEST nor the rules need are removed; if the MANIFEST had an anomaly
    they are moved to `lost` instead, for the edit that named them may be the one that is gone.
O3  A WAL file of a generation above the MANIFEST's was written by a recovery that did not live
    to log its edit. It holds copies only and is removed.
O4  A predecessor that was killed may have left an edit, or CURRENT's new name, unsynced: what was
    read is made durable before anything is removed on its word.
O5  next_file_number is above every number seen in the directory, so numbers are never reused.

Owner: the coordinator, under LOCK.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass

from ferrisdb.engine.version import Version
from ferrisdb.errors import CorruptionError, NotADatabaseError
from ferrisdb.format import wal
from ferrisdb.format.edit import Outcome, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind, FileName, parse_name
from ferrisdb.format.header import DATABASE_ID_BYTES
from ferrisdb.format.manifest import ManifestState, ManifestWriter, read_manifest
from ferrisdb.seams import Clock, FileSystem, Rng

FIRST_MANIFEST_NUMBER = 1
_ADVICE = "run `ferrisdb repair`, or restore a checkpoint"
_NUMBERED = (FileKind.MANIFEST, FileKind.WAL, FileKind.TABLE)


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What the MANIFEST and the directory say; the logs are not yet read."""

    directory: DIR
    manifest: ManifestState
    version: Version
    database_id: bytes
    next_file_number: int
    last_seq: int
    log_number: int
    generation: int
    outcomes: tuple[Outcome, ...]
    wal_numbers: tuple[int, ...]
    moved_aside: tuple[str, ...]


def create_database(fs: FileSystem, path: str, clock: Clock, rng: Rng) -> None:
    """Make `path` an empty database, unless it is a database already.

    Shape:   path does not exist (its parent does), is empty, or is what an interrupted creation
             left.
    Raises:  NotADatabaseError, CorruptionError (O1), nothing touched; StorageError.
    Durable: yes.
    """
    directory = DIR(path)
    if not fs.exists(path):
        fs.mkdir(path)
    # Also for a directory that is there: the caller may have made it for its LOCK.
    fs.sync_dir(os.path.dirname(os.path.abspath(path)))
    if is_database(fs, path):
        return
    leftover = directory.file(FileKind.MANIFEST, FIRST_MANIFEST_NUMBER)
    if fs.exists(leftover):
        fs.unlink(leftover)
    database_id = rng.bytes(DATABASE_ID_BYTES)
    snapshot = VersionEdit(
        database_id=database_id,
        next_file_number=FIRST_MANIFEST_NUMBER + 1,
        last_seq=0,
        log_number=0,
        generation=0,
    )
    ManifestWriter.create(
        fs,
        directory,
        number=FIRST_MANIFEST_NUMBER,
        database_id=database_id,
        snapshot=snapshot,
        clock=clock,
    ).close()


def is_database(fs: FileSystem, path: str) -> bool:
    """Tell whether the directory holds a database; False: one may be created here (O1).

    Raises: NotADatabaseError, CorruptionError, StorageError.
    """
    names = fs.list_dir(path)
    if "CURRENT" in names:
        return True
    for name in names:
        found = parse_name(name)
        if found is None:
            raise NotADatabaseError(
                f"{path} holds {name!r} and no FerrisDB database: choose an empty directory"
            )
        if found.kind in _NUMBERED and name != "MANIFEST-000001":
            raise CorruptionError(
                DIR(path).fixed(FileKind.CURRENT),
                0,
                "a file that names the MANIFEST",
                f"none, beside {name}",
                _ADVICE,
            )
    return False


def open_state(fs: FileSystem, path: str) -> DatabaseState:
    """Read CURRENT and the MANIFEST, and clear the directory of what nothing needs (O2, O3).

    Raises: NotADatabaseError; FormatTooNewError; CorruptionError, also for a table or a WAL file
            that is needed and missing; StorageError.
    """
    directory = DIR(path)
    if not fs.exists(path) or not is_database(fs, path):
        raise NotADatabaseError(f"there is no FerrisDB database in {path}")
    manifest = read_manifest(fs, directory)
    state = replay_edits(directory, manifest)
    _check_tables(fs, state)
    names = {name: found for name in fs.list_dir(path) if (found := parse_name(name)) is not None}
    lost = directory.fixed(FileKind.LOST)
    aside = (
        [found for name in fs.list_dir(lost) if (found := parse_name(name))]
        if (fs.exists(lost))
        else []
    )
    numbers = [found.number for found in (*names.values(), *aside)]
    plan = _classify(fs, state, names)
    # Every reason to refuse comes before the first removal.
    if state.log_number and state.log_number not in plan.wal_numbers:
        wal_path = directory.file(FileKind.WAL, state.log_number)
        raise CorruptionError(wal_path, 0, "the oldest WAL file still needed", "no file", _ADVICE)
    for name in plan.copies:
        _check_copy(fs, state, name)
    _secure(fs, state)
    moved = _clear(fs, state, plan)
    return DatabaseState(
        directory=directory,
        manifest=manifest,
        version=state.version,
        database_id=state.database_id,
        next_file_number=max(state.next_file_number, *(number + 1 for number in numbers)),
        last_seq=state.last_seq,
        log_number=state.log_number,
        generation=state.generation,
        outcomes=state.outcomes,
        wal_numbers=plan.wal_numbers,
        moved_aside=moved,
    )


def replay_edits(directory: DIR, manifest: ManifestState) -> DatabaseState:
    """Return what the edits of a MANIFEST lead to; the directory is not looked at.

    Raises: CorruptionError where they contradict each other.
    """
    version = Version()
    next_file_number = last_seq = log_number = generation = 0
    outcomes: tuple[Outcome, ...] = ()
    for edit in manifest.edits:
        if edit.database_id is not None and edit.database_id != manifest.database_id:
            raise CorruptionError(
                manifest.path, 64, manifest.database_id.hex(), edit.database_id.hex()
            )
        version = version.apply(edit, manifest.path, manifest.valid_end)
        next_file_number = max(next_file_number, edit.next_file_number or 0)
        last_seq = max(last_seq, edit.last_seq or 0)
        log_number = max(log_number, edit.log_number or 0)
        generation = max(generation, edit.generation or 0)
        if edit.outcomes is not None:
            outcomes = edit.outcomes
    return DatabaseState(
        directory=directory,
        manifest=manifest,
        version=version,
        database_id=manifest.database_id,
        next_file_number=next_file_number,
        last_seq=last_seq,
        log_number=log_number,
        generation=generation,
        outcomes=outcomes,
        wal_numbers=(),
        moved_aside=(),
    )


def _check_tables(fs: FileSystem, state: DatabaseState) -> None:
    # A missing table is told now, by name, and not at the first read that needs it.
    for table in state.version.tables():
        path = state.directory.file(FileKind.TABLE, table.number)
        found = fs.size(path) if fs.exists(path) else None
        if found != table.file_bytes:
            raise CorruptionError(
                path,
                0 if found is None else min(found, table.file_bytes),
                f"{table.file_bytes} bytes",
                "no file" if found is None else f"{found} bytes",
                _ADVICE,
            )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to happen to the files of a directory, by name."""

    wal_numbers: tuple[int, ...]
    orphans: tuple[str, ...]
    copies: tuple[str, ...]
    temporary: tuple[str, ...]


def _classify(fs: FileSystem, state: DatabaseState, names: dict[str, FileName]) -> _Plan:
    tables = state.version.numbers()
    wal_numbers: list[int] = []
    orphans: list[str] = []
    copies: list[str] = []
    temporary: list[str] = []
    for name, found in sorted(names.items()):
        match found.kind:
            case FileKind.TEMPORARY:
                temporary.append(name)
            case FileKind.TABLE if found.number not in tables:
                orphans.append(name)
            case FileKind.MANIFEST if found.number != state.manifest.number:
                orphans.append(name)
            case FileKind.WAL if found.number < state.log_number:
                orphans.append(name)
            case FileKind.WAL:
                path = state.directory.named(name)
                header = _wal_header(fs, state, path, found.number)
                if header.generation > state.generation:
                    copies.append(name)
                else:
                    wal_numbers.append(found.number)
    return _Plan(tuple(sorted(wal_numbers)), tuple(orphans), tuple(copies), tuple(temporary))


def _wal_header(fs: FileSystem, state: DatabaseState, path: str, number: int) -> wal.WalFile:
    file = fs.open_read(path)
    try:
        buffer = file.pread(wal.FIRST_RECORD_OFFSET, 0)
    finally:
        file.close()
    return wal.decode_file_header(buffer, path, file_number=number, database_id=state.database_id)


def _check_copy(fs: FileSystem, state: DatabaseState, name: str) -> None:
    # A file with records that its recovery did not put there took commits: so the edit that is
    # not in the MANIFEST was acted upon, and what reads as a torn tail there is damage.
    path = state.directory.named(name)
    buffer = fs.read_all(path)
    header = wal.decode_file_header(buffer, path, database_id=state.database_id)
    found = wal.scan_file(buffer, header, path)
    if found.valid_end > max(header.synced_end, wal.FIRST_RECORD_OFFSET + wal.OPENING_RECORD_BYTES):
        raise CorruptionError(
            state.manifest.path,
            state.manifest.valid_end,
            f"the edit of generation {header.generation}, of which {name} has commits",
            state.manifest.anomaly or "the end of the file",
            _ADVICE,
        )


def _secure(fs: FileSystem, state: DatabaseState) -> None:
    # O4.
    file = fs.open_rw(state.manifest.path)
    try:
        file.datasync()
    finally:
        file.close()
    fs.sync_dir(state.directory.path)


def _clear(fs: FileSystem, state: DatabaseState, plan: _Plan) -> tuple[str, ...]:
    for name in plan.temporary:
        fs.unlink(state.directory.named(name))
    unneeded = plan.orphans + plan.copies
    if not state.manifest.anomaly:
        for name in unneeded:
            fs.unlink(state.directory.named(name))
        return ()
    for name in unneeded:
        _move_aside(fs, state.directory, name)
    return unneeded


def _move_aside(fs: FileSystem, directory: DIR, name: str) -> None:
    lost = directory.fixed(FileKind.LOST)
    if not fs.exists(lost):
        fs.mkdir(lost)
    fs.rename(directory.named(name), f"{lost}/{name}")
