"""Look at every file of a damaged directory, and say what each is good for. Reads only.

Nothing here decides anything: a file that can't be read is a finding, never an exception.

Owner: under LOCK.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ferrisdb.engine.flush import table_meta
from ferrisdb.engine.open import DatabaseState, replay_edits
from ferrisdb.engine.tablescan import TableScan
from ferrisdb.engine.walwalk import WalWalk, walk_records
from ferrisdb.errors import CorruptionError, Error, FormatTooNewError, StorageError
from ferrisdb.format import wal
from ferrisdb.format.edit import TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind, parse_name
from ferrisdb.format.header import MAGIC_MANIFEST, decode_header
from ferrisdb.format.manifest import decode_manifest, read_current, records_past_damage
from ferrisdb.format.sstable import TableProperties
from ferrisdb.kernel.table import Table
from ferrisdb.seams import FileSystem


@dataclass(slots=True)
class TableFinding:
    """One table file; `error` is None exactly if every byte of it verifies."""

    number: int
    name: str
    path: str
    error: Error | None = None
    properties: TableProperties | None = None
    #: As for level 0; None where the properties can't be read.
    meta: TableMeta | None = None


@dataclass(slots=True)
class WalFinding:
    """One WAL file; without a header nothing in it can be told from damage."""

    number: int
    name: str
    path: str
    error: Error | None = None
    header: wal.WalFile | None = None


@dataclass(slots=True)
class ManifestFinding:
    """One MANIFEST: `state` if its edits add up, and every edit that is whole in any case."""

    number: int
    name: str
    path: str
    error: Error | None = None
    state: DatabaseState | None = None
    edits: list[VersionEdit] = field(default_factory=list)
    database_id: bytes | None = None


@dataclass(slots=True)
class Survey:
    """What a directory holds."""

    directory: DIR
    tables: dict[int, TableFinding] = field(default_factory=dict)
    wals: dict[int, WalFinding] = field(default_factory=dict)
    manifests: dict[int, ManifestFinding] = field(default_factory=dict)
    current_number: int = 0
    current_error: Error | None = None
    database_id: bytes | None = None
    #: Highest number of any file, here, in `lost` and in `quarantine`.
    number_max: int = 0

    def present(self) -> frozenset[int]:
        """Return the numbers of the tables and WAL files that are there, readable or not."""
        return frozenset(self.tables) | frozenset(self.wals)


def open_table(fs: FileSystem, path: str, number: int) -> Table:
    """Open a table for reading, through the seam."""
    file = fs.open_read(path)
    try:
        return Table(file.fileno(), path=path, file_number=number)
    finally:
        file.close()


def survey_directory(fs: FileSystem, path: str) -> Survey:
    """Read everything, checksums and all.

    Raises: StorageError for the directory itself; FormatTooNewError: nothing is damaged.
    Cost:   reads every file once.
    """
    directory = DIR(path)
    found = Survey(directory)
    for name in fs.list_dir(path):
        parsed = parse_name(name)
        if parsed is None:
            continue
        found.number_max = max(found.number_max, parsed.number)
        at = directory.named(name)
        if parsed.kind is FileKind.TABLE:
            found.tables[parsed.number] = _table(fs, parsed.number, name, at)
        elif parsed.kind is FileKind.WAL:
            found.wals[parsed.number] = _wal(fs, parsed.number, name, at)
        elif parsed.kind is FileKind.MANIFEST:
            found.manifests[parsed.number] = _manifest(fs, directory, parsed.number, name, at)
    for kind in (FileKind.LOST, FileKind.QUARANTINE):
        folder = directory.fixed(kind)
        for name in fs.list_dir(folder) if fs.exists(folder) else ():
            parsed = parse_name(name.partition("~")[0])
            found.number_max = max(found.number_max, parsed.number if parsed else 0)
    try:
        found.current_number, found.database_id = read_current(fs, directory)
    except (CorruptionError, StorageError) as error:
        if isinstance(error, FormatTooNewError):
            raise
        found.current_error = error
    if found.database_id is None:
        found.database_id = _database_id(found)
    _set_foreign_apart(found)
    return found


def _database_id(found: Survey) -> bytes | None:
    """Return the id that the newest MANIFEST or else the newest WAL file has.

    A table says nothing: a checkpoint's tables keep the id of the database it was made of.
    """
    for number in sorted(found.manifests, reverse=True):
        database_id = found.manifests[number].database_id
        if database_id is not None:
            return database_id
    logs = [one.header for one in found.wals.values() if one.header is not None]
    newest = max(logs, key=lambda one: (one.generation, one.number), default=None)
    return None if newest is None else newest.header.database_id


def _set_foreign_apart(found: Survey) -> None:
    for one in found.wals.values():
        if one.header and one.header.header.database_id != found.database_id:
            one.error, one.header = _foreign(one.path, one.header.header.database_id), None
    for manifest in found.manifests.values():
        if manifest.database_id and manifest.database_id != found.database_id:
            manifest.error = _foreign(manifest.path, manifest.database_id)
            manifest.state, manifest.edits = None, []


def _foreign(path: str, database_id: bytes) -> CorruptionError:
    return CorruptionError(path, 40, "this database's id", database_id.hex())


def _table(fs: FileSystem, number: int, name: str, path: str) -> TableFinding:
    finding = TableFinding(number, name, path)
    try:
        table = open_table(fs, path, number)
        try:
            finding.properties = table.properties
            table.verify()
        finally:
            table.close()
    except FormatTooNewError:
        raise
    except Error as error:
        finding.error = error
        if finding.properties is None:
            finding.properties = _properties_alone(fs, path, number)
    if finding.properties is not None:
        finding.meta = table_meta(finding.properties, level=0)
    return finding


def _properties_alone(fs: FileSystem, path: str, number: int) -> TableProperties | None:
    # The header or the range tombstones may be what is damaged.
    try:
        file = fs.open_read(path)
    except StorageError:
        return None
    try:
        properties = TableScan(file, path).properties
    except Error:
        return None
    finally:
        file.close()
    return properties if properties is not None and properties.file_number == number else None


def _wal(fs: FileSystem, number: int, name: str, path: str) -> WalFinding:
    finding = WalFinding(number, name, path)
    try:
        file = fs.open_read(path)
        try:
            head = file.pread(wal.FIRST_RECORD_OFFSET, 0)
        finally:
            file.close()
        finding.header = wal.decode_file_header(head, path, file_number=number)
    except FormatTooNewError:
        raise
    except Error as error:
        finding.error = error
    return finding


def read_wal(fs: FileSystem, finding: WalFinding) -> tuple[bytes, WalWalk]:
    """Return a WAL file's bytes and its whole records; the header is known to be whole."""
    if finding.header is None:
        raise ValueError("a WAL file without a header has no records")
    buffer = fs.read_all(finding.path)
    return buffer, walk_records(buffer, finding.header)


def _manifest(fs: FileSystem, directory: DIR, number: int, name: str, path: str) -> ManifestFinding:
    finding = ManifestFinding(number, name, path)
    try:
        buffer = fs.read_all(path)
        for one in records_past_damage(buffer, path):
            if isinstance(one, CorruptionError):
                finding.error = one
            else:
                finding.edits.append(one.edit)
        header = decode_header(buffer, MAGIC_MANIFEST, path, file_number=number)
        finding.database_id = header.database_id
        state = decode_manifest(buffer, path, number, header.database_id)
        finding.state = replay_edits(directory, state)
    except FormatTooNewError:
        raise
    except Error as error:
        finding.error = error
    if finding.state is not None and finding.error is not None:
        finding.state = None
    ids = [edit.database_id for edit in finding.edits if edit.database_id is not None]
    if finding.database_id is None and ids:
        finding.database_id = ids[0]
    return finding


def as_found(meta: TableMeta, finding: TableFinding) -> bool:
    """Tell whether a table is the one that an edit means."""
    return finding.meta is not None and replace(finding.meta, level=meta.level) == meta
