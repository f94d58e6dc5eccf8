"""Read and write the 64 bytes that every file begins with.

Little-endian. Golden files: tests/golden/*.hex.

| offset | width | field |
|---|---|---|
| 0  | 8  | magic: says which kind of file this is |
| 8  | 2  | version, 0x0200 (major 2: checksums are CRC-32C); a reader refuses a newer one |
| 10 | 2  | flags, 0 |
| 12 | 4  | header size, 64 |
| 16 | 4  | CRC-32C of bytes 0-15 and 20-63 |
| 20 | 4  | offset of the file's first entry, at least 64 |
| 24 | 8  | created, µs since the epoch |
| 32 | 8  | file number |
| 40 | 16 | database id; of a table: of the database that wrote it (docs/formats.md) |
| 56 | 8  | reserved, 0 |

A wrong magic is told first (it is another kind of file), then a wrong checksum, and only then,
on bytes known to be whole, a newer version: so a flipped bit never reads as "upgrade FerrisDB".
A header is synced before anything refers to its file, so a short one is corruption, never a
torn tail.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ferrisdb.errors import CorruptionError, FormatTooNewError
from ferrisdb.kernel.checksum import crc32c

HEADER_BYTES: Final = 64
DATABASE_ID_BYTES: Final = 16
VERSION: Final = 0x0200

MAGIC_WAL: Final = b"FDB_WAL\0"
MAGIC_TABLE: Final = b"FDB_SST\0"
MAGIC_MANIFEST: Final = b"FDB_MAN\0"
MAGIC_CURRENT: Final = b"FDB_CUR\0"

_STRUCT: Final = struct.Struct("<8sHHIIIQQ16s8x")
if _STRUCT.size != HEADER_BYTES:
    raise ImportError("the header's layout is not 64 bytes")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    magic: bytes
    version: int
    first_offset: int
    created_us: int
    file_number: int
    database_id: bytes


def _checksum(header: bytes) -> int:
    return crc32c(header[20:HEADER_BYTES], crc32c(header[:16]))


def encode_header(
    magic: bytes, *, first_offset: int, created_us: int, file_number: int, database_id: bytes
) -> bytes:
    """Return the 64 bytes for a new file.

    Shape: magic, 8 bytes; database_id, 16 bytes; first_offset, at least 64.
    """
    if len(magic) != 8 or len(database_id) != DATABASE_ID_BYTES or first_offset < HEADER_BYTES:
        raise ValueError("a header's field has the wrong size")
    flags = 0
    fields = (first_offset, created_us, file_number, database_id)
    bare = _STRUCT.pack(magic, VERSION, flags, HEADER_BYTES, 0, *fields)
    return _STRUCT.pack(magic, VERSION, flags, HEADER_BYTES, _checksum(bare), *fields)


def decode_header(
    buffer: bytes | bytearray | memoryview,
    magic: bytes,
    path: str,
    *,
    file_number: int | None = None,
    database_id: bytes | None = None,
) -> Header:
    """Return what the header says, once it is known to be whole and of this kind.

    Shape:  buffer begins with the file's first byte; what lies behind the header is not read.
            file_number, database_id: what the file must say, where the caller knows.
    Raises: CorruptionError; FormatTooNewError for a whole header of a newer version.
    """
    header = bytes(buffer[:HEADER_BYTES])
    if len(header) < HEADER_BYTES:
        raise CorruptionError(path, 0, f"a header of {HEADER_BYTES} bytes", f"{len(header)} bytes")
    found_magic, version, flags, size, crc, first, created_us, number, found_id = _STRUCT.unpack(
        header
    )
    if found_magic != magic:
        raise CorruptionError(path, 0, f"the magic {magic!r}", repr(found_magic))
    want = _checksum(header)
    if crc != want:
        raise CorruptionError(path, 16, f"header checksum {want:#010x}", f"{crc:#010x}")
    if version > VERSION:
        raise FormatTooNewError(
            f"{path} has format version {version:#06x}; this FerrisDB reads up to "
            f"{VERSION:#06x}: upgrade it"
        )
    for offset, expected, found in (
        (8, VERSION, version),
        (10, 0, flags),
        (12, HEADER_BYTES, size),
        (32, number if file_number is None else file_number, number),
        (56, bytes(8), header[56:64]),
    ):
        if expected != found:
            raise CorruptionError(path, offset, expected, found)
    if first < HEADER_BYTES:
        raise CorruptionError(path, 20, f"a first entry at {HEADER_BYTES} or later", first)
    if database_id is not None and found_id != database_id:
        raise CorruptionError(
            path,
            40,
            f"database id {database_id.hex()}",
            found_id.hex(),
            "this file belongs to another database: move it away",
        )
    return Header(found_magic, version, first, created_us, number, found_id)
