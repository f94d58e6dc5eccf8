"""Flush: the table holds what the memtable held. Method: read the table back; fail every call."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ferrisdb.engine.flush import flush_memtable
from ferrisdb.errors import StorageError
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.filenames import DIR
from ferrisdb.format.wal import Operation, OpKind
from ferrisdb.kernel.memtable import MemtableWriter
from ferrisdb.kernel.table import Table
from ferrisdb.seams import FileSystem, RealFileSystem
from tests.support.memtables import fill, put
from tests.support.simfs import SimFileSystem

ID = bytes(range(16))


def flush(
    memtable: MemtableWriter, path: Path, *, gc_floor: int = 0, fs: FileSystem | None = None
) -> TableMeta | None:
    return flush_memtable(
        memtable,
        fs or RealFileSystem(),
        DIR(str(path)),
        file_number=9,
        database_id=ID,
        created_us=1,
        gc_floor=gc_floor,
        block_bytes=256,
    )


def test_table_has_every_version_and_its_meta_agrees(tmp_path: Path) -> None:
    operations = [put(b"k%d" % (n % 7), b"v%d" % n) for n in range(20)]
    operations.append(Operation(OpKind.DELETE, b"k3"))
    operations.append(Operation(OpKind.PUT_EXPIRING, b"e", b"x", 99))
    meta = flush(fill(bytearray(1 << 18), operations), tmp_path)
    assert meta is not None
    assert (meta.level, meta.number, meta.entry_count) == (0, 9, 22)
    assert (meta.smallest, meta.largest, meta.min_seq, meta.max_seq) == (b"e", b"k6", 1, 22)
    assert (meta.delete_count, meta.expiring_count, meta.unbounded) == (1, 1, False)
    assert os.listdir(tmp_path) == ["000009.sst"]
    assert meta.file_bytes == os.stat(tmp_path / "000009.sst").st_size
    table = Table(tmp_path / "000009.sst", file_number=9)
    table.verify()
    assert table.get(b"k3", 100) == (21, int(OpKind.DELETE), 0, b"")
    assert table.get(b"k3", 20) == (18, int(OpKind.PUT), 0, b"v17")
    assert table.get(b"k3", 4) == (4, int(OpKind.PUT), 0, b"v3")
    assert table.get(b"e", 100) == (22, int(OpKind.PUT_EXPIRING), 99, b"x")
    table.close()


def test_what_no_snapshot_can_see_is_left_out_and_deletes_stay(tmp_path: Path) -> None:
    operations = [put(b"a", b"1"), put(b"a", b"2"), put(b"b", b"3"), Operation(OpKind.DELETE, b"b")]
    meta = flush(fill(bytearray(1 << 18), operations), tmp_path, gc_floor=4)
    assert meta is not None and (meta.entry_count, meta.delete_count) == (2, 1)


def test_range_tombstones_travel_and_cover(tmp_path: Path) -> None:
    operations = [
        put(b"a", b"1"),
        put(b"m", b"2"),
        Operation(OpKind.RANGE_DELETE, b"b", b"n"),
        Operation(OpKind.RANGE_DELETE, b"x", b""),
    ]
    meta = flush(fill(bytearray(1 << 18), operations), tmp_path, gc_floor=4)
    assert meta is not None and meta.unbounded
    # m is covered at or below the floor.
    assert (meta.entry_count, meta.range_delete_count) == (1, 2)
    table = Table(tmp_path / "000009.sst")
    assert table.range_tombstones().covering_seq(b"m", 100) == 3
    assert table.range_tombstones().covering_seq(b"zzz", 100) == 4
    table.close()


def test_range_tombstones_alone_make_a_table(tmp_path: Path) -> None:
    meta = flush(fill(bytearray(1 << 18), [Operation(OpKind.RANGE_DELETE, b"b", b"n")]), tmp_path)
    assert meta is not None and (meta.smallest, meta.largest) == (b"b", b"n")


def test_empty_memtable_makes_no_file(tmp_path: Path) -> None:
    assert flush(fill(bytearray(1 << 18), []), tmp_path) is None
    assert os.listdir(tmp_path) == []


def test_any_failing_call_leaves_no_half_table_and_a_second_try_works(tmp_path: Path) -> None:
    memtable = fill(bytearray(1 << 18), [put(b"k%03d" % n, b"v" * 50) for n in range(400)])
    count = SimFileSystem(str(_folder(tmp_path, "count")))
    flush(memtable, tmp_path / "count", fs=count)
    assert count.call_count > 4
    for index in range(count.call_count):
        path = _folder(tmp_path, str(index))
        fs = SimFileSystem(str(path))
        fs.fail(index, errno.ENOSPC)
        with pytest.raises(StorageError):
            flush(memtable, path, fs=fs)
        left = os.listdir(path)
        # The last call syncs the name: the table is whole then, and no MANIFEST names it.
        assert left in ([], ["000009.sst"]) or index == count.call_count - 2
        assert flush(memtable, path) is not None
        assert "000009.sst.tmp" not in os.listdir(path)


def test_giving_up_between_chunks_leaves_nothing(tmp_path: Path) -> None:
    memtable = fill(bytearray(1 << 22), [put(b"k%04d" % n, b"v" * 1000) for n in range(2500)])
    calls = []

    def give_up_late() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flush_memtable(
            memtable,
            RealFileSystem(),
            DIR(str(tmp_path)),
            file_number=9,
            database_id=ID,
            created_us=1,
            gc_floor=0,
            block_bytes=4096,
            on_chunk=give_up_late,
        )
    assert os.listdir(tmp_path) == []


def _folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path
