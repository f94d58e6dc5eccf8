"""Name the current version: which memtables and tables a reader of epoch E looks into.

Segment v<epoch>, written once by the coordinator before the control page's epoch names it (C3),
never changed, unlinked when no pin holds its epoch. Little-endian.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | 8 | magic | "FDBVERS\\0" |
| 8 | u32 | layout | VERSION_LAYOUT |
| 12 | u32 | bytes | of the page, all of it |
| 16 | u64 | epoch | |
| 24 | u64 | generation | of the coordinator that wrote it |
| 32 | u32 | memtable count | |
| 36 | u32 | table count | |
| 40 | u32 | crc | CRC-32C of bytes 0-39 and of 44 to the end |
| 44 | u32 | zero | |
| 48 | 24 each | memtables | newest first: u64 number, u64 bytes, u64 first seq |
| behind | varies | tables | level 0 newest first, then each level in key order |

Table, packed without padding:

| offset | width | field |
| --- | --- | --- |
| 0 | u64 | number |
| 8 | u64 | file bytes |
| 16 | u32 | level |
| 20 | u32 | flags: bit 0, unbounded |
| 24 | u64 | min seq |
| 32 | u64 | max seq |
| 40 | u32 | smallest key bytes |
| 44 | u32 | largest key bytes |
| 48 | | smallest key, then largest key |

Key lengths take u32 and not u16: a stored key (key space prefix included) may be 65,540 long.

`unbounded`: one of the table's range tombstones has no end, so no key from the smallest up is
outside, whatever the largest key says.

V1  A page is complete before anyone can learn its name, so a page that fails its checks is our
    own error or another layout's; decode raises ProtocolError and the reader looks again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.limits import SEQNO_MAX, STORED_KEY_BYTES_MAX

VERSION_MAGIC = b"FDBVERS\0"
VERSION_LAYOUT = 2
VERSION_BYTES_MAX = 1 << 30
LEVEL_MAX = 63

_UNBOUNDED = 1
_HAS_RANGES = 2
_HEAD = struct.Struct("<8sIIQQIIII")
_CRC_OFFSET = 40
_MEMTABLE = struct.Struct("<QQQ")
_TABLE = struct.Struct("<QQIIQQII")
if (_HEAD.size, _MEMTABLE.size, _TABLE.size) != (48, 24, 48):
    raise ImportError("the version page's layout and its structs differ")


@dataclass(frozen=True, slots=True)
class MemtableRef:
    """A memtable of a version."""

    number: int
    nbytes: int
    first_seq: int


@dataclass(frozen=True, slots=True)
class TableRef:
    """A table of a version; keys are stored keys; has_ranges, whether range tombstones."""

    number: int
    file_bytes: int
    level: int
    min_seq: int
    max_seq: int
    smallest: bytes
    largest: bytes
    unbounded: bool = False
    has_ranges: bool = False


@dataclass(frozen=True, slots=True)
class VersionPage:
    """A version: memtables newest first; tables, level 0 newest first, then by level and key."""

    epoch: int
    generation: int
    memtables: tuple[MemtableRef, ...]
    tables: tuple[TableRef, ...]


def encode(page: VersionPage) -> bytes:
    """Return the bytes of a page.

    Raises: ValueError, a number out of its range: our own mistake.
    """
    parts = [_MEMTABLE.pack(m.number, m.nbytes, m.first_seq) for m in page.memtables]
    for table in page.tables:
        if fault := _table_fault(table):
            raise ValueError(f"table {table.number}: {fault}")
        parts.append(
            _TABLE.pack(
                table.number,
                table.file_bytes,
                table.level,
                _UNBOUNDED * table.unbounded | _HAS_RANGES * table.has_ranges,
                table.min_seq,
                table.max_seq,
                len(table.smallest),
                len(table.largest),
            )
        )
        parts.append(table.smallest)
        parts.append(table.largest)
    body = b"".join(parts)
    nbytes = _HEAD.size + len(body)
    if nbytes > VERSION_BYTES_MAX:
        raise ValueError(f"a version page can't have {nbytes} bytes")
    head = _HEAD.pack(
        VERSION_MAGIC,
        VERSION_LAYOUT,
        nbytes,
        page.epoch,
        page.generation,
        len(page.memtables),
        len(page.tables),
        0,
        0,
    )
    crc = _crc(head, body)
    return head[:_CRC_OFFSET] + crc.to_bytes(4, "little") + head[_CRC_OFFSET + 4 :] + body


def decode(view: memoryview | bytes) -> VersionPage:
    """Copy a page out of its segment, check the copy, and return what it names.

    Shape:  view, at least the page; a segment may be longer.
    Raises: ProtocolError (V1).
    """
    head = bytes(view[: _HEAD.size])
    if len(head) < _HEAD.size:
        raise ProtocolError(f"version page: {len(head)} bytes are no head")
    magic, version, nbytes, epoch, generation, memtable_count, table_count, crc, zero = (
        _HEAD.unpack(head)
    )
    if magic != VERSION_MAGIC or version != VERSION_LAYOUT or zero:
        raise ProtocolError(f"version page: magic {magic!r}, layout {version}, padding {zero}")
    if not _HEAD.size <= nbytes <= min(len(view), VERSION_BYTES_MAX):
        raise ProtocolError(f"version page: says {nbytes} bytes, there are {len(view)}")
    body = bytes(view[_HEAD.size : nbytes])
    if crc != _crc(head, body):
        raise ProtocolError("version page: wrong checksum")
    tables_offset = memtable_count * _MEMTABLE.size
    if tables_offset + table_count * _TABLE.size > len(body):
        raise ProtocolError("version page: more entries than bytes")
    memtables = tuple(MemtableRef(*words) for words in _MEMTABLE.iter_unpack(body[:tables_offset]))
    tables = _decode_tables(body, tables_offset, table_count)
    return VersionPage(epoch, generation, memtables, tables)


def _decode_tables(body: bytes, at: int, count: int) -> tuple[TableRef, ...]:
    tables: list[TableRef] = []
    for _ in range(count):
        if at + _TABLE.size > len(body):
            raise ProtocolError("version page: a table crosses the end")
        number, file_bytes, level, flags, low, high, smallest_bytes, largest_bytes = (
            _TABLE.unpack_from(body, at)
        )
        at += _TABLE.size
        middle = at + smallest_bytes
        end = middle + largest_bytes
        if end > len(body) or flags & ~(_UNBOUNDED | _HAS_RANGES):
            raise ProtocolError(f"version page: table {number}: flags {flags:#x} or keys too long")
        table = TableRef(
            number,
            file_bytes,
            level,
            low,
            high,
            body[at:middle],
            body[middle:end],
            bool(flags & _UNBOUNDED),
            bool(flags & _HAS_RANGES),
        )
        if fault := _table_fault(table):
            raise ProtocolError(f"version page: table {number}: {fault}")
        tables.append(table)
        at = end
    if at != len(body):
        raise ProtocolError(f"version page: {len(body) - at} bytes behind the last table")
    return tuple(tables)


def _table_fault(table: TableRef) -> str:
    if table.level > LEVEL_MAX:
        return f"level {table.level}"
    if not table.min_seq <= table.max_seq <= SEQNO_MAX:
        return f"sequences {table.min_seq} to {table.max_seq}"
    if max(len(table.smallest), len(table.largest)) > STORED_KEY_BYTES_MAX:
        return "a key is too long"
    return ""


def _crc(head: bytes, body: bytes) -> int:
    crc = crc32c(head[:_CRC_OFFSET])
    return crc32c(body, crc32c(head[_CRC_OFFSET + 4 :], crc))
