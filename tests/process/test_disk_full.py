"""A full disk, and a full /dev/shm, under a real service: writers are told, readers go on.

Method: a database on a tmpfs of a few MiB that a ballast file fills, leaving more or fewer pages,
so that space ends in WAL files, in tables, in the MANIFEST or beside them; another process scans
all the time. At the end of each shortage writes must be accepted again, by the same service. Which
call lacks space is told exactly in tests/sim/test_full_disk.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb import errors
from tests.support import databases
from tests.support.service import ROOT, environment
from tests.support.small_disk import (
    PAGE_BYTES,
    SmallDisk,
    in_namespace,
    may_mount,
    reading,
    small_disk,
    value_of,
)

SMALL = 256 << 10
MOUNTS = may_mount()
needs_mounts = pytest.mark.skipif(not MOUNTS, reason="run below in a namespace that may mount")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 24 MiB."""
    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        yield disk


def put_until_refused(
    db: ferrisdb.Database, first: int, disk: SmallDisk, leave_bytes: int = 0
) -> int:
    """Fill the disk and write rows until space is lacking; returns the number of the refused."""
    number = first
    with pytest.raises(errors.DiskFullError, match="free some space"):
        while number < first + 100_000:
            key = b"%06d" % number
            if number % 200 == first % 200:
                # Again and again, for a compaction under way gives space back.
                disk.fill(leave_bytes)
            begun = time.monotonic()
            try:
                db.put(key, value_of(key))
            finally:
                # Whatever the answer is, there is one long before the time-out.
                assert time.monotonic() - begun < databases.TIMEOUT_S / 2
            number += 1
    return number


def put_again(db: ferrisdb.Database, number: int) -> None:
    """Write the row that was refused, until it is accepted."""
    key = b"%06d" % number

    def accepted() -> bool:
        try:
            db.put(key, value_of(key))
        except errors.DiskFullError:
            return False
        return True

    assert db.get(key) is None
    databases.wait_until(accepted)


@needs_mounts
@pytest.mark.parametrize("durability", ["os", "sync"])
def test_a_full_disk_refuses_writers_alone_and_passes_by_itself(
    disk: SmallDisk, durability: str
) -> None:
    path = disk.directory / "db"
    databases.configure(path, memtable_bytes=SMALL, table_bytes=1 << 20)
    number, shortages = 0, 0
    with databases.opened(path, durability=durability) as db:
        pid = databases.coordinator_pid(path)
        with reading(path):
            for leave_pages in (0, 1, 2, 5, 40, 60, 80):
                databases.wait_until_prepared(path)
                number = put_until_refused(db, number, disk, leave_pages * PAGE_BYTES)
                shortages += 1
                assert db.stats()["state"] == "disk full"
                # Who comes now is served too.
                with ferrisdb.open(path, start=False) as other:
                    assert other.get(b"%06d" % (number - 1)) is not None
                    assert other.get(b"%06d" % number) is None
                disk.free()
                freed = time.monotonic()
                put_again(db, number)
                assert time.monotonic() - freed < 10, "a matter of three seconds, if not loaded"
                number += 1
                databases.wait_until(lambda: db.stats()["state"] == "running")
        assert [key for key, _ in db.scan()] == [b"%06d" % n for n in range(number)]
        db.compact()
        assert databases.coordinator_pid(path) == pid
    log = (path / "service.log").read_text()
    begins, ends = log.count("no space: "), log.count("there is space again")
    assert shortages <= begins == ends <= 3 * shortages, log
    with databases.opened(path) as db:
        assert [key for key, _ in db.scan()] == [b"%06d" % n for n in range(number)]


@needs_mounts
def test_a_compaction_that_lacks_space_is_done_when_there_is_some(disk: SmallDisk) -> None:
    path = disk.directory / "db"
    databases.configure(
        path, memtable_bytes=4 << 20, table_bytes=1 << 20, compaction_bytes_per_s=1 << 20
    )
    with databases.opened(path) as db, reading(path):
        pid = databases.coordinator_pid(path)
        for number in range(8000):
            key = b"%06d" % number
            db.put(key, value_of(key))
        compacting = threading.Thread(target=db.compact)
        compacting.start()
        # Slow as it is, it is amid its tables: the flush before it is over.
        databases.wait_until(
            lambda: len(db.stats()["memtables"]) == 1 and any(path.glob("*.sst.tmp"))
        )
        disk.fill()
        databases.wait_until(lambda: db.stats()["state"] == "disk full")
        assert db.get(b"000017") == value_of(b"000017")
        assert compacting.is_alive()
        disk.free()
        compacting.join(databases.TIMEOUT_S)
        assert not compacting.is_alive()
        assert db.stats()["state"] == "running"
        assert databases.coordinator_pid(path) == pid
        assert len(db) == 8000


@needs_mounts
def test_a_service_stops_cleanly_on_a_full_disk(disk: SmallDisk) -> None:
    path = disk.directory / "db"
    databases.configure(path, memtable_bytes=SMALL)
    with databases.opened(path) as db:
        databases.wait_until_prepared(path)
        number = put_until_refused(db, 0, disk)
        db.close()
        databases.stop_service(path)
        assert "Traceback" not in (path / "service.log").read_text()
        disk.free()
        with ferrisdb.open(path) as again:
            assert len(again) == number


@needs_mounts
def test_full_shared_memory_refuses_writers_alone_and_passes_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "db"
    databases.configure(path, memtable_bytes=SMALL)
    shell = f'mount -t tmpfs -o size={16 << 20} tmpfs /dev/shm && exec "$@"'
    ran = subprocess.run(
        in_namespace(
            "sh", "-c", shell, "sh", sys.executable, "-m", "tests.support.full_memory", str(path)
        ),
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=120,
    )
    assert ran.stdout == b"lived through it", ran.stderr.decode()


def test_without_privileges_the_same_holds_in_a_namespace() -> None:
    if MOUNTS:
        return  # the tests above have run
    probe = subprocess.run(in_namespace("mount", "-t", "tmpfs", "tmpfs", "/mnt"))
    if probe.returncode:
        pytest.skip("this kernel lets users make no namespaces, so there is no way to mount")
    ran = subprocess.run(
        in_namespace(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__),
        capture_output=True,
        env=environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=ROOT,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout.decode()
    assert os.getuid() != 0
