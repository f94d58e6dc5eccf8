"""Checkpoints of a living database: whole, of one moment, and free of the original.

Method: tiny memtables and tables; writers in processes of their own, compaction all the while;
every checkpoint is opened as a database and compared.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ferrisdb.errors import UnavailableError, UsageError, WrongTypeError
from ferrisdb.exit_codes import ExitCode
from ferrisdb.kernel.table import Table
from ferrisdb.shm.locks import DirectoryLock
from tests.process.test_compaction import TINY, Load
from tests.support import stamping
from tests.support.databases import (
    configure,
    coordinator_pid,
    opened,
    stop_service,
    wait_until,
    wait_until_gone,
)
from tests.support.processes import python
from tests.support.service import environment, run, serving

NAMES = ("one", "two")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "db"
    configure(directory, **TINY)
    return directory


def rows_of(checkpoint: Path) -> dict[bytes, bytes]:
    """Open a checkpoint as a database and return what it holds; its service leaves."""
    with opened(checkpoint) as db:
        return dict(db.scan())


def tables_of(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("*.sst"))


def beside(target: Path) -> list[str]:
    """Return what was left beside a checkpoint."""
    return [name for name in os.listdir(target.parent) if ".tmp-" in name]


def test_checkpoint_is_one_moment_of_a_database_under_load(path: Path, tmp_path: Path) -> None:
    floors: list[dict[str, int]] = []
    with opened(path) as db, stamping.stamping(path, tmp_path, NAMES) as go_on:
        for n in range(4):
            db.put(b"mine", b"%d" % n, durability="async")
            floors.append(stamping.acknowledged(tmp_path, NAMES))
            db.checkpoint(tmp_path / f"copy{n}")
            go_on()
            if n == 2:
                db.compact()
    assert beside(tmp_path / "copy0") == []
    for n, floor in enumerate(floors):
        rows = rows_of(tmp_path / f"copy{n}")
        numbers = stamping.shown(rows, NAMES)
        for name in NAMES:
            assert numbers[name] >= floor[name] > 0
        assert rows[b"mine"] == b"%d" % n


def test_checkpoint_equals_the_model_and_goes_its_own_way(path: Path, tmp_path: Path) -> None:
    load, copy = Load(21), tmp_path / "copy"
    with opened(path) as db:
        load.write(db, 80)
        copy.mkdir()
        db.checkpoint(copy)
        then = dict(load.rows)
        load.write(db, 20)
        load.check(db)
        configure(copy, **TINY)
        with opened(copy) as other:
            assert dict(other.scan()) == then
            other.checkpoint(tmp_path / "second")
            other.clear()
            other.put(b"new", b"life")
            other.compact()
            assert dict(other.scan()) == {b"new": b"life"}
        load.check(db)
    shutil.rmtree(path)
    shutil.rmtree(copy)
    assert rows_of(tmp_path / "second") == then
    for file in tables_of(tmp_path / "second"):
        table = Table(file)
        table.verify()
        table.close()


def test_tables_that_a_checkpoint_shares_are_not_punched(path: Path, tmp_path: Path) -> None:
    load, copy = Load(22), tmp_path / "copy"
    with opened(path) as db:
        load.write(db, 80)
        db.compact()
        db.checkpoint(copy)
        then = dict(load.rows)
        blocks = {file: file.stat().st_blocks for file in tables_of(copy)}
        assert all(file.stat().st_nlink == 2 for file in blocks)
        for _ in range(3):
            load.write(db, 60)
            db.compact()
        # All of the original's names of these tables go; the checkpoint's are the last.
        wait_until(lambda: all(file.stat().st_nlink == 1 for file in blocks))
        time.sleep(0.3)  # a tick of the coordinator, in which it would punch
        assert {file: file.stat().st_blocks for file in blocks} == blocks
        load.check(db)
    for file in blocks:
        table = Table(file)
        table.verify()
        table.close()
    assert rows_of(copy) == then


def test_killed_in_the_middle_it_leaves_no_half_checkpoint(path: Path, tmp_path: Path) -> None:
    load, copy = Load(23), tmp_path / "copy"
    with opened(path) as db:
        load.write(db, 30)
        done = subprocess.run(
            python("tests.support.dying_checkpoint", path, copy),
            capture_output=True,
            env=environment(),
            timeout=120,
        )
        assert done.stderr == b""
        *deaths, last = done.stdout.decode().splitlines()
        assert last == "whole" and len(deaths) > 8
        # Only behind the rename the target is there; and each attempt clears the former's rest.
        assert deaths[:-1] == ["0 1"] * (len(deaths) - 1)
        assert deaths[-1] == "1 0"
        assert beside(copy) == []
    assert rows_of(copy) == load.rows


def test_it_goes_on_over_the_death_of_the_coordinator(path: Path, tmp_path: Path) -> None:
    load = Load(24)
    with opened(path) as db:
        load.write(db, 60)
        failed: list[BaseException] = []
        made: list[Path] = []
        stop = threading.Event()

        def checkpoints() -> None:
            try:
                while not stop.is_set():
                    made.append(tmp_path / f"copy{len(made)}")
                    db.checkpoint(made[-1])
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=checkpoints)
        thread.start()
        wait_until(lambda: len(made) > 2 or bool(failed))
        os.kill(coordinator_pid(path), signal.SIGKILL)
        db.put(b"there", b"again")
        stop.set()
        thread.join()
        assert failed == []
        load.rows[b"there"] = b"again"
        db.checkpoint(tmp_path / "last")
    assert rows_of(tmp_path / "last") == load.rows
    assert rows_of(made[0]) == {k: v for k, v in load.rows.items() if k != b"there"}


def test_a_target_that_is_in_use_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with opened(path) as db:
        db.put(b"k", b"v")
        for name in ("full", "file", "link", "db", "db/inside", "absent/copy"):
            with pytest.raises(UsageError):
                db.checkpoint(tmp_path / name)
        with pytest.raises(WrongTypeError):
            db.checkpoint(b"bytes")  # type: ignore[arg-type]
        with pytest.raises(UnavailableError):
            db.checkpoint(tmp_path / "late", timeout=0)
    assert sorted(os.listdir(tmp_path)) == ["db", "file", "full", "link"]
    assert os.listdir(tmp_path / "full") == ["notes"]


def test_a_live_builder_is_left_alone_and_a_dead_ones_rest_goes(path: Path, tmp_path: Path) -> None:
    live, dead = tmp_path / f"copy.tmp-{1:016x}", tmp_path / f"copy.tmp-{2:016x}"
    for folder in (live, dead):
        folder.mkdir()
        (folder / "LOCK").touch()
    foreign = tmp_path / "copy.tmp-mine"
    foreign.mkdir()
    with opened(path) as db, DirectoryLock(live):
        db.put(b"k", b"v")
        db.checkpoint(tmp_path / "copy")
        assert live.exists() and foreign.exists() and not dead.exists()


def test_commands_work_with_and_without_a_running_service(path: Path, tmp_path: Path) -> None:
    data, copy = str(path), str(tmp_path / "copy")
    with serving(path):
        assert run("import", data, "-", stdin=b"a\t1\nb\t2\n").returncode == 0
    wait_until_gone(path)
    done = run("checkpoint", data, copy, "--no-start", "--timeout", "0.2")
    assert done.returncode == ExitCode.UNAVAILABLE
    done = run("checkpoint", data, copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert run("checkpoint", data, copy).returncode == ExitCode.USAGE
    assert run("scan", copy).stdout == b"a\t1\nb\t2\n"
    assert run("compact", copy, "--start", "a", "--end", "b").returncode == 0
    for directory in (path, tmp_path / "copy"):
        stop_service(directory)
