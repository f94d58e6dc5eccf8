"""Build a checkpoint. Method: open what was built; a power cut and a failure before every call."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ferrisdb.engine.checkpoint import PinnedVersion, build_checkpoint
from ferrisdb.engine.flush import flush_memtable
from ferrisdb.engine.open import DatabaseState, open_state
from ferrisdb.errors import StorageError
from ferrisdb.format.filenames import DIR
from ferrisdb.format.wal import Operation, OpKind, encode_operations
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.table import Table
from ferrisdb.seams import FileSystem, RealClock, RealFileSystem, RealRng
from tests.support.memtables import fill, put
from tests.support.simfs import SimFileSystem, Survival

ID = bytes(range(16))
SEQ = 40


def pinned(root: Path) -> PinnedVersion:
    """Make a "database" of one table at level 3 and a memtable whose commits go beyond SEQ."""
    home = DIR(str(root / "db"))
    os.mkdir(home.path)
    old = fill(bytearray(1 << 18), [put(b"k%02d" % n, b"old") for n in range(30)], number=3)
    flush_memtable(
        old,
        RealFileSystem(),
        home,
        file_number=4,
        database_id=ID,
        created_us=1,
        gc_floor=30,
        block_bytes=256,
    )
    table = Table(f"{home.path}/000004.sst")
    rest = [put(b"k%02d" % (n % 10), b"new%d" % n) for n in range(31, 38)]
    rest += [Operation(OpKind.RANGE_DELETE, b"k20", b"k25"), put(b"kept", b"at 39")]
    rest += [put(b"last", b"at 40"), put(b"late", b""), Operation(OpKind.RANGE_DELETE, b"", b"")]
    # Sequences go on from the table's: 31 is the first.
    writer = fill(bytearray(1 << 18), (), number=7)
    writer.apply(encode_operations(tuple(rest)), len(rest), 31)
    writer.link_all()
    memtable: Memtable = writer
    properties = table.properties
    table.close()
    return PinnedVersion(home, SEQ, [memtable], [(3, properties)])


def build(fs: FileSystem, source: PinnedVersion, path: str, **how: Callable[[], None]) -> None:
    build_checkpoint(fs, source, path, clock=RealClock(), rng=RealRng(), **how)


def check(path: str) -> DatabaseState:
    """See that what stands there is a database with what was visible at SEQ."""
    state = open_state(RealFileSystem(), path)
    assert state.database_id != ID
    assert (state.last_seq, state.generation, state.wal_numbers) == (SEQ, 0, ())
    new, old = state.version.tables()
    assert [(one.level, one.number) for one in (new, old)] == [(0, 7), (3, 4)]
    assert (new.max_seq, new.range_delete_count, old.entry_count) == (SEQ, 1, 30)
    table = Table(f"{path}/000007.sst", file_number=7)
    table.verify()
    assert table.get(b"last", 99) == (SEQ, int(OpKind.PUT), 0, b"at 40")
    assert table.get(b"late", 99) is None
    table.close()
    return state


def test_tables_are_linked_and_memtables_written_up_to_the_sequence(tmp_path: Path) -> None:
    source = pinned(tmp_path)
    target = tmp_path / "copy"
    target.mkdir()
    build(RealFileSystem(), source, str(target))
    state = check(str(target))
    assert sorted(os.listdir(target)) == ["000004.sst", "000007.sst", "CURRENT", "MANIFEST-000008"]
    assert state.next_file_number == 9
    assert os.path.samefile(target / "000004.sst", tmp_path / "db" / "000004.sst")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_tables_are_copied_where_they_cannot_be_linked(tmp_path: Path, number: int) -> None:
    source = pinned(tmp_path)
    target = tmp_path / "copy"
    target.mkdir()
    fs = SimFileSystem(str(tmp_path))
    fs.fail(fs.call_count, number)
    build(fs, source, str(target))
    check(str(target))
    copy, original = target / "000004.sst", tmp_path / "db" / "000004.sst"
    assert not os.path.samefile(copy, original)
    assert copy.read_bytes() == original.read_bytes()


def test_a_table_that_is_gone_is_told(tmp_path: Path) -> None:
    source = pinned(tmp_path)
    (tmp_path / "db" / "000004.sst").unlink()
    (tmp_path / "copy").mkdir()
    with pytest.raises(StorageError) as raised:
        build(RealFileSystem(), source, str(tmp_path / "copy"))
    assert raised.value.errno == errno.ENOENT


def test_the_caller_can_give_up(tmp_path: Path) -> None:
    source = pinned(tmp_path)
    (tmp_path / "copy").mkdir()

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        build(RealFileSystem(), source, str(tmp_path / "copy"), on_chunk=give_up)


@pytest.mark.parametrize("link", [True, False])
def test_after_a_power_cut_there_is_a_whole_checkpoint_or_none(tmp_path: Path, link: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    source = pinned(root)
    fs = SimFileSystem(str(root))
    fs.mkdir(f"{root}/copy.tmp")
    if not link:
        fs.fail(fs.call_count, errno.EXDEV)
    build(fs, source, f"{root}/copy.tmp")
    fs.rename(f"{root}/copy.tmp", f"{root}/copy")
    fs.sync_dir(str(root))
    seen = set()
    for index in range(fs.call_count + 1):
        for survival in Survival:
            image = tmp_path / f"cut-{index}-{survival.name}"
            fs.materialise(index, str(image), survival)
            there = (image / "copy").exists()
            seen.add(there)
            if there:
                check(str(image / "copy"))
    assert seen == {True, False}
    assert there, "it is durable when everything has returned"


def test_a_failure_of_any_call_leaves_no_current(tmp_path: Path) -> None:
    source = pinned(tmp_path)
    (tmp_path / "whole").mkdir()
    fs = SimFileSystem(str(tmp_path))
    build(fs, source, str(tmp_path / "whole"))
    failures = 0
    # Behind the switch of CURRENT there is only the sync of its name.
    for index in range(fs.call_count - 1):
        target = tmp_path / f"copy-{index}"
        target.mkdir()
        failing = SimFileSystem(str(tmp_path))
        failing.fail(failing.call_count + index, errno.ENOSPC)
        with pytest.raises(StorageError):
            build(failing, source, str(target))
        failures += 1
        assert not (target / "CURRENT").exists()
    assert failures > 10
