"""Decode a table in plain Python, from ferrisdb/format/sstable.py's text alone.

The kernel's twin: slow, without shortcuts, and sharing no code with it but the two functions
that the format pins (CRC-32C and the key hash).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ferrisdb.kernel.checksum import crc32c, key_hash
from tests.support.tables import Range, Version

PAGE = 4096


@dataclass
class Decoded:
    """Everything a table says."""

    versions: list[Version]
    ranges: list[Range]
    separators: list[bytes]
    block_offsets: list[int]
    restarts: list[list[int]]
    slots: dict[bytes, int]
    newest_offsets: dict[bytes, int]
    bucket_count: int


def u32(stored: bytes, at: int) -> int:
    """Return the little-endian number of 4 bytes at an offset."""
    return int.from_bytes(stored[at : at + 4], "little")


def u64(stored: bytes, at: int) -> int:
    """Return the little-endian number of 8 bytes at an offset."""
    return int.from_bytes(stored[at : at + 8], "little")


def check_sums(stored: bytes) -> int:
    """Check every checksum; return the offset of the properties' fixed part."""
    footer = stored[-64:]
    assert footer[56:] == b"FDB_SSTF"
    assert u32(footer, 52) == crc32c(footer[56:], crc32c(footer[:52]))
    area, pages, groups = u64(footer, 0), u32(footer, 8), u32(footer, 12)
    tail, tail_bytes = u64(footer, 16), u32(footer, 24)
    assert tail + tail_bytes + 64 == len(stored) == u64(footer, 32)
    assert u32(footer, 28) == crc32c(stored[tail : tail + tail_bytes])
    sums = stored[area:tail]
    assert len(sums) == 4 * pages == 4 * -(-area // PAGE)
    for page in range(pages):
        assert u32(sums, 4 * page) == crc32c(stored[PAGE * page : min(PAGE * page + PAGE, area)])
    assert groups == -(-len(sums) // PAGE)
    for group in range(groups):
        assert u32(stored, tail + 4 * group) == crc32c(sums[PAGE * group : PAGE * group + PAGE])
    return tail + 4 * groups


def decode_entry(stored: bytes, at: int) -> tuple[Version, bool, int]:
    """Return an entry, whether it is older than the one before, and where it ends."""
    flags, start = stored[at], at
    if flags & 16:
        suffix = int.from_bytes(stored[at + 1 : at + 4], "little")
        value_bytes = u32(stored, at + 4)
        at += 8
    else:
        suffix, value_bytes = stored[at + 1], int.from_bytes(stored[at + 2 : at + 4], "little")
        at += 4
    key = b""
    if flags & 64:
        restart, shared = start - u32(stored, at), int.from_bytes(stored[at + 4 : at + 6], "little")
        key = decode_entry(stored, restart)[0].key[:shared]
        assert len(key) == shared
        at += 6
    seq = expires = 0
    if flags & 32:
        seq, at = u64(stored, at), at + 8
    if flags & 7 == 4:
        expires, at = u64(stored, at), at + 8
    key += stored[at : at + suffix]
    value = stored[at + suffix : at + suffix + value_bytes]
    return Version(key, seq, flags & 7, expires, value), bool(flags & 8), at + suffix + value_bytes


def decode_ranges(stored: bytes, at: int, count_expected: int) -> list[Range]:
    """Return the range tombstones' fragments, a range for each sequence."""
    ranges: list[Range] = []
    if count_expected == 0:
        return ranges
    assert u32(stored, at) == count_expected
    at += 4
    for _ in range(count_expected):
        start_bytes, end_bytes, count = (u32(stored, at + 4 * i) for i in range(3))
        seqs = struct.unpack_from(f"<{count}Q", stored, at + 12)
        at += 12 + 8 * count
        start = stored[at : at + start_bytes]
        end = stored[at + start_bytes : at + start_bytes + end_bytes]
        at += start_bytes + end_bytes
        ranges += [(start, end, seq) for seq in seqs]
    return ranges


def find_slot(stored: bytes, hash_offset: int, bucket_count: int, key: bytes, place: int) -> int:
    """Return how many buckets a lookup of a key reads to find its place."""
    word = key_hash(key)
    bucket = (word >> 32) * bucket_count >> 32
    for probes in range(1, bucket_count + 1):
        at = hash_offset + 64 * bucket
        for slot in range(12):
            if (
                stored[at + slot] == ((word & 255) or 1)
                and u32(stored, at + 16 + 4 * slot) == place
            ):
                return probes
        assert u32(stored, at + 12) >> (word >> 8 & 31) & 1
        bucket = (bucket + 1) % bucket_count
    raise AssertionError(f"no slot for {key!r}")


def check_filter(stored: bytes, filter_offset: int, block_count: int, key: bytes) -> None:
    """Find each of a key's bits set in its block of the Bloom filter."""
    word = key_hash(key)
    at = filter_offset + 64 * ((word >> 32) * block_count >> 32)
    bits = word * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    for probe in range(6):
        bit = bits >> 9 * probe & 511
        assert stored[at + (bit >> 3)] >> (bit & 7) & 1, f"a bit of {key!r}"


def decode(stored: bytes) -> Decoded:
    """Return everything a table says, after checking every checksum."""
    at = check_sums(stored)
    data_end, hash_offset, buckets, index, blocks, key_bytes, tombstones = struct.unpack_from(
        "<7Q", stored, at
    )
    fragments = u64(stored, at + 8 * 12)
    index_shared, flags = u32(stored, at + 8 * 22 + 16), u32(stored, at + 8 * 22 + 20)
    out = Decoded([], decode_ranges(stored, tombstones, fragments), [], [], [], {}, {}, buckets)
    offsets, ends = index + 8 * blocks, index + 12 * blocks + 4
    for block in range(blocks):
        begin, end = u32(stored, offsets + 4 * block), u32(stored, offsets + 4 * block + 4)
        out.block_offsets.append(begin)
        place = begin
        while stored[place]:
            version, older, following = decode_entry(stored, place)
            if not older:
                out.newest_offsets[version.key] = place
                if flags & 8:
                    check_filter(stored, hash_offset, buckets, version.key)
                else:
                    probes = find_slot(stored, hash_offset, buckets, version.key, place)
                    out.slots[version.key] = probes
            out.versions.append(version)
            place = following
        count = u32(stored, place + 1)
        out.restarts.append([u32(stored, place + 5 + 4 * i) for i in range(count)])
        assert u32(stored, place + 5 + 4 * count) == count
        assert place + 9 + 4 * count == end
        first = u32(stored, ends + 4 * block - 4) if block else 0
        keys = ends + 4 * blocks
        out.separators.append(stored[keys + first : keys + u32(stored, ends + 4 * block)])
        head = out.separators[-1][index_shared : index_shared + 8].ljust(8, b"\0")
        assert stored[index + 8 * block : index + 8 * block + 8] == head[::-1]
    assert not blocks or u32(stored, offsets + 4 * blocks) == data_end
    assert not any(stored[data_end:hash_offset])
    assert key_bytes == sum(map(len, out.separators))
    return out
