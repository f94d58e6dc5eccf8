"""Keep the MANIFEST, the log of version edits, and CURRENT, which says which one is live.

Little-endian. Golden files: tests/golden/manifest.hex, tests/golden/current.hex.

MANIFEST: the common header (header.py), then from byte 64 records, 8-aligned:

| offset | width | field |
|---|---|---|
| 0 | 4 | CRC-32C of bytes 4 to the end, padding included; seed below |
| 4 | 4 | length of the payload, at least 1 |
| 8 |   | payload: an edit (edit.py), zeros to a multiple of 8 |

The seed is the CRC-32C of the record's offset in the file, as u64.

The first edit is a snapshot: everything up to then. CURRENT is one common header with the magic
`FDB_CUR\\0`, whose file number is the live MANIFEST's and whose first entry would be at 64.

M1  An edit is synced before the next is appended, and before anything it says is acted upon.
    So only the last record may be torn: a bad record with no valid one behind it is a torn
    tail and an *anomaly*; with a valid one behind it, or as the first, it is corruption.
M2  A MANIFEST is complete and synced, name included, before CURRENT names it.
M3  CURRENT is replaced by rename of a synced file; a CURRENT that is not whole is corruption.
M4  After an anomaly the MANIFEST is never appended to: a new one is written.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ferrisdb.errors import CorruptionError, DiskFullError
from ferrisdb.format.edit import VersionEdit, decode_edit, encode_edit
from ferrisdb.format.filenames import DIR, FileKind, check_number
from ferrisdb.format.header import (
    HEADER_BYTES,
    MAGIC_CURRENT,
    MAGIC_MANIFEST,
    decode_header,
    encode_header,
)
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.seams import Clock, File, FileSystem

EDIT_BYTES_MAX: Final = 1 << 28
_RECORD: Final = struct.Struct("<II")
_ADVICE: Final = "run `ferrisdb repair`, or restore a checkpoint"


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """One edit and where it stands."""

    offset: int
    total_bytes: int
    edit: VersionEdit


@dataclass(frozen=True, slots=True)
class ManifestState:
    """What CURRENT and the MANIFEST that it names say.

    `valid_end`: where the next record would go; `anomaly`: empty, or what was dropped behind it.
    """

    number: int
    path: str
    database_id: bytes
    created_us: int
    edits: tuple[VersionEdit, ...]
    valid_end: int
    anomaly: str


def encode_manifest_record(payload: bytes, offset: int) -> bytes:
    """Return a payload as the record for an offset in a MANIFEST."""
    if not 1 <= len(payload) <= EDIT_BYTES_MAX or offset % 8:
        raise ValueError("an edit has 1 to EDIT_BYTES_MAX bytes and an 8-aligned offset")
    body = struct.pack("<I", len(payload)) + payload + bytes(-len(payload) % 8)
    seed = crc32c(struct.pack("<Q", offset))
    return struct.pack("<I", crc32c(body, seed)) + body


def payload_at(buffer: bytes, offset: int) -> bytes | None:
    """Return the payload of a whole record at `offset` with a right checksum, else None."""
    if len(buffer) - offset < _RECORD.size:
        return None
    crc, size = _RECORD.unpack_from(buffer, offset)
    end = offset + _RECORD.size + size + -size % 8
    if not 1 <= size <= EDIT_BYTES_MAX or end > len(buffer):
        return None
    seed = crc32c(struct.pack("<Q", offset))
    if crc32c(memoryview(buffer)[offset + 4 : end], seed) != crc:
        return None
    return buffer[offset + _RECORD.size : offset + _RECORD.size + size]


def manifest_records(buffer: bytes, path: str) -> Iterator[ManifestRecord]:
    """Yield the valid records, up to the first bad one.

    Raises: CorruptionError, FormatTooNewError for an edit that can't be decoded.
    """
    offset = HEADER_BYTES
    while (payload := payload_at(buffer, offset)) is not None:
        total = _RECORD.size + len(payload) + -len(payload) % 8
        yield ManifestRecord(offset, total, decode_edit(payload, path, offset + _RECORD.size))
        offset += total


def records_past_damage(buffer: bytes, path: str) -> Iterator[ManifestRecord | CorruptionError]:
    """Yield every valid record, wherever it stands, and an error for each that can't be decoded.

    For tools: after damage the edits no longer add up.
    """
    offset = HEADER_BYTES
    while offset < len(buffer):
        payload = payload_at(buffer, offset)
        if payload is None:
            offset += 8
            continue
        total = _RECORD.size + len(payload) + -len(payload) % 8
        try:
            edit = decode_edit(payload, path, offset + _RECORD.size)
        except CorruptionError as error:
            yield error
        else:
            yield ManifestRecord(offset, total, edit)
        offset += total


def encode_current(number: int, database_id: bytes, created_us: int) -> bytes:
    """Return CURRENT's content: the MANIFEST of this number is live."""
    return encode_header(
        MAGIC_CURRENT,
        first_offset=HEADER_BYTES,
        created_us=created_us,
        file_number=number,
        database_id=database_id,
    )


def read_current(fs: FileSystem, directory: DIR) -> tuple[int, bytes]:
    """Return the live MANIFEST's number and the database id.

    Raises: StorageError (ENOENT: there is none), CorruptionError, FormatTooNewError.
    """
    path = directory.fixed(FileKind.CURRENT)
    buffer = fs.read_all(path)
    header = decode_header(buffer, MAGIC_CURRENT, path)
    if len(buffer) != HEADER_BYTES or header.first_offset != HEADER_BYTES:
        raise CorruptionError(path, HEADER_BYTES, "the end of the file", "more", _ADVICE)
    return check_number(header.file_number, path, 32), header.database_id


def read_manifest(fs: FileSystem, directory: DIR) -> ManifestState:
    """Read CURRENT and the MANIFEST that it names.

    Raises: CorruptionError by M1 to M3, FormatTooNewError, StorageError.
    """
    number, database_id = read_current(fs, directory)
    path = directory.file(FileKind.MANIFEST, number)
    if not fs.exists(path):
        raise CorruptionError(path, 0, "the MANIFEST that CURRENT names", "no file", _ADVICE)
    return decode_manifest(fs.read_all(path), path, number, database_id)


def decode_manifest(buffer: bytes, path: str, number: int, database_id: bytes) -> ManifestState:
    """Return what a whole MANIFEST says.

    Raises: CorruptionError by M1, FormatTooNewError.
    """
    header = decode_header(
        buffer, MAGIC_MANIFEST, path, file_number=number, database_id=database_id
    )
    if header.first_offset != HEADER_BYTES:
        raise CorruptionError(path, 20, f"a first record at {HEADER_BYTES}", header.first_offset)
    found = list(manifest_records(buffer, path))
    end = found[-1].offset + found[-1].total_bytes if found else HEADER_BYTES
    anomaly = ""
    if not found:
        raise CorruptionError(path, end, "a snapshot edit", "a damaged one", _ADVICE)
    if end < len(buffer):
        anomaly = f"{len(buffer) - end} bytes of a torn edit at byte {end} of {path}"
        for offset in range(end + 8, len(buffer), 8):
            if payload_at(buffer, offset) is not None:
                raise CorruptionError(path, end, "a whole edit", "a damaged one", _ADVICE)
    edits = tuple(record.edit for record in found)
    return ManifestState(number, path, database_id, header.created_us, edits, end, anomaly)


class ManifestWriter:
    """Append edits to the live MANIFEST; start a new one.

    Owner: the coordinator alone; not reentrant. After DiskFullError all is as it was before the
    call, and the writer in use. Any other failure poisons the file (seams F1): the coordinator
    stops and recovers.
    """

    def __init__(
        self, fs: FileSystem, directory: DIR, file: File, number: int, database_id: bytes
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._file = file
        self._number = number
        self._database_id = database_id

    @property
    def number(self) -> int:
        """Number of the live MANIFEST."""
        return self._number

    @property
    def database_id(self) -> bytes:
        return self._database_id

    def size(self) -> int:
        """Return the live MANIFEST's size in bytes, so that the caller can choose to rotate."""
        return self._file.size()

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        directory: DIR,
        *,
        number: int,
        database_id: bytes,
        snapshot: VersionEdit,
        clock: Clock,
    ) -> ManifestWriter:
        """Write a new MANIFEST that holds one snapshot edit, and make CURRENT name it.

        Raises:  DiskFullError: CURRENT names what it named before, and no file is left. Another
                 StorageError: CURRENT names that, or already the new file.
        Durable: yes (M2, M3). The predecessor's file is left to the caller.
        """
        created_us = clock.wall_us()
        file = fs.create(directory.file(FileKind.MANIFEST, number))
        try:
            header = encode_header(
                MAGIC_MANIFEST,
                first_offset=HEADER_BYTES,
                created_us=created_us,
                file_number=number,
                database_id=database_id,
            )
            file.append(header + encode_manifest_record(encode_edit(snapshot), HEADER_BYTES))
            file.datasync()
            fs.sync_dir(directory.path)
            _switch_current(fs, directory, encode_current(number, database_id, created_us))
        except BaseException as reason:
            file.close()
            if isinstance(reason, DiskFullError):
                fs.unlink(file.path)
            raise
        return cls(fs, directory, file, number, database_id)

    @classmethod
    def open(cls, fs: FileSystem, directory: DIR, state: ManifestState) -> ManifestWriter:
        """Go on with the MANIFEST that was read; only for one without an anomaly (M4)."""
        if state.anomaly:
            raise ValueError("a MANIFEST with an anomaly is never appended to")
        file = fs.open_rw(state.path)
        return cls(fs, directory, file, state.number, state.database_id)

    def append(self, edit: VersionEdit) -> None:
        """Add one edit.

        Raises:  DiskFullError: the edit is not there, and may be appended later. Another
                 StorageError: it may or may not be there after a restart; the writer is poisoned.
        Durable: yes, when it returns (M1).
        """
        end = self._file.size()
        try:
            self._file.append(encode_manifest_record(encode_edit(edit), end))
        except DiskFullError:
            self._cut(end)
            raise
        self._file.datasync()

    def _cut(self, end: int) -> None:
        # A part of an edit goes for good: no later edit may come behind it (M1).
        self._file.truncate(end)
        self._file.datasync()

    def rotate(self, *, number: int, snapshot: VersionEdit, clock: Clock) -> None:
        """Go over to a new MANIFEST, and remove the old one.

        Raises: DiskFullError: this MANIFEST is live as before. Another StorageError: this writer
                must not be used any more; the coordinator recovers.
        """
        new = ManifestWriter.create(
            self._fs,
            self._directory,
            number=number,
            database_id=self._database_id,
            snapshot=snapshot,
            clock=clock,
        )
        old_path = self._file.path
        self._file.close()
        self._file, self._number = new._file, number
        # The next start removes what can't be removed now.
        with contextlib.suppress(DiskFullError):
            self._fs.unlink(old_path)

    def close(self) -> None:
        self._file.close()


def _switch_current(fs: FileSystem, directory: DIR, content: bytes) -> None:
    temporary = directory.temporary(FileKind.CURRENT)
    # Left by a start that died here; the bytes in it were never named by anything.
    if fs.exists(temporary):
        fs.unlink(temporary)
    file = fs.create(temporary)
    try:
        file.append(content)
        file.datasync()
        fs.rename(temporary, directory.fixed(FileKind.CURRENT))
    except DiskFullError:
        fs.unlink(temporary)
        raise
    finally:
        file.close()
    fs.sync_dir(directory.path)
