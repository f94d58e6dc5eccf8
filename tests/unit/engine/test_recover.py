"""Recovery keeps what was promised, whatever happened between two calls.

Method: a small database on the simulated file system, with memtables that are plain lists; the
directory is opened again after each step, after a process crash or a power cut at any call.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from ferrisdb.engine.open import create_database, open_state
from ferrisdb.engine.recover import RecoveredLogs, recover_logs
from ferrisdb.engine.wal_files import WalOwner, activate, prepare_wal, recycle_wal
from ferrisdb.errors import (
    CorruptionError,
    DiskFullError,
    NotADatabaseError,
    StorageError,
)
from ferrisdb.format import wal
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.seams import FileSystem, RealFileSystem
from tests.support.fakes import ManualClock, SeededRng
from tests.support.replay import ListTarget
from tests.support.simfs import SimFileSystem, Survival
from tests.support.wal_build import CLIENT, Appender, put

WAL_BYTES = 8192


def start(
    fs: FileSystem, path: str, *, room_bytes: int = 1 << 30, seed: int = 0
) -> RecoveredLogs[ListTarget]:
    clock, rng = ManualClock(), SeededRng(seed)
    create_database(fs, path, clock, rng)
    return recover_logs(
        fs,
        open_state(fs, path),
        make_memtable=lambda number: ListTarget(number, room_bytes),
        wal_bytes=WAL_BYTES,
        clock=clock,
        rng=rng,
    )


def stop(logs: RecoveredLogs[ListTarget]) -> None:
    logs.wal.file.close()
    logs.manifest.close()


def held(logs: RecoveredLogs[ListTarget]) -> list[tuple[int, bytes]]:
    return [record for _, memtable in logs.memtables for record in memtable.records]


def owner(logs: RecoveredLogs[ListTarget]) -> WalOwner:
    return WalOwner(logs.manifest.database_id, logs.generation)


def rotate_wal(
    fs: FileSystem, path: str, logs: RecoveredLogs[ListTarget], old: Appender, number: int
) -> Appender:
    # As a coordinator rotates: successor prepared ahead, predecessor synced, then opened.
    prepare_wal(
        fs,
        DIR(path),
        number=number,
        file_bytes=WAL_BYTES,
        owner=owner(logs),
        base_seq=1,
        clock=ManualClock(),
        rng=SeededRng(number),
    )
    old.sync()
    opening = wal.Opening(old.next_seq, old.time_us, old.wal.number, old.offset)
    new = Appender(
        activate(fs, DIR(path), number=number, owner=owner(logs), opening=opening), old.next_seq
    )
    new.request_no = old.request_no
    old.wal.file.close()
    return new


def reopen(path: Path, fs: FileSystem | None = None) -> list[tuple[int, bytes]]:
    logs = start(fs or RealFileSystem(), str(path), seed=9)
    found = held(logs)
    stop(logs)
    return found


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
    for step in range(3):
        fs.fail(fs.call_count + 1 + step, errno.ENOSPC)
        with pytest.raises(DiskFullError):
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


def history(fs: SimFileSystem, path: str) -> list[tuple[int, int, bytes]]:
    """Live through starts, commits, a rotation and a flush; return what was promised.

    Returns: (index of the call from which on the batch was promised, first_seq, operations).
    """
    promised: list[tuple[int, int, bytes]] = []

    def promise(appender: Appender, done: int) -> int:
        appender.sync()
        promised.extend((fs.call_count, seq, ops) for seq, ops, _ in appender.appended[done:])
        return len(appender.appended)

    logs = start(fs, path)
    one = Appender(logs.wal, 1)
    done = 0
    for i in range(4):
        one.batch(put(b"one%d" % i, b"v" * 40), raw=i % 2 == 0)
        done = promise(one, done)
    one.batch(put(b"one-os"))
    number = logs.next_file_number
    two = rotate_wal(fs, path, logs, one, number)
    promised.extend((fs.call_count, seq, ops) for seq, ops, _ in one.appended[done:])
    done = 0
    for i in range(3):
        two.batch(put(b"two%d" % i, b"v" * 40))
        done = promise(two, done)
    two.batch(put(b"two-os"))
    stop(logs)
    two.wal.file.close()
    again = start(fs, path, room_bytes=400, seed=3)
    # What the restarted service shows is durable, whatever its level was.
    promised.extend((fs.call_count, seq, ops) for seq, ops, _ in two.appended[done:])
    three = Appender(again.wal, again.last_seq + 1)
    done = 0
    for i in range(3):
        three.batch(put(b"three%d" % i))
        done = promise(three, done)
    logs.manifest.close()
    again.manifest.rotate(
        number=again.next_file_number,
        snapshot=VersionEdit(
            database_id=again.manifest.database_id,
            next_file_number=again.next_file_number + 1,
            last_seq=again.last_seq,
            log_number=again.memtables[0][0],
            generation=again.generation,
        ),
        clock=ManualClock(),
    )
    three.batch(put(b"last"))
    promise(three, done)
    stop(again)
    return promised


def check_cut(
    fs: SimFileSystem,
    promised: list[tuple[int, int, bytes]],
    index: int,
    target: Path,
    survival: Survival,
    rng: random.Random,
) -> None:
    fs.materialise(index, str(target), survival, rng)
    found = reopen(target / "db", SimFileSystem(str(target)))
    must = [(seq, ops) for at, seq, ops in promised if at <= index]
    all_of_them = [(seq, ops) for _, seq, ops in promised]
    assert found[: len(must)] == must, f"lost at call {index} ({survival})"
    assert found == all_of_them[: len(found)], f"invented at call {index} ({survival})"


@pytest.fixture
def lived(tmp_path: Path) -> tuple[SimFileSystem, list[tuple[int, int, bytes]]]:
    root = tmp_path / "root"
    root.mkdir()
    fs = SimFileSystem(str(root))
    return fs, history(fs, str(root / "db"))


@pytest.mark.parametrize("survival", list(Survival))
def test_power_cut_at_every_call_keeps_what_was_promised(
    lived: tuple[SimFileSystem, list[tuple[int, int, bytes]]], tmp_path: Path, survival: Survival
) -> None:
    fs, promised = lived
    for index in range(fs.call_count + 1):
        for seed in range(3 if survival is Survival.RANDOM else 1):
            rng = random.Random(index * 10 + seed)
            check_cut(fs, promised, index, tmp_path / f"{index}-{seed}", survival, rng)


def test_power_cut_at_every_call_of_a_recovery_keeps_everything(
    lived: tuple[SimFileSystem, list[tuple[int, int, bytes]]], tmp_path: Path
) -> None:
    fs, promised = lived
    first = tmp_path / "first"
    fs.materialise(fs.call_count, str(first), Survival.NOTHING)
    inner = SimFileSystem(str(first))
    stop(start(inner, str(first / "db"), room_bytes=400, seed=21))
    want = [(seq, ops) for _, seq, ops in promised]
    assert len(want) == 13
    for index in range(inner.call_count + 1):
        for seed in range(4):
            target = tmp_path / f"{index}-{seed}"
            kind = (Survival.NOTHING, Survival.EVERYTHING, Survival.RANDOM)[min(seed, 2)]
            inner.materialise(index, str(target), kind, random.Random(index * 10 + seed))
            assert reopen(target / "db", SimFileSystem(str(target))) == want


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_failure_of_any_call_of_a_start_is_typed_and_loses_nothing(
    lived: tuple[SimFileSystem, list[tuple[int, int, bytes]]], tmp_path: Path, number: int
) -> None:
    fs, promised = lived
    want = [(seq, ops) for _, seq, ops in promised]
    index = 0
    while True:
        target = tmp_path / f"{index}"
        fs.materialise(fs.call_count, str(target), Survival.NOTHING)
        inner = SimFileSystem(str(target))
        inner.fail(index, number)
        try:
            stop(start(inner, str(target / "db"), seed=4))
        except StorageError as error:
            assert isinstance(error, DiskFullError) is (number == errno.ENOSPC)
            assert error.filename
        else:
            assert index >= inner.call_count - 1
            break
        assert reopen(target / "db") == want
        index += 1
    assert index > 8


def survivals(fs: SimFileSystem, index: int) -> list[Survival]:
    # The order of two names matters in the one instant between a rename and its sync.
    tries = 16 if index and fs.calls[index - 1].kind == "rename" else 3
    return [Survival.NOTHING] + [Survival.RANDOM] * tries


def test_every_sync_is_needed(
    lived: tuple[SimFileSystem, list[tuple[int, int, bytes]]], tmp_path: Path
) -> None:
    whole, promised_by_it = lived
    assert not loses_something(whole, promised_by_it, tmp_path, -1)
    sites = whole.sync_sites()
    assert len(sites) > 8
    needless = []
    for number, (kind, site) in enumerate(sites):
        root = tmp_path / f"site-{number}"
        root.mkdir()
        fs = SimFileSystem(str(root))
        fs.ignore_sync(kind, site=site)
        promised = history(fs, str(root / "db"))
        if not loses_something(fs, promised, tmp_path, number):
            needless.append((kind, site))
    assert needless == []


def loses_something(
    fs: SimFileSystem, promised: list[tuple[int, int, bytes]], tmp_path: Path, number: int
) -> bool:
    for index in range(fs.call_count, 0, -1):
        for seed, survival in enumerate(survivals(fs, index)):
            target = tmp_path / f"cut-{number}-{index}-{seed}"
            try:
                check_cut(fs, promised, index, target, survival, random.Random(index + seed))
            except (AssertionError, CorruptionError, NotADatabaseError):
                return True
    return False
