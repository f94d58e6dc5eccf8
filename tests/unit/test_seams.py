"""The door to the operating system: typed errors, and no write after a failed one."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from ferrisdb.errors import AccessError, ClosedError, DiskFullError, StorageError
from ferrisdb.seams import RealClock, RealFile, RealFileSystem, RealRng, storage_error


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EACCES, AccessError),
        (errno.EPERM, AccessError),
        (errno.EROFS, AccessError),
        (errno.EIO, StorageError),
        (errno.ELOOP, StorageError),
    ],
)
def test_errors_are_typed_and_keep_number_and_name(number: int, kind: type[StorageError]) -> None:
    error = storage_error(OSError(number, "x"), "/db/000001.wal")
    assert type(error) is kind
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert (one.errno, one.filename) == (number, "/db/000001.wal")
        assert os.strerror(number) in str(one)


def test_a_full_device_is_a_full_disk_and_leaves_the_file_in_use() -> None:
    file = RealFile("/dev/full", os.O_RDWR)
    for _ in range(2):
        with pytest.raises(DiskFullError, match="free some space"):
            file.append(b"x")
    assert not file.poisoned
    file.close()


def test_a_sync_that_lacks_space_is_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RealFileSystem().create(str(tmp_path / "f"))

    def failing(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr("ferrisdb.seams._datasync", failing)
    with pytest.raises(StorageError) as found:
        file.datasync()
    assert type(found.value) is StorageError and file.poisoned
    file.close()


def test_failed_sync_poisons_and_is_never_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RealFileSystem().create(str(tmp_path / "f"))
    calls: list[int] = []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr("ferrisdb.seams._datasync", failing)
    file.append(b"1")
    with pytest.raises(StorageError):
        file.datasync()
    for act in (file.datasync, lambda: file.append(b"2"), lambda: file.truncate(0)):
        with pytest.raises(StorageError, match="restart"):
            act()
    assert len(calls) == 1
    assert file.pread(9, 0) == b"1"
    file.close()


def test_reading_and_writing(tmp_path: Path) -> None:
    fs = RealFileSystem()
    path = str(tmp_path / "f")
    file = fs.create(path)
    assert [file.append(b"abc"), file.append(memoryview(b"def"))] == [0, 3]
    file.pwrite(b"X", 1)
    assert file.pread(100, 2) == b"cdef"
    file.start_sync()
    file.allocate_zeroed((1 << 20) + 5)
    assert file.size() == fs.size(path) == (1 << 20) + 5
    file.truncate(6)
    file.datasync()
    assert fs.read_all(path) == b"aXcdef"
    assert os.stat(path).st_mode & 0o777 == 0o600
    file.close()
    file.close()
    with pytest.raises(ClosedError):
        file.fileno()


def test_names(tmp_path: Path) -> None:
    fs = RealFileSystem()
    inner = str(tmp_path / "d")
    fs.mkdir(inner)
    fs.create(f"{inner}/a").close()
    with pytest.raises(StorageError) as caught:
        fs.create(f"{inner}/a")
    assert caught.value.errno == errno.EEXIST
    fs.link(f"{inner}/a", f"{inner}/b")
    fs.rename(f"{inner}/a", f"{inner}/c")
    fs.sync_dir(inner)
    assert fs.list_dir(inner) == ["b", "c"]
    fs.unlink(f"{inner}/b")
    assert not fs.exists(f"{inner}/b")
    for act in (fs.open_read, fs.open_rw, fs.unlink, fs.size, fs.list_dir, fs.sync_dir):
        with pytest.raises(StorageError) as caught:
            act(f"{inner}/absent")
        assert caught.value.errno == errno.ENOENT


def test_a_file_that_shrinks_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345678")
    monkeypatch.setattr(RealFile, "size", lambda self: 9)
    with pytest.raises(StorageError, match="shrank"):
        RealFileSystem().read_all(str(path))


def test_clock_and_rng() -> None:
    assert RealClock().wall_us() > 1_700_000_000_000_000
    assert RealClock().monotonic_ns() <= RealClock().monotonic_ns()
    assert len(RealRng().bytes(5)) == 5
    assert 0 <= RealRng().u64() < 1 << 64
