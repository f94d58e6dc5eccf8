"""A table's bytes don't move, and a plain Python twin reads in them what the kernel wrote.

Goal: the layout in ferrisdb/format/sstable.py. Method: golden files, and an oracle that shares
no decoding code with the kernel, on tables that Hypothesis draws.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.errors import CorruptionError, FormatTooNewError
from ferrisdb.format.header import MAGIC_TABLE, decode_header, encode_header
from ferrisdb.format.sstable import (
    Footer,
    TableOrigin,
    decode_footer,
    decode_fragments,
    encode_footer,
)
from ferrisdb.kernel.checksum import crc32c, key_hash
from ferrisdb.kernel.table import Table
from tests.support import sstable_oracle as oracle
from tests.support.tables import (
    CREATED_US,
    DATABASE_ID,
    DELETE,
    LATEST,
    PUT,
    PUT_EXPIRING,
    Range,
    Version,
    build,
    in_order,
    seen_above,
)
from tests.unit.kernel.test_table import LIGHT, histories

GOLDEN = Path(__file__).parent.parent / "golden"

PLAIN = in_order(
    [Version(b"\0fruit/%02d" % i, 10 + i, PUT, 0, b"value %d" % i) for i in range(12)]
    + [Version(b"\0fruit/03", seq, PUT, 0, b"older") for seq in (5, 4, 3)]
    + [
        Version(b"\0gone", 30, DELETE, 0, b""),
        Version(b"\0soon", 31, PUT_EXPIRING, 1_700_000_000_000_000, b"brief"),
        Version(b"\0" + b"long" * 70, 32, PUT, 0, b"wide"),
        Version(b"\0" + b"long" * 70 + b"er", 33, PUT, 0, b"shared"),
    ]
)
RANGES: list[Range] = [(b"\0a", b"\0c", 40), (b"\0b", b"\0d", 41), (b"\0x", b"", 42)]
ORIGIN = TableOrigin(inputs=(3, 5), retired=(2,), log_number=6, is_repair=True)
TABLES = {
    "sstable_plain": build(PLAIN, RANGES, block_bytes=160)[0],
    "sstable_bottom": build(
        [v for v in PLAIN if v.seq > 9], gc_floor=20, bottom=True, origin=ORIGIN
    )[0],
    "sstable_filtered": build(PLAIN, RANGES, block_bytes=160, filtered=True)[0],
    "sstable_ranges": build([], RANGES)[0],
}


@pytest.mark.parametrize("name", TABLES)
def test_golden_tables_are_written_and_read(name: str, tmp_path: Path) -> None:
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text(encoding="ascii"))
    assert TABLES[name] == golden
    path = tmp_path / "000007.sst"
    path.write_bytes(golden)
    table = Table(path, file_number=7)
    table.verify()
    for version in oracle.decode(golden).versions:
        found = table.get(version.key, version.seq or LATEST)
        assert found == (version.seq, version.kind, version.expires_us, version.value)


def test_a_table_says_what_it_is_made_of(tmp_path: Path) -> None:
    path = tmp_path / "000007.sst"
    path.write_bytes(TABLES["sstable_bottom"])
    assert Table(path).properties.origin == ORIGIN


def test_the_header_is_the_one_that_every_file_has() -> None:
    header = TABLES["sstable_plain"][:64]
    assert header == encode_header(
        MAGIC_TABLE, first_offset=64, created_us=CREATED_US, file_number=7, database_id=DATABASE_ID
    )
    assert decode_header(header, MAGIC_TABLE, "7.sst", file_number=7).created_us == CREATED_US


@LIGHT
@given(histories(), st.sampled_from([1, 100, 4096]), st.booleans(), st.booleans())
def test_the_oracle_reads_what_the_kernel_wrote(
    versions: list[Version], block_bytes: int, bottom: bool, filtered: bool
) -> None:
    floor = len(versions) // 2 if bottom else 0
    if bottom:
        versions = seen_above(versions, floor)
    stored, properties = build(
        versions,
        [(b"a", b"b", 100)],
        block_bytes=block_bytes,
        gc_floor=floor,
        bottom=bottom,
        filtered=filtered,
    )
    found = oracle.decode(stored)
    assert found.versions == [v._replace(seq=0) if v.seq <= floor else v for v in versions]
    assert found.ranges == [(b"a", b"b", 100)]
    assert properties.key_count == len({v.key for v in versions})
    assert filtered or len(found.slots) == properties.key_count
    assert len(found.block_offsets) == properties.block_count
    assert all(len(r) >= 1 and r[0] == 0 for r in found.restarts)
    assert found.separators == sorted(found.separators)


def test_most_keys_are_found_in_their_first_bucket() -> None:
    versions = [Version(b"%05d" % i, i, PUT, 0, b"") for i in range(3000)]
    probes = list(oracle.decode(build(versions)[0]).slots.values())
    assert sum(p == 1 for p in probes) > 0.93 * len(probes)
    assert max(probes) <= 16


def test_the_key_hash_and_the_checksum_are_pinned() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert [key_hash(key) for key in (b"", b"a", b"key four", b"k" * 40)] == HASHES


HASHES = [int(word, 16) for word in (GOLDEN / "key_hash.hex").read_text(encoding="ascii").split()]


def test_a_newer_version_under_a_right_checksum_is_told_apart() -> None:
    footer = bytearray(encode_footer(Footer(64, 1, 1, 68, 228, 0, 360, 7)))
    assert decode_footer(bytes(footer), "7.sst", 360).file_number == 7
    footer[48] = 1
    footer[52:56] = crc32c(bytes(footer[56:]), crc32c(bytes(footer[:52]))).to_bytes(4, "little")
    with pytest.raises(FormatTooNewError):
        decode_footer(bytes(footer), "7.sst", 360)


@pytest.mark.parametrize("field", [0, 1, 2, 3, 4, 6])
def test_a_footer_whose_places_contradict_each_other_is_refused(field: int) -> None:
    fields = [64, 1, 1, 68, 228, 0, 360, 7]
    fields[field] += 1
    with pytest.raises(CorruptionError):
        decode_footer(encode_footer(Footer(*fields)), "7.sst", 360)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x02\0\0\0",
        b"\x01\0\0\0" + b"\xff" * 12,
        b"\x01\0\0\0" + b"\x01\0\0\0\x01\0\0\0\0\0\0\0" + b"ab",
        b"\x01\0\0\0" + b"\x01\0\0\0\x01\0\0\0\x01\0\0\0" + bytes(8) + b"ba",
        b"\x01\0\0\0" + b"\x01\0\0\0\x01\0\0\0\x01\0\0\0" + bytes(8) + b"ab!",
    ],
)
def test_impossible_fragments_are_refused(stored: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_fragments(stored, 1, "7.sst", 0)
