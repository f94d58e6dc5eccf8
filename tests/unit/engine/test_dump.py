"""Dump: every field by name, every checksum recomputed, on past damage. Method: golden files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ferrisdb.engine.dump import (
    DumpOptions,
    Line,
    dump_file,
    dump_manifest,
    dump_wal,
    dumpable,
    summaries,
)
from ferrisdb.engine.dump_table import dump_table
from ferrisdb.format.edit import TableMeta, VersionEdit, encode_edit
from ferrisdb.format.filenames import DIR
from ferrisdb.format.header import MAGIC_MANIFEST, encode_header
from ferrisdb.format.manifest import encode_current, encode_manifest_record
from ferrisdb.seams import RealFileSystem
from tests.support.tables import DATABASE_ID, DELETE, PUT, Version, build
from tests.support.wal_sample import sample

OPTIONS = DumpOptions(show=lambda raw: raw.decode("latin-1"))
VALUE = b"v" * 30
VERSIONS = [
    Version(b"\0key%03d" % n, 500 - n, PUT if n % 7 else DELETE, 0, VALUE if n % 7 else b"")
    for n in range(400)
]


def texts(lines: list[Line]) -> str:
    return "\n".join(line.text for line in lines)


def manifest() -> bytes:
    table = TableMeta(2, 9, 4096, 10, b"\0a", b"\0z", 3, 40, delete_count=2)
    content = encode_header(
        MAGIC_MANIFEST, first_offset=64, created_us=1, file_number=7, database_id=DATABASE_ID
    )
    for edit in (
        VersionEdit(database_id=DATABASE_ID, next_file_number=8),
        VersionEdit(added=(table,), removed=((1, 5),), log_number=6),
        VersionEdit(last_seq=99),
    ):
        content += encode_manifest_record(encode_edit(edit), len(content))
    return content


def table_file(path: Path) -> Path:
    stored, _ = build(VERSIONS, [(b"\0x", b"", 600)], file_number=9, block_bytes=512)
    file = path / "000009.sst"
    file.write_bytes(stored)
    return file


def test_a_wal_file_is_told_record_by_record() -> None:
    content, records = sample()
    lines = list(dump_wal(content, "000012.wal", OPTIONS))
    shown = texts(lines)
    assert "salt 0x0123456789abcdef" in shown
    assert "predecessor 9, predecessor_end 4096" in shown
    assert "101 put [00] apple = red" in shown
    assert "103 put expiring [00] pear expires 1700000060000000 = green" in shown
    assert "range delete from [00] a up to [00] b" in shown
    starts = [line.offset for line in lines if "record bytes" in line.text]
    assert starts == [record.offset for record in records]
    assert "DAMAGED" not in shown


def test_records_behind_damage_are_told_too() -> None:
    content, records = sample()
    broken = bytearray(content)
    broken[records[2].offset + 80] ^= 1
    lines = list(dump_wal(bytes(broken), "000012.wal", OPTIONS))
    assert [line.offset for line in lines if "DAMAGED" in line.text] == [records[2].offset]
    assert records[3].offset in [line.offset for line in lines]
    broken[70] ^= 1
    assert "without the salt" in texts(list(dump_wal(bytes(broken), "000012.wal", OPTIONS)))


def test_a_manifest_is_told_in_words_past_damage() -> None:
    content = manifest()
    shown = texts(list(dump_manifest(content, "MANIFEST-000007", OPTIONS)))
    assert "table 9 joins level 2: 4096 bytes, 10 entries (2 deletes, 0 expiring)" in shown
    assert "table 5 leaves level 1" in shown
    assert "WAL files are needed from number 6" in shown
    broken = bytearray(content)
    broken[130] ^= 1
    shown = texts(list(dump_manifest(bytes(broken), "MANIFEST-000007", OPTIONS)))
    assert "no whole edit: DAMAGED" in shown and "the last sequence is 99" in shown
    assert "joins" not in shown


def test_a_table_is_told_to_its_last_entry(tmp_path: Path) -> None:
    lines = list(dump_table(RealFileSystem(), str(table_file(tmp_path)), OPTIONS))
    shown = texts(lines)
    assert "DAMAGED" not in shown
    entries = [line for line in lines if line.is_item and "range" not in line.text]
    assert [line.fields["key"] for line in entries] == [f"[00] key{n:03d}" for n in range(400)]
    assert [line.fields["seq"] for line in entries] == [500 - n for n in range(400)]
    assert "600 range delete from [00] x up to the end" in shown
    assert "all checksums right" in shown and "400 slots used" in shown
    assert "entry_count 400" in shown


def test_a_filter_is_told_in_the_hash_indexs_place(tmp_path: Path) -> None:
    file = tmp_path / "000009.sst"
    file.write_bytes(build(VERSIONS, file_number=9, filtered=True)[0])
    shown = texts(list(dump_table(RealFileSystem(), str(file), OPTIONS)))
    assert "Bloom filter of" in shown and "hash index" not in shown and "DAMAGED" not in shown


def test_a_damaged_table_is_told_around_the_damage(tmp_path: Path) -> None:
    file = table_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    lines = list(dump_table(RealFileSystem(), str(file), OPTIONS))
    shown = texts(lines)
    assert "1 of them DAMAGED" in shown
    keys = {line.fields["key"] for line in lines if line.is_item and "key" in line.fields}
    assert {"[00] key000", "[00] key399"} <= keys and 100 < len(keys) < 400
    content[-20] ^= 1
    file.write_bytes(content)
    assert "as it must have been" in texts(list(dump_table(RealFileSystem(), str(file), OPTIONS)))
    file.write_bytes(content[:6000])
    assert "without page checksums" in texts(list(dump_table(RealFileSystem(), str(file), OPTIONS)))


@pytest.mark.parametrize("at", range(0, 24000, 211))
def test_a_dump_never_fails_on_damage(tmp_path: Path, at: int) -> None:
    file = table_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= 0x55
    file.write_bytes(content)
    shown = texts(list(dump_table(RealFileSystem(), str(file), OPTIONS)))
    assert "DAMAGED" in shown


def test_files_are_listed_with_a_summary(tmp_path: Path) -> None:
    table_file(tmp_path)
    (tmp_path / "MANIFEST-000007").write_bytes(manifest())
    (tmp_path / "CURRENT").write_bytes(encode_current(7, DATABASE_ID, 1))
    (tmp_path / "000012.wal").write_bytes(sample()[0])
    (tmp_path / "000014.wal").write_bytes(b"short")
    fs, directory = RealFileSystem(), DIR(str(tmp_path))
    found = {name: summary for name, _, _, summary in summaries(fs, directory)}
    assert found["CURRENT"] == "names MANIFEST-000007"
    assert found["MANIFEST-000007"] == "3 edits"
    assert found["000009.sst"].startswith("400 entries")
    assert found["000012.wal"] == "generation 3, sequences from 101 on"
    assert found["000014.wal"].startswith("DAMAGED")
    for name in found:
        assert list(dump_file(fs, directory, name, OPTIONS))
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", ["LOCK", "notes.txt", "../000012.wal", "000012.wal.tmp"])
def test_what_has_no_format_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there are CURRENT"):
        dumpable(name)
