"""SSTable files: `000013.sst`, immutable, little-endian, every byte under a checksum.

    header           64 bytes, see format/header.py; magic `FDB_SST\\0`, first entry at 64
    blocks           from 64 to `data_end`, without gaps
    zeros            up to a multiple of 64
    hash index       `bucket_count` buckets of 64 bytes, or as many blocks of a Bloom filter
    block index      see below; absent without entries
    range tombstones see below; absent without any
    page checksums   u32 each: CRC-32C of each 4,096 bytes from the file's start up to here
                     (the "page area"; its last page may be short)
    group checksums  u32 each: CRC-32C of each 4,096 bytes of page checksums
    properties       224 bytes, smallest key, largest key, file numbers
    footer           64 bytes

A page, not a block, is what a checksum covers, because a lookup comes from the hash index to an
entry without learning the entry's block: offset >> 12 names the page. Page checksums are checked
by groups (each spans 4 MiB of table), so that a first lookup reads 4 KiB of them, not all.

Block: entries, then a trailer. Entries stand in groups of 4; the first of a group ("restart") has
its whole key.

| field | width | |
| --- | --- | --- |
| flags | u8 | bits 0-2 kind (1 put, 2 delete, 4 expiring put); 8 older version of the key before; |
| | | 16 wide lengths; 32 sequence present; 64 shared key; 128 zero |
| suffix_bytes | u8, wide: u24 | key bytes that stand here |
| value_bytes | u16, wide: u32 | |
| back | u32, if shared | this entry's offset minus the restart's |
| shared_bytes | u16, if shared | leading key bytes to take from the restart's key |
| sequence | u64, if present | absent: at or below the floor of a bottom table, reads as 0 |
| expires | u64, if kind 4 | µs since the epoch |
| suffix, value | | |

Trailer: u8 0, u32 restart_count, u32 offset in the block for each restart, u32 restart_count.
Keys ascend; of a key, sequences descend, over blocks too. A shared key is used only where it saves
an eighth of the entry, because it costs a lookup another cache line.

Hash index: h is the key hash (kernel/cpu.h, pinned by tests). A key belongs in bucket
(h >> 32) * bucket_count >> 32, or where that is full in the next one with room, round the end.
Bucket: 12 x u8 fingerprint (low byte of h, 1 for 0; 0: empty slot), u32 overflow (bit h >> 8 & 31
of each key that was turned away), 12 x u32 file offset of the key's newest version.

Bloom filter, in the hash index's place in tables with the flag 8: a key's block is (h >> 32) *
bucket_count >> 32, and the six numbers of 9 bits from the low end of h * 0x9E3779B97F4A7C15
(modulo 2^64) are its bits there; bit b is bit b & 7 of the block's byte b >> 3.

Block index, for n blocks: n x u64 head (first 8 bytes of the separator behind the `index_shared`
bytes that all separators begin with, as a big-endian number, zeros behind its end), n + 1 x u32
block offset (the last is `data_end`), n x u32 end of the separator among the keys, keys. A
separator is at or above its block's last key and below the next block's first (or equal to both).

Range tombstones: u32 count, then fragments, disjoint and ascending: u32 start_bytes, u32
end_bytes (0: unbounded), u32 seq_count, u64 each sequence, descending, start, end.

Properties: 22 x u64 in the order of `kernel/properties.py`, 16 bytes database id, u32 index_shared,
u32 flags (1: a range tombstone is unbounded, 2: sequences were left out, 4: a repair wrote the
table, 8: a Bloom filter), u32 smallest_bytes, u32 largest_bytes, u64 log_number, u32 input_count,
u32 retired_count, keys, u64 each input, u64 each retired. min_seq and max_seq span entries and
range tombstones, left-out ones included. Of inputs, retired and log_number see TableOrigin: a
repair that has no MANIFEST learns from them which files were replaced by which.

Footer: u64 page area bytes, u32 pages, u32 groups, u64 offset of the group checksums, u32 bytes
from there to the footer, u32 their CRC-32C, u64 file bytes, u64 file number, u16 version, u16 zero,
u32 CRC-32C of the footer's other bytes, `FDB_SSTF`.

Torn tail: there is none; tables are renamed into place whole, so that a short file is corrupt.
Wrong checksum: CorruptionError, at opening for footer, properties and header, else at the first
touch. Newer version under a right checksum: FormatTooNewError.
Golden files: tests/golden/sstable_*.hex.
"""

from ferrisdb.kernel.properties import (
    FOOTER_BYTES,
    NO_ORIGIN,
    PAGE_BYTES,
    Footer,
    TableOrigin,
    TableProperties,
    decode_footer,
    decode_fragments,
    decode_properties,
    encode_footer,
    encode_fragments,
    encode_properties,
)

__all__ = [
    "FOOTER_BYTES",
    "NO_ORIGIN",
    "PAGE_BYTES",
    "Footer",
    "TableOrigin",
    "TableProperties",
    "decode_footer",
    "decode_fragments",
    "decode_properties",
    "encode_footer",
    "encode_fragments",
    "encode_properties",
]
