"""Recovery keeps what was promised, whatever happened between two calls.

Method: a small database with memtables that are plain lists; the directory is opened again after
each step, whole or damaged. Power cuts are in tests/crash/test_recovery.py.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ferrisdb.engine.open import open_state
from ferrisdb.engine.recover import RecoveredLogs
from ferrisdb.engine.wal_files import activate, prepare_wal, recycle_wal
from ferrisdb.errors import (
    CorruptionError,
    NotADatabaseError,
    StorageError,
)
from ferrisdb.format import wal
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.seams import FileSystem, RealFileSystem
from tests.support.fakes import ManualClock, SeededRng
from tests.support.replay import ListTarget
from tests.support.simfs import SimFileSystem
from tests.support.small_database import (
    WAL_BYTES,
    held,
    owner,
    reopen,
    rotate_wal,
    start,
    stop,
)
from tests.support.wal_build import CLIENT, Appender, put


def test_new_database_is_empty_and_opens_again(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    assert (logs.last_seq, logs.generation, held(logs)) == (0, 1, [])
    assert logs.wal.capacity == WAL_BYTES
    stop(logs)
    again = start(fs, path)
    assert (again.last_seq, again.generation) == (0, 2)
    assert again.wal.number > logs.wal.number
    stop(again)
    wal_files = [name for name in os.listdir(path) if name.endswith(".wal")]
    assert wal_files == [f"{again.wal.number:06d}.wal"]


def test_records_and_outcomes_come_back_across_files(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    first = Appender(logs.wal, 1)
    first.batch(put(b"a", b"1"), put(b"b", b"2"))
    first.batch(wal.Operation(wal.OpKind.RANGE_DELETE, b"a", b""))
    second = rotate_wal(fs, path, logs, first, logs.next_file_number)
    for i in range(5):
        second.batch(put(b"c%d" % i))
    second.wal.file.close()
    logs.manifest.close()
    again = start(fs, path)
    want = [(seq, ops) for seq, ops, _ in first.appended + second.appended]
    assert held(again) == want
    assert again.last_seq == 8
    assert again.record_count == 7
    # The last request says that those below 4 have been answered.
    assert sorted(again.outcomes[CLIENT]) == [4, 5, 6, 7]
    assert again.outcomes[CLIENT][7] == Outcome(CLIENT, 7, 4, 8, 1, b"r7")
    stop(again)
    assert reopen(tmp_path / "db") == want


def test_outcomes_of_the_manifest_are_kept_and_forgotten(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    other = b"client-000000002"
    logs.manifest.append(
        VersionEdit(outcomes=(Outcome(CLIENT, 1, 1, 1, 1), Outcome(other, 7, 5, 3, 1, b"x")))
    )
    appender = Appender(logs.wal, 1, request_no=5)
    appender.batch(put(b"a"))
    stop(logs)
    again = start(fs, path)
    assert sorted(again.outcomes) == [CLIENT, other]
    assert sorted(again.outcomes[CLIENT]) == [5]
    assert again.outcomes[other] == {7: Outcome(other, 7, 5, 3, 1, b"x")}
    stop(again)


def test_replay_fills_several_small_memtables(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    appender = Appender(logs.wal, 1)
    for i in range(20):
        appender.batch(put(b"key%02d" % i, b"v" * 20))
    stop(logs)
    want = [(seq, ops) for seq, ops, _ in appender.appended]
    again = start(fs, path, room_bytes=500)
    assert len(again.memtables) > 3
    assert held(again) == want
    assert set(again.frozen_ends) == {number for number, _ in again.memtables[:-1]}
    more = Appender(again.wal, again.last_seq + 1, offset=0)
    more.batch(put(b"more"))
    stop(again)
    assert reopen(tmp_path / "db") == want + [(seq, ops) for seq, ops, _ in more.appended]


def test_a_batch_that_fits_no_memtable_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    appender = Appender(logs.wal, 1)
    appender.batch(put(b"key", b"v" * 200))
    stop(logs)
    with pytest.raises(StorageError, match="memtable_bytes"):
        start(fs, path, room_bytes=100)
    assert len(reopen(tmp_path / "db")) == 1


def test_recycled_file_shows_nothing_of_its_former_life(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    old = Appender(logs.wal, 1)
    for i in range(10):
        old.batch(put(b"old%d" % i))
    number = logs.next_file_number
    new = rotate_wal(fs, path, logs, old, number)
    new.batch(put(b"new"))
    new.sync()
    logs.manifest.append(VersionEdit(log_number=number, next_file_number=number + 2))
    recycle_wal(
        fs,
        DIR(path),
        old_number=old.wal.number,
        number=number + 1,
        owner=owner(logs),
        base_seq=1,
        clock=ManualClock(),
        rng=SeededRng(5),
    )
    opening = wal.Opening(new.next_seq, 1, number, new.offset)
    opened = activate(fs, DIR(path), number=number + 1, owner=owner(logs), opening=opening)
    newest = Appender(opened, new.next_seq)
    newest.batch(put(b"newest"))
    new.wal.file.close()
    newest.wal.file.close()
    logs.manifest.close()
    want = [(seq, ops) for seq, ops, _ in new.appended + newest.appended]
    assert reopen(tmp_path / "db") == want


@pytest.mark.parametrize("lost", ["tail", "header", "file"])
def test_damage_to_any_file_but_the_newest_is_corruption(tmp_path: Path, lost: str) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "db")
    logs = start(fs, path)
    old = Appender(logs.wal, 1)
    for i in range(3):
        old.batch(put(b"%d" % i))
    new = rotate_wal(fs, path, logs, old, logs.next_file_number)
    new.batch(put(b"new"))
    new.wal.file.close()
    logs.manifest.close()
    name = DIR(path).file(FileKind.WAL, old.wal.number)
    if lost == "file":
        os.unlink(name)
    else:
        with open(name, "r+b") as file:
            file.seek(old.appended[-1][2] - 1 if lost == "tail" else 20)
            file.write(b"\xff")
    with pytest.raises(CorruptionError) as caught:
        start(fs, path)
    assert caught.value.path == name


def test_foreign_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotADatabaseError, match=r"notes\.txt"):
        start(RealFileSystem(), str(tmp_path))
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_lost_current_is_corruption_and_no_new_database(tmp_path: Path) -> None:
    stop(start(RealFileSystem(), str(tmp_path)))
    (tmp_path / "CURRENT").unlink()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CorruptionError):
        start(RealFileSystem(), str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_missing_directory_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(NotADatabaseError):
        open_state(RealFileSystem(), str(tmp_path / "absent"))


def test_missing_table_is_named(tmp_path: Path) -> None:
    logs = start(RealFileSystem(), str(tmp_path))
    table = TableMeta(0, 77, 100, 1, b"a", b"b", 1, 1)
    logs.manifest.append(VersionEdit(added=(table,), next_file_number=78))
    stop(logs)
    with pytest.raises(CorruptionError, match=r"000077\.sst"):
        start(RealFileSystem(), str(tmp_path))


def test_orphans_are_removed_and_after_an_anomaly_moved_aside(tmp_path: Path) -> None:
    stop(start(RealFileSystem(), str(tmp_path)))
    for name in ("000050.sst", "000051.sst.tmp"):
        (tmp_path / name).write_bytes(b"x")
    logs = start(RealFileSystem(), str(tmp_path))
    assert not (tmp_path / "000050.sst").exists()
    assert logs.next_file_number > 51
    stop(logs)
    (tmp_path / "000090.sst").write_bytes(b"x")
    with open(tmp_path / "MANIFEST-000001", "ab") as file:
        file.write(b"\x01" * 20)
    logs = start(RealFileSystem(), str(tmp_path))
    assert (tmp_path / "lost" / "000090.sst").read_bytes() == b"x"
    assert logs.manifest.number != 1
    assert logs.next_file_number > 90
    stop(logs)
    assert not (tmp_path / "MANIFEST-000001").exists()
    assert reopen(tmp_path) == []


def test_damage_to_the_edit_of_a_generation_with_commits_is_corruption(tmp_path: Path) -> None:
    logs = start(RealFileSystem(), str(tmp_path))
    appender = Appender(logs.wal, 1)
    appender.batch(put(b"precious"))
    appender.sync()
    stop(logs)
    manifest = tmp_path / "MANIFEST-000001"
    content = bytearray(manifest.read_bytes())
    content[-1] ^= 1
    manifest.write_bytes(content)
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(CorruptionError, match="MANIFEST-000001"):
        start(RealFileSystem(), str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == names


def test_full_disk_while_preparing_leaves_no_file_and_can_be_tried_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    fs = SimFileSystem(str(root))
    path = str(root / "db")
    logs = start(fs, path)
    number = logs.next_file_number
    for step in range(4):
        fs.fail(fs.call_count + 1 + step, errno.ENOSPC)
        with pytest.raises(StorageError):
            prepare(fs, path, logs, number)
        assert not [name for name in fs.list_dir(path) if name.startswith(f"{number:06d}")]
    prepare(fs, path, logs, number)
    assert fs.size(DIR(path).file(FileKind.WAL, number)) == WAL_BYTES
    stop(logs)


def prepare(fs: FileSystem, path: str, logs: RecoveredLogs[ListTarget], number: int) -> None:
    prepare_wal(
        fs,
        DIR(path),
        number=number,
        file_bytes=WAL_BYTES,
        owner=owner(logs),
        base_seq=1,
        clock=ManualClock(),
        rng=SeededRng(1),
    )
