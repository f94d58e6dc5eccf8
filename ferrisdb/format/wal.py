"""Lay out a write-ahead log file: header, extension, records.

Little-endian. Golden file: tests/golden/wal.hex. The kernel's twin of the record's layout, which
the commit loop and the scanner use, is ferrisdb/kernel/wal.pxd.

File: the common header (header.py, first entry at 128), the extension, records, then zeros (a
new file) or the former life of a recycled file (another salt: nothing in it passes for a record).

Extension, at 64:

| offset | width | field |
|---|---|---|
| 64  | 4  | CRC-32C of bytes 68-127 |
| 68  | 4  | 1: a recycled file; 0: a new one, with zeros behind its last record |
| 72  | 8  | salt: random, a new one for each life of the file; seeds every record's checksum |
| 80  | 8  | base_seq: no record of this file has a lower sequence number |
| 88  | 8  | generation of the coordinator that prepared the file |
| 96  | 8  | synced_end: every byte below was durable before the file got its name |
| 104 | 24 | 0 |

Record, 8-aligned:

| offset | width | field |
|---|---|---|
| 0  | 4  | CRC-32C of bytes 4 to the end, padding included; seed below |
| 4  | 4  | ops_bytes |
| 8  | 8  | first_seq: the operations have first_seq, first_seq + 1, … |
| 16 | 4  | count of operations; 0 exactly where ops_bytes is 0 |
| 20 | 2  | flags, 0 |
| 22 | 2  | reply_bytes, at most 32 |
| 24 | 8  | synced_to: every byte below was durable when this was written; at most the own offset |
| 32 | 8  | time_us: the group's time T |
| 40 | 16 | client id; zeros: no client |
| 56 | 8  | request_no |
| 64 | 8  | unanswered_no: the client's lowest unanswered request when it sent this |
| 72 |    | operations, reply, zeros to a multiple of 8 |

The seed is the CRC-32C of the salt and the record's offset in the file, as two u64.

Operation, unaligned: u32 (key_bytes | kind << 24), u32 value_bytes, u64 expires_us where the kind
is PUT_EXPIRING, key, value. In a RANGE_DELETE these are start and end; an empty end: no bound.

W1  Sequence numbers in a file are without gaps, in order.
W2  A file's first record, at 128, is its *opening record*: no operations, no client, first_seq =
    the next sequence number; request_no and unanswered_no hold the number of the predecessor and
    its length in bytes of valid records (0, 0: none). It is written once the predecessor is
    synced to that length. So a file with an opening record proves where its predecessor ends.
W3  Every byte below `synced_end`, and below the `synced_to` of a valid record, was durable. The
    first bad record at X is corruption if X is among these, or if a successor says otherwise by
    W2; else it is a torn tail, and the file ends there (kernel/walscan.pyx has the rule).
W4  A header and an extension are synced before the file gets its name: damage there is corruption.
W5  Once a file is durable to its end and nobody writes, a *closing record* is appended, without a
    sync: no operations, no client, first_seq = the next sequence number, synced_to = its own
    offset. So damage to the last group, too, reads as corruption and not as a torn tail; what a
    power cut or damage makes of the closing record itself loses nothing. Others may follow it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ferrisdb import limits
from ferrisdb.errors import CorruptionError
from ferrisdb.format.header import HEADER_BYTES, MAGIC_WAL, Header, decode_header, encode_header
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.kernel.walscan import WalScan, scan

FIRST_RECORD_OFFSET: Final = 128
RECORD_HEADER_BYTES: Final = 72
OPENING_RECORD_BYTES: Final = RECORD_HEADER_BYTES
CLOSING_RECORD_BYTES: Final = RECORD_HEADER_BYTES
NO_CLIENT: Final = bytes(16)

_EXTENSION: Final = struct.Struct("<IIQQQQ24x")
_RECORD: Final = struct.Struct("<IIQIHHQQ16sQQ")
_OP: Final = struct.Struct("<II")
_SEED: Final = struct.Struct("<QQ")
if HEADER_BYTES + _EXTENSION.size != FIRST_RECORD_OFFSET or _RECORD.size != RECORD_HEADER_BYTES:
    raise ImportError("the WAL file's layout does not have the documented sizes")


class OpKind(IntEnum):
    """Kinds of operations and of stored entries; numbers are on disk and never reused."""

    PUT = 1
    DELETE = 2
    RANGE_DELETE = 3
    PUT_EXPIRING = 4


@dataclass(frozen=True, slots=True)
class WalFile:
    """What a WAL file's first 128 bytes say."""

    header: Header
    salt: int
    base_seq: int
    generation: int
    synced_end: int
    recycled: bool = False

    @property
    def number(self) -> int:
        return self.header.file_number


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a batch; for a RANGE_DELETE, key and value are start and end."""

    kind: OpKind
    key: bytes
    value: bytes = b""
    expires_us: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One batch as a WAL file holds it."""

    offset: int
    total_bytes: int
    first_seq: int
    count: int
    synced_to: int
    time_us: int
    client_id: bytes
    request_no: int
    unanswered_no: int
    operations: tuple[Operation, ...]
    reply: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """What an opening record says (W2); number 0: the file has no predecessor."""

    next_seq: int
    time_us: int
    predecessor_number: int
    predecessor_end: int


def encode_file_header(
    *,
    file_number: int,
    database_id: bytes,
    created_us: int,
    salt: int,
    base_seq: int,
    generation: int,
    synced_end: int = FIRST_RECORD_OFFSET,
    recycled: bool = False,
) -> bytes:
    """Return the 128 bytes that a WAL file begins with."""
    header = encode_header(
        MAGIC_WAL,
        first_offset=FIRST_RECORD_OFFSET,
        created_us=created_us,
        file_number=file_number,
        database_id=database_id,
    )
    bare = _EXTENSION.pack(0, recycled, salt, base_seq, generation, synced_end)
    return header + struct.pack("<I", crc32c(bare[4:])) + bare[4:]


def decode_file_header(
    buffer: bytes | bytearray | memoryview,
    path: str,
    *,
    file_number: int | None = None,
    database_id: bytes | None = None,
) -> WalFile:
    """Return what the first 128 bytes say.

    Raises: CorruptionError, FormatTooNewError.
    """
    header = decode_header(
        buffer, MAGIC_WAL, path, file_number=file_number, database_id=database_id
    )
    extension = bytes(buffer[HEADER_BYTES:FIRST_RECORD_OFFSET])
    if header.first_offset != FIRST_RECORD_OFFSET or len(extension) != _EXTENSION.size:
        raise CorruptionError(
            path, 20, f"a first record at {FIRST_RECORD_OFFSET}", header.first_offset
        )
    crc, recycled, salt, base_seq, generation, synced_end = _EXTENSION.unpack(extension)
    want = crc32c(extension[4:])
    if crc != want:
        raise CorruptionError(path, 64, f"extension checksum {want:#010x}", f"{crc:#010x}")
    if recycled > 1:
        raise CorruptionError(path, 68, "0 or 1", recycled)
    if any(extension[40:]):
        raise CorruptionError(path, 104, "reserved bytes of zero", "others")
    if not 1 <= base_seq <= limits.SEQNO_MAX:
        raise CorruptionError(path, 80, "a sequence number", base_seq)
    if synced_end < FIRST_RECORD_OFFSET or synced_end % 8:
        raise CorruptionError(path, 96, "the end of a record", synced_end)
    return WalFile(header, salt, base_seq, generation, synced_end, bool(recycled))


def encode_operations(operations: tuple[Operation, ...]) -> bytes:
    """Return the operations as a record holds them."""
    pieces: list[bytes] = []
    for op in operations:
        pieces.append(_OP.pack(len(op.key) | op.kind << 24, len(op.value)))
        if op.kind is OpKind.PUT_EXPIRING:
            pieces.append(struct.pack("<Q", op.expires_us))
        pieces += (op.key, op.value)
    return b"".join(pieces)


def encode_record(record: Record, salt: int) -> bytes:
    """Return a record for its offset in the file with this salt.

    Shape: record.offset, a multiple of 8; total_bytes and count are not looked at.
    """
    operations = encode_operations(record.operations)
    bare = _RECORD.pack(
        0,
        len(operations),
        record.first_seq,
        len(record.operations),
        0,
        len(record.reply),
        record.synced_to,
        record.time_us,
        record.client_id,
        record.request_no,
        record.unanswered_no,
    )
    body = bare[4:] + operations + record.reply
    body += bytes(-(len(body) + 4) % 8)
    seed = crc32c(_SEED.pack(salt, record.offset))
    return struct.pack("<I", crc32c(body, seed)) + body


def encode_opening(opening: Opening, salt: int) -> bytes:
    """Return the opening record (W2), to be written at FIRST_RECORD_OFFSET."""
    record = Record(
        offset=FIRST_RECORD_OFFSET,
        total_bytes=OPENING_RECORD_BYTES,
        first_seq=opening.next_seq,
        count=0,
        synced_to=FIRST_RECORD_OFFSET,
        time_us=opening.time_us,
        client_id=NO_CLIENT,
        request_no=opening.predecessor_number,
        unanswered_no=opening.predecessor_end,
        operations=(),
        reply=b"",
    )
    return encode_record(record, salt)


def encode_closing(offset: int, next_seq: int, time_us: int, salt: int) -> bytes:
    """Return the closing record (W5), to be written at `offset`, to which the file is durable."""
    record = Record(
        offset=offset,
        total_bytes=CLOSING_RECORD_BYTES,
        first_seq=next_seq,
        count=0,
        synced_to=offset,
        time_us=time_us,
        client_id=NO_CLIENT,
        request_no=0,
        unanswered_no=0,
        operations=(),
        reply=b"",
    )
    return encode_record(record, salt)


def scan_file(buffer: bytes | bytearray, file: WalFile, path: str) -> WalScan:
    """Find the valid records in a private copy of a whole file.

    Raises: CorruptionError by W1, W3 and for malformed operations.
    """
    return scan(
        buffer,
        file.salt,
        path=path,
        base_seq=file.base_seq,
        first_offset=FIRST_RECORD_OFFSET,
        synced_end=file.synced_end,
    )


def records(buffer: bytes | bytearray, found: WalScan) -> Iterator[Record]:
    """Yield the records that a scan of the buffer found; for tools and tests."""
    for offset in found.offsets:
        yield _decode_record(buffer, offset)


def record_in(buffer: bytes | bytearray, offset: int) -> Record:
    """Return the record at an offset where the checksum was found right; for tools.

    Raises: ValueError, struct.error for operations that can't be.
    """
    return _decode_record(buffer, offset)


def read_opening(buffer: bytes | bytearray, found: WalScan, path: str) -> Opening | None:
    """Return the opening record; None where the file has no record.

    Raises: CorruptionError where the first record is another one.
    """
    if not found.record_count:
        return None
    first = _decode_record(buffer, found.offsets[0])
    if first.client_id != NO_CLIENT or first.count:
        raise CorruptionError(path, first.offset, "an opening record", "another one")
    return Opening(first.first_seq, first.time_us, first.request_no, first.unanswered_no)


def _decode_record(buffer: bytes | bytearray, offset: int) -> Record:
    # Only for offsets that a scan has found: lengths are known to lie within the buffer.
    (_, ops_bytes, first_seq, count, _, reply_bytes, synced_to, time_us, client_id, request_no,
     unanswered_no) = _RECORD.unpack_from(buffer, offset)  # fmt: skip
    position = offset + RECORD_HEADER_BYTES
    operations: list[Operation] = []
    for _ in range(count):
        word, value_bytes = _OP.unpack_from(buffer, position)
        position += 8
        kind, key_bytes, expires_us = OpKind(word >> 24), word & 0xFFFFFF, 0
        if kind is OpKind.PUT_EXPIRING:
            (expires_us,) = struct.unpack_from("<Q", buffer, position)
            position += 8
        value_at = position + key_bytes
        key = bytes(buffer[position:value_at])
        position = value_at + value_bytes
        operations.append(Operation(kind, key, bytes(buffer[value_at:position]), expires_us))
    reply = bytes(buffer[position : position + reply_bytes])
    total = RECORD_HEADER_BYTES + ops_bytes + reply_bytes
    return Record(
        offset, total + -total % 8, first_seq, count, synced_to, time_us, client_id, request_no,
        unanswered_no, tuple(operations), reply,
    )  # fmt: skip
