"""Encode and decode what a table says about itself: its properties and its footer.

The layout's authority is ferrisdb/format/sstable.py; it lives here because the builder and
the reader, which are kernel, need it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ferrisdb.errors import CorruptionError, FormatTooNewError
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.limits import STORED_KEY_BYTES_MAX

FILE_MAGIC = b"FDB_SST\0"
FOOTER_MAGIC = b"FDB_SSTF"
VERSION = 0x0200
HEADER_BYTES = 64
PAGE_BYTES = 4096
PAGES_PER_GROUP = PAGE_BYTES // 4

UNBOUNDED = 1
"""Flag: a range tombstone runs to the end of the key order."""
ELIDED = 2
"""Flag: sequences at or below `gc_floor` were left out, and read as 0."""
REPAIRED = 4
"""Flag: a repair wrote this table."""
FILTERED = 8
"""Flag: a Bloom filter stands in the hash index's place."""

_HEADER = struct.Struct("<8sHHIIIQQ16s8s")
_FOOTER = struct.Struct("<QIIQIIQQHHI8s")
_FIXED = struct.Struct("<22Q16sIIIIQII")
_COUNTERS = (
    "data_end",
    "hash_offset",
    "bucket_count",
    "index_offset",
    "block_count",
    "index_key_bytes",
    "tombstones_offset",
    "tombstones_bytes",
    "entry_count",
    "key_count",
    "delete_count",
    "expiring_count",
    "fragment_count",
    "min_seq",
    "max_seq",
    "raw_key_bytes",
    "raw_value_bytes",
    "gc_floor",
    "created_us",
    "file_number",
    "expires_us_min",
    "file_bytes",
)
FOOTER_BYTES = _FOOTER.size
FIXED_BYTES = _FIXED.size
if FOOTER_BYTES != 64 or FIXED_BYTES != 224:
    raise ImportError("the table's footer or properties have a wrong size")


@dataclass(frozen=True, slots=True)
class TableOrigin:
    """What a table is made of: what a repair needs to know where the MANIFEST is lost.

    `inputs`: numbers of the files that the table replaces, together with the other outputs of
    the same job: tables, or the WAL file of a flushed memtable. `retired`: numbers of tables that
    were out of the version, for good, when the job began, and still waited for their last pin.
    `log_number`: the WAL files below it were done with by then.
    """

    inputs: tuple[int, ...] = ()
    retired: tuple[int, ...] = ()
    log_number: int = 0
    is_repair: bool = False


NO_ORIGIN = TableOrigin()


@dataclass(frozen=True, slots=True)
class TableProperties:
    """What a table says about itself; offsets and sizes in bytes, counts in entries."""

    data_end: int
    hash_offset: int
    bucket_count: int
    index_offset: int
    block_count: int
    index_key_bytes: int
    tombstones_offset: int
    tombstones_bytes: int
    entry_count: int
    key_count: int
    delete_count: int
    expiring_count: int
    fragment_count: int
    min_seq: int
    max_seq: int
    raw_key_bytes: int
    raw_value_bytes: int
    gc_floor: int
    created_us: int
    file_number: int
    expires_us_min: int
    file_bytes: int
    database_id: bytes
    index_shared: int
    flags: int
    smallest_key: bytes
    #: Highest key or end of a range tombstone; says nothing where `unbounded`.
    largest_key: bytes
    origin: TableOrigin = NO_ORIGIN

    @property
    def unbounded(self) -> bool:
        """Whether a range tombstone of this table runs to the end of the key order."""
        return bool(self.flags & UNBOUNDED)

    @property
    def filtered(self) -> bool:
        """Whether a Bloom filter stands where the hash index would."""
        return bool(self.flags & FILTERED)

    @property
    def hash_bytes_per_key(self) -> float:
        """Return what the hash index, or the filter, costs, in bytes a key."""
        return self.bucket_count * 64 / self.key_count if self.key_count else 0.0

    @property
    def index_bytes_per_key(self) -> float:
        """Return what hash and block index together cost, in bytes a key."""
        block_index = self.block_count * 16 + self.index_key_bytes
        return self.hash_bytes_per_key + (block_index / self.key_count if self.key_count else 0.0)


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 64 bytes of a table: where the checksums and the properties lie."""

    page_area_bytes: int
    page_count: int
    group_count: int
    properties_offset: int
    properties_bytes: int
    properties_crc: int
    file_bytes: int
    file_number: int


def check_header(header: bytes, footer: Footer, path: str, file_number: int | None) -> None:
    """Check the first 64 bytes of a table against its footer, and the number asked for.

    Raises: CorruptionError; FormatTooNewError, if the checksum is right and the version unknown.
    """
    if len(header) != HEADER_BYTES:
        raise CorruptionError(path, 0, f"{HEADER_BYTES} bytes of header", len(header))
    magic, version, flags, size, crc, first, _, number, _, reserved = _HEADER.unpack(header)
    if magic != FILE_MAGIC:
        raise CorruptionError(path, 0, f"magic {FILE_MAGIC!r}", magic)
    right = crc32c(header[20:], crc32c(header[:16]))
    if crc != right:
        raise CorruptionError(path, 16, f"header checksum {right:#010x}", f"{crc:#010x}")
    if version > VERSION:
        raise FormatTooNewError(f"{path}: table format {version:#06x}: upgrade FerrisDB")
    wanted = footer.file_number if file_number is None else file_number
    for offset, expected, found in (
        (8, VERSION, version),
        (10, 0, flags),
        (12, HEADER_BYTES, size),
        (20, HEADER_BYTES, first),
        (32, footer.file_number, number),
        (32, wanted, number),
        (56, bytes(8), reserved),
    ):
        if expected != found:
            raise CorruptionError(path, offset, expected, found)


def encode_properties(properties: TableProperties) -> bytes:
    """Return the properties' bytes, as they stand behind the array of group checksums."""
    return (
        _FIXED.pack(
            *(getattr(properties, name) for name in _COUNTERS),
            properties.database_id,
            properties.index_shared,
            properties.flags,
            len(properties.smallest_key),
            len(properties.largest_key),
            properties.origin.log_number,
            len(properties.origin.inputs),
            len(properties.origin.retired),
        )
        + properties.smallest_key
        + properties.largest_key
        + encode_numbers(properties.origin)
    )


def encode_numbers(origin: TableOrigin) -> bytes:
    """Return the file numbers that stand behind the keys."""
    numbers = (*origin.inputs, *origin.retired)
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def decode_properties(stored: bytes, path: str, offset: int) -> TableProperties:
    """Return the properties in `stored`, whose checksum has been found right.

    Raises: CorruptionError, if lengths or sections contradict each other.
    """
    if len(stored) < FIXED_BYTES:
        raise CorruptionError(path, offset, f"{FIXED_BYTES} bytes of properties", len(stored))
    fields = _FIXED.unpack_from(stored)
    (database_id, index_shared, flags, smallest_bytes, largest_bytes,
     log_number, input_count, retired_count) = fields[22:]  # fmt: skip
    lengths = (smallest_bytes, largest_bytes, index_shared)
    if max(lengths) > STORED_KEY_BYTES_MAX:
        raise CorruptionError(path, offset, "keys within the limit", lengths)
    end = FIXED_BYTES + smallest_bytes + largest_bytes
    if len(stored) != end + 8 * (input_count + retired_count):
        raise CorruptionError(path, offset, "properties of their stated length", len(stored))
    middle = FIXED_BYTES + smallest_bytes
    numbers = struct.unpack_from(f"<{input_count + retired_count}Q", stored, end)
    properties = TableProperties(
        **dict(zip(_COUNTERS, fields, strict=False)),
        database_id=database_id,
        index_shared=index_shared,
        flags=flags,
        smallest_key=stored[FIXED_BYTES:middle],
        largest_key=stored[middle:end],
        origin=TableOrigin(
            numbers[:input_count], numbers[input_count:], log_number, bool(flags & REPAIRED)
        ),
    )
    _check_sections(properties, path, offset)
    return properties


def _check_sections(p: TableProperties, path: str, offset: int) -> None:
    """Raise CorruptionError unless the sections follow each other as the layout says."""
    ends = (
        (HEADER_BYTES <= p.data_end <= 0xFFFF_FFFF, "data", p.data_end),
        (p.hash_offset == -(-p.data_end // 64) * 64, "hash index", p.hash_offset),
        (p.index_offset == p.hash_offset + 64 * p.bucket_count, "block index", p.index_offset),
        (
            p.tombstones_offset == p.index_offset + _index_bytes(p),
            "range tombstones",
            p.tombstones_offset,
        ),
        ((p.bucket_count > 0) == (p.key_count > 0), "buckets", p.bucket_count),
        (p.bucket_count <= 0xFFFF_FFFF, "buckets", p.bucket_count),
        (p.key_count <= p.entry_count, "keys", p.key_count),
        ((p.block_count > 0) == (p.entry_count > 0), "blocks", p.block_count),
        ((p.fragment_count > 0) == (p.tombstones_bytes > 0), "fragments", p.fragment_count),
        (p.entry_count + p.fragment_count > 0, "entries", p.entry_count),
    )
    for right, name, found in ends:
        if not right:
            raise CorruptionError(path, offset, f"a possible place or count of {name}", found)


def _index_bytes(p: TableProperties) -> int:
    """Return the block index's size: heads, offsets, key ends, keys."""
    return p.block_count * 16 + 4 + p.index_key_bytes if p.block_count else 0


def encode_footer(footer: Footer) -> bytes:
    """Return the last 64 bytes of a table; the checksum covers the rest of them."""
    fields = (
        footer.page_area_bytes,
        footer.page_count,
        footer.group_count,
        footer.properties_offset,
        footer.properties_bytes,
        footer.properties_crc,
        footer.file_bytes,
        footer.file_number,
        VERSION,
        0,
    )
    unsealed = _FOOTER.pack(*fields, 0, FOOTER_MAGIC)
    return _FOOTER.pack(*fields, crc32c(unsealed[56:], crc32c(unsealed[:52])), FOOTER_MAGIC)


def decode_footer(stored: bytes, path: str, file_bytes: int) -> Footer:
    """Return the footer in the last 64 bytes of a file of `file_bytes`.

    Raises: CorruptionError, if the checksum is wrong or the places contradict each other.
            FormatTooNewError, if the checksum is right and the version unknown.
    """
    offset = file_bytes - FOOTER_BYTES
    if len(stored) != FOOTER_BYTES:
        raise CorruptionError(path, max(offset, 0), f"{FOOTER_BYTES} bytes of footer", len(stored))
    fields = _FOOTER.unpack(stored)
    if fields[11] != FOOTER_MAGIC:
        raise CorruptionError(path, offset, f"footer magic {FOOTER_MAGIC!r}", fields[11])
    crc = crc32c(stored[56:], crc32c(stored[:52]))
    if fields[10] != crc:
        raise CorruptionError(path, offset, f"footer checksum {crc:#010x}", f"{fields[10]:#010x}")
    if fields[8] > VERSION:
        raise FormatTooNewError(f"{path}: table format {fields[8]:#06x}: upgrade FerrisDB")
    footer = Footer(*fields[:8])
    pages = -(-footer.page_area_bytes // PAGE_BYTES)
    if (
        footer.file_bytes != file_bytes
        or fields[8:10] != (VERSION, 0)
        or footer.page_area_bytes < HEADER_BYTES
        or footer.page_count != pages
        or footer.group_count != -(-pages // PAGES_PER_GROUP)
        or footer.properties_offset != footer.page_area_bytes + 4 * pages
        or footer.properties_offset + footer.properties_bytes != offset
        or footer.properties_bytes < 4 * footer.group_count + FIXED_BYTES
    ):
        raise CorruptionError(path, offset, "sections that fill the file", footer)
    return footer


def encode_fragments(fragments: list[tuple[bytes, bytes, tuple[int, ...]]]) -> bytes:
    """Return the section of range tombstones: nothing at all where there are none."""
    if not fragments:
        return b""
    parts = [struct.pack("<I", len(fragments))]
    for start, end, seqs in fragments:
        parts.append(struct.pack(f"<III{len(seqs)}Q", len(start), len(end), len(seqs), *seqs))
        parts += (start, end)
    return b"".join(parts)


def decode_fragments(
    stored: bytes, count: int, path: str, offset: int
) -> list[tuple[bytes, bytes, tuple[int, ...]]]:
    """Return the fragments (start, end, seqs) of a section whose checksum has been found right.

    Raises: CorruptionError, if lengths leave the section or fragments are out of order.
    """
    at = 4
    fragments: list[tuple[bytes, bytes, tuple[int, ...]]] = []
    if len(stored) < 4 or struct.unpack_from("<I", stored)[0] != count:
        raise CorruptionError(path, offset, f"{count} fragments", stored[:4])
    for _ in range(count):
        if len(stored) - at < 12:
            raise CorruptionError(path, offset + at, "a fragment's lengths", "the section's end")
        start_bytes, end_bytes, seq_count = struct.unpack_from("<III", stored, at)
        middle = at + 12 + 8 * seq_count
        if seq_count == 0 or middle + start_bytes + end_bytes > len(stored):
            raise CorruptionError(path, offset + at, "a fragment within its section", seq_count)
        seqs = struct.unpack_from(f"<{seq_count}Q", stored, at + 12)
        start = stored[middle : middle + start_bytes]
        at = middle + start_bytes + end_bytes
        end = stored[middle + start_bytes : at]
        before = fragments[-1][1] if fragments else b""
        if (fragments and (not before or start < before)) or (end and start >= end):
            raise CorruptionError(path, offset, "disjoint fragments in order", (start, end))
        fragments.append((start, end, seqs))
    if at != len(stored):
        raise CorruptionError(path, offset + at, "the section's end", f"{len(stored) - at} bytes")
    return fragments
