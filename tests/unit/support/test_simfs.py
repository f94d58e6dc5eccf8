"""The simulated file system forgets what a power cut would, and nothing else."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from ferrisdb.errors import DiskFullError, StorageError
from tests.support.simfs import SimFileSystem, Survival


@pytest.fixture
def fs(tmp_path: Path) -> SimFileSystem:
    (tmp_path / "root").mkdir()
    return SimFileSystem(str(tmp_path / "root"))


def left(
    fs: SimFileSystem, survival: Survival, index: int | None = None, seed: int = 0
) -> dict[str, bytes]:
    """Return name -> content of what a power cut leaves at a call (or now)."""
    at = fs.call_count if index is None else index
    parent = Path(fs.root).parent
    target = parent / f"cut-{len(os.listdir(parent))}"
    fs.materialise(at, str(target), survival, random.Random(seed))
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }


def test_a_file_needs_its_sync_and_its_directory_s(fs: SimFileSystem) -> None:
    file = fs.create(f"{fs.root}/a")
    file.append(b"one")
    assert left(fs, Survival.NOTHING) == {}
    fs.sync_dir(fs.root)
    assert left(fs, Survival.NOTHING) == {"a": b""}
    file.datasync()
    file.append(b"two")
    assert left(fs, Survival.NOTHING) == {"a": b"one"}
    assert left(fs, Survival.EVERYTHING) == {"a": b"onetwo"}
    assert left(fs, Survival.NOTHING, index=3) == {"a": b""}
    assert left(fs, Survival.EVERYTHING, index=1) == {"a": b""}
    file.close()


def test_a_rename_is_all_or_nothing(fs: SimFileSystem) -> None:
    for name, content in (("old", b"1"), ("new", b"2")):
        file = fs.create(f"{fs.root}/{name}")
        file.append(content)
        file.datasync()
        file.close()
    fs.sync_dir(fs.root)
    fs.rename(f"{fs.root}/new", f"{fs.root}/old")
    before, after = {"old": b"1", "new": b"2"}, {"old": b"2"}
    seen = [left(fs, Survival.RANDOM, seed=seed) for seed in range(20)]
    assert before in seen
    assert after in seen
    assert all(one in (before, after) for one in seen)


def test_links_directories_and_unlink(fs: SimFileSystem) -> None:
    fs.mkdir(f"{fs.root}/d")
    file = fs.create(f"{fs.root}/a")
    file.append(b"x")
    file.datasync()
    file.close()
    fs.link(f"{fs.root}/a", f"{fs.root}/d/b")
    fs.sync_dir(fs.root)
    assert left(fs, Survival.NOTHING) == {"a": b"x"}
    fs.sync_dir(f"{fs.root}/d")
    fs.unlink(f"{fs.root}/a")
    assert left(fs, Survival.NOTHING) == {"a": b"x", "d/b": b"x"}
    fs.sync_dir(fs.root)
    assert left(fs, Survival.NOTHING) == {"d/b": b"x"}


def test_unsynced_pages_survive_in_any_order(fs: SimFileSystem) -> None:
    file = fs.create(f"{fs.root}/a")
    file.allocate_zeroed(4 * 4096)
    fs.sync_dir(fs.root)
    for page in range(4):
        file.pwrite(b"%d" % page * 4096, page * 4096)
    seen = set()
    for seed in range(60):
        content = left(fs, Survival.RANDOM, seed=seed)["a"]
        assert len(content) == 4 * 4096
        seen.add(tuple(content[page * 4096] for page in range(4)))
    # A later page without an earlier one, and the other way round.
    assert any(a == 0 and d != 0 for a, _, _, d in seen)
    assert any(a != 0 and d == 0 for a, _, _, d in seen)
    file.close()


def test_bytes_written_through_the_descriptor_are_noticed(fs: SimFileSystem) -> None:
    file = fs.create(f"{fs.root}/a")
    file.allocate_zeroed(8192)
    fs.sync_dir(fs.root)
    os.pwrite(file.fileno(), b"raw", 5000)
    assert left(fs, Survival.NOTHING)["a"] == bytes(8192)
    assert left(fs, Survival.EVERYTHING)["a"][5000:5003] == b"raw"
    file.datasync()
    assert left(fs, Survival.NOTHING)["a"][5000:5003] == b"raw"
    file.close()


def test_what_was_there_at_the_start_counts_as_synced(tmp_path: Path) -> None:
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "f").write_bytes(b"x")
    assert left(SimFileSystem(str(tmp_path / "root")), Survival.NOTHING) == {"d/f": b"x"}


def test_without_space_nothing_grows_and_files_stay_in_use(fs: SimFileSystem) -> None:
    file = fs.create(f"{fs.root}/a")
    file.append(b"1234")
    fs.fill(fs.call_count)
    with pytest.raises(DiskFullError):
        file.append(b"5678")
    with pytest.raises(DiskFullError):
        fs.create(f"{fs.root}/b")
    file.pwrite(b"X", 0)
    fs.free()
    file.truncate(4)
    file.append(b"9")
    file.datasync()
    fs.sync_dir(fs.root)
    assert left(fs, Survival.NOTHING) == {"a": b"X2349"}
    file.close()


def test_a_failed_call_is_typed_poisons_and_leaves_half(fs: SimFileSystem) -> None:
    file = fs.create(f"{fs.root}/a")
    fs.fail(fs.call_count, errno.EIO)
    with pytest.raises(StorageError):
        file.append(b"1234")
    with pytest.raises(StorageError):
        file.datasync()
    assert left(fs, Survival.EVERYTHING) == {"a": b"12"}
    fs.fail(fs.call_count, errno.EIO)
    with pytest.raises(StorageError):
        fs.sync_dir(fs.root)
    assert left(fs, Survival.NOTHING) == {}
    file.close()


def test_ignored_syncs_do_nothing(fs: SimFileSystem) -> None:
    here = f"{__name__}.test_ignored_syncs_do_nothing"
    fs.ignore_sync("datasync", site=here, ordinal=1)
    file = fs.create(f"{fs.root}/a")
    fs.sync_dir(fs.root)
    file.append(b"1")
    file.datasync()
    file.append(b"2")
    file.datasync()
    assert left(fs, Survival.NOTHING) == {"a": b"1"}
    file.datasync()
    assert left(fs, Survival.NOTHING) == {"a": b"12"}
    assert fs.sync_sites() == [("sync_dir", here), ("datasync", here)]
    file.close()
