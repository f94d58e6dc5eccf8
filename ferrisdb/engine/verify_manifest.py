"""Check CURRENT and the MANIFEST, as far as they can be read, and say what they mean.

Behind a damaged edit the rest is still read, for the tables that it names; but what the version
is can't be told any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ferrisdb.engine.report import Findings
from ferrisdb.engine.version import Version
from ferrisdb.errors import CorruptionError, FormatTooNewError, StorageError
from ferrisdb.format.edit import TableMeta, VersionEdit, decode_edit
from ferrisdb.format.filenames import DIR, FileKind, parse_name
from ferrisdb.format.header import HEADER_BYTES, MAGIC_MANIFEST, decode_header
from ferrisdb.format.manifest import payload_at, read_current
from ferrisdb.seams import FileSystem

_RECORD_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the MANIFEST says; `version` is None where that can't be told."""

    number: int = 0
    path: str = ""
    database_id: bytes | None = None
    version: Version | None = None
    #: What was ever said of a table, by number.
    metas: dict[int, TableMeta] = field(default_factory=dict)
    next_file_number: int = 0
    last_seq: int = 0
    log_number: int = 0
    generation: int = 0


def check_manifest(fs: FileSystem, directory: DIR, findings: Findings) -> Manifest:
    """Read CURRENT and the MANIFEST that it names, or the newest one if CURRENT is damaged.

    Raises: FormatTooNewError.
    """
    number, database_id = _read_current(fs, directory, findings)
    if not number:
        names = (parse_name(name) for name in fs.list_dir(directory.path))
        numbers = [name.number for name in names if name and name.kind is FileKind.MANIFEST]
        if not numbers:
            return Manifest()
        number = max(numbers)
    path = directory.file(FileKind.MANIFEST, number)
    start = Manifest(number=number, path=path, database_id=database_id)
    if not fs.exists(path):
        findings.error(path, 0, "the MANIFEST that CURRENT names", "no file")
        return start
    try:
        buffer = fs.read_all(path)
    except StorageError as error:
        findings.unreadable(path, error)
        return start
    findings.read(len(buffer))
    try:
        header = decode_header(
            buffer, MAGIC_MANIFEST, path, file_number=number, database_id=database_id
        )
        start = replace(start, database_id=header.database_id)
        if header.first_offset != HEADER_BYTES:
            findings.error(path, 20, f"a first record at {HEADER_BYTES}", header.first_offset)
    except CorruptionError as error:
        findings.corruption(error)
    edits, is_whole = _read_edits(buffer, path, findings)
    return _replay(start, edits, is_whole, findings)


def _read_current(fs: FileSystem, directory: DIR, findings: Findings) -> tuple[int, bytes | None]:
    path = directory.fixed(FileKind.CURRENT)
    try:
        number, database_id = read_current(fs, directory)
    except CorruptionError as error:
        findings.corruption(error)
    except FormatTooNewError:
        raise
    except StorageError as error:
        findings.unreadable(path, error)
    else:
        findings.read(HEADER_BYTES)
        return number, database_id
    return 0, None


def _read_edits(
    buffer: bytes, path: str, findings: Findings
) -> tuple[list[tuple[int, VersionEdit]], bool]:
    """Return the edits that can be read, with their offsets, and whether none is missing."""
    edits: list[tuple[int, VersionEdit]] = []
    is_whole = True
    offset = HEADER_BYTES
    while offset < len(buffer):
        payload = payload_at(buffer, offset)
        if payload is None:
            behind = range(offset + 8, len(buffer), 8)
            found = next((at for at in behind if payload_at(buffer, at) is not None), None)
            if found is None:
                break
            findings.error(path, offset, "a whole edit", "a damaged one")
            is_whole, offset = False, found
            continue
        try:
            edits.append((offset, decode_edit(payload, path, offset + _RECORD_HEADER_BYTES)))
        except CorruptionError as error:
            findings.corruption(error)
            is_whole = False
        offset += _RECORD_HEADER_BYTES + len(payload) + -len(payload) % 8
    if not edits:
        findings.error(path, HEADER_BYTES, "a snapshot edit", "a damaged one")
        return edits, False
    if offset < len(buffer):
        # A power cut leaves that. Where it is damage, files of which the edit told give it away.
        findings.note(path, offset, "the end of the file", "a torn edit")
    return edits, is_whole


def _replay(
    start: Manifest, edits: list[tuple[int, VersionEdit]], is_whole: bool, findings: Findings
) -> Manifest:
    version: Version | None = Version() if is_whole else None
    metas: dict[int, TableMeta] = {}
    path, database_id = start.path, start.database_id
    numbers = dict.fromkeys(("next_file_number", "last_seq", "log_number", "generation"), 0)
    for index, (offset, edit) in enumerate(edits):
        if edit.database_id is not None:
            database_id = database_id or edit.database_id
            if edit.database_id != database_id:
                findings.error(path, offset, database_id.hex(), edit.database_id.hex())
        elif index == 0 and is_whole:
            findings.error(path, offset, "a snapshot edit with a database id", "none")
        for name, before in numbers.items():
            found = getattr(edit, name)
            # A torn tail takes back sequences that an edit has told already.
            if found is not None and found < before and name != "last_seq":
                findings.error(path, offset, f"{name} of at least {before}", found)
            numbers[name] = max(before, found or 0)
        metas |= {table.number: table for table in edit.added}
        if version is not None:
            try:
                version = version.apply(edit, path, offset)
            except CorruptionError as error:
                findings.corruption(error)
                version = None
    if numbers["log_number"] >= numbers["next_file_number"]:
        findings.error(
            path, 0, f"a log number below {numbers['next_file_number']}", numbers["log_number"]
        )
    return Manifest(start.number, path, database_id, version, metas, **numbers)
