"""LOCK: one holder, released by death. Method: real processes, killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ferrisdb.errors import AlreadyRunningError, UnsupportedFileSystemError
from ferrisdb.shm.locks import DirectoryLock, check_file_system, describe_holder, file_system_of
from tests.support import shm_child


def test_second_holder_is_refused_even_in_this_process(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    assert first.try_acquire() and first.try_acquire()
    assert not second.try_acquire()
    with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()} started 20"):
        second.acquire()
    assert DirectoryLock.is_held(tmp_path)
    first.release()
    first.release()
    assert not DirectoryLock.is_held(tmp_path)
    with second:
        assert second.is_acquired
    assert not second.is_acquired


def test_asking_does_not_take_or_drop_the_lock(tmp_path: Path) -> None:
    assert not DirectoryLock.is_held(tmp_path)
    assert not (tmp_path / "LOCK").exists()
    with DirectoryLock(tmp_path):
        assert DirectoryLock.is_held(tmp_path)
        assert DirectoryLock.is_held(tmp_path)
        assert not DirectoryLock(tmp_path).try_acquire()


def test_killed_holder_lets_go(tmp_path: Path) -> None:
    child, said = shm_child.start("lock", tmp_path)
    assert said == "True"
    lock = DirectoryLock(tmp_path)
    assert not lock.try_acquire()
    assert f"pid {child.pid} " in describe_holder(lock.path)
    shm_child.stop(child, kill=True)
    assert lock.try_acquire()
    lock.release()


def test_hostile_lock_text_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "LOCK").write_bytes(b"\x1b[31mpid" * 1000)
    assert describe_holder(str(tmp_path / "LOCK")) == "pid unknown"
    assert describe_holder(str(tmp_path / "absent")) == "pid unknown"


MOUNTS = rb"""
22 1 8:1 / / rw shared:1 - ext4 /dev/root rw
30 22 0:30 / /net rw - nfs4 server:/x rw
31 30 0:31 / /net/local\040disk rw shared:2 master:1 - xfs /dev/b rw
32 22 0:32 / /over rw - ext4 /dev/c rw
33 22 0:33 / /over rw - cifs //s/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/network", "ext4"),
        ("/net", "nfs4"),
        ("/net/a/b", "nfs4"),
        ("/net/local disk/a", "xfs"),
        ("/over/a", "cifs"),
    ],
)
def test_file_system_is_that_of_the_innermost_last_mount(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind


def test_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(MOUNTS)
    with pytest.raises(UnsupportedFileSystemError, match="nfs4"):
        check_file_system("/net/a", str(mounts))
    check_file_system("/net/local disk", str(mounts))
    check_file_system("/net/a", str(tmp_path / "absent"))
    check_file_system(tmp_path)
    check_file_system("/dev/shm")
