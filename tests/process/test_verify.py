"""verify beside a running service, and without one. Method: real processes that write meanwhile."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import ferrisdb
from ferrisdb.exit_codes import ExitCode
from ferrisdb.shm.locks import DirectoryLock
from tests.support.databases import configure, opened, stop_service, wait_until
from tests.support.service import run

ROW_COUNT = 400


def fill(db: ferrisdb.Database, first: int, count: int) -> None:
    for number in range(first, first + count):
        db.put_many([(b"%d/%d" % (n, number), bytes(80)) for n in range(ROW_COUNT)])


def test_a_database_that_is_written_meanwhile_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "db"
    configure(
        path, memtable_bytes=1 << 18, table_bytes=1 << 16, level_base_bytes=1 << 17, block_bytes=512
    )
    with opened(path) as db, ferrisdb.open(path, durability="os") as other:
        stop = threading.Event()
        written = [0]

        def write() -> None:
            while not stop.is_set():
                fill(other, written[0], 1)
                written[0] += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(12):
                report = db.verify()
                assert report.is_clean and not report.notes, [str(f) for f in report.findings]
            wait_until(lambda: written[0] > 60)
            report = db.verify()
            assert report.is_clean and report.table_count > 0
        finally:
            stop.set()
            writer.join()
        done = run("verify", str(path), "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["is_clean"] is True


def test_damage_has_an_exit_code_of_its_own_and_a_line(tmp_path: Path) -> None:
    path = tmp_path / "db"
    configure(path, memtable_bytes=1 << 18)
    with opened(path) as db:
        fill(db, 0, 30)
        db.compact()
        db.put(b"last", b"value", durability="sync")
    assert run("verify", str(path)).returncode == 0
    table = sorted(path.glob("*.sst"))[0]
    stored = bytearray(table.read_bytes())
    stored[5000] ^= 1
    table.write_bytes(stored)
    done = run("verify", str(path))
    assert done.returncode == ExitCode.CORRUPT
    first, *_, last = done.stdout.decode().splitlines()
    assert first.startswith(f"error: {table.name}, byte 4096: ") and "1 errors" in last
    # The same beside a service.
    with ferrisdb.open(path) as db:
        (error,) = db.verify().errors
        assert error.offset == 4096
        assert run("verify", str(path)).returncode == ExitCode.CORRUPT
    stop_service(path)


def test_what_is_no_database_has_its_code(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"")
    assert run("verify", str(tmp_path)).returncode == ExitCode.NOT_OURS


def test_nobody_starts_while_files_are_checked(tmp_path: Path) -> None:
    first, second, coordinator = (DirectoryLock(tmp_path) for _ in range(3))
    assert first.try_share() and not (tmp_path / "LOCK").exists()
    with coordinator:
        assert not second.try_share()
    assert first.try_share() and second.try_share()
    assert not coordinator.try_acquire()
    first.release()
    second.release()
    assert coordinator.try_acquire()
    coordinator.release()
