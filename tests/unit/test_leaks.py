"""Goal: a test that leaves something behind is found out. Method: leave each kind of thing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.leaks import left_behind, take_stock


def test_nothing_is_reported_where_nothing_is_left(tmp_path: Path) -> None:
    assert left_behind(take_stock(), tmp_path) == []


def test_descriptor_is_reported(tmp_path: Path) -> None:
    before = take_stock()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    found = left_behind(before, tmp_path)
    os.close(descriptor)
    assert found == [f"descriptor {descriptor} of {tmp_path}"]


def test_process_in_a_session_of_its_own_is_reported(tmp_path: Path) -> None:
    before = take_stock()
    # A grandchild whose parent has gone is nobody's child any more.
    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'input()'], start_new_session=True, "
        "stdin=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid)"
    )
    reading, writing = os.pipe()
    try:
        pid = subprocess.run(
            [sys.executable, "-c", code], stdin=reading, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        # Its environment can't be read at every moment of its start.
        give_up = time.monotonic() + 5
        while pid not in [str(process.pid) for process in leaks._new(before)]:
            assert time.monotonic() < give_up, pid
    finally:
        os.close(writing)
        os.close(reading)


def test_segment_that_our_directory_recorded_is_reported(tmp_path: Path) -> None:
    name = f"fdb{os.urandom(6).hex()}.m1"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "segments").write_text(f"/{name}\n")
    before = take_stock()
    (leaks.SHM_DIR / name).touch()
    try:
        assert left_behind(before, tmp_path) == [f"segment {name}"]
    finally:
        (leaks.SHM_DIR / name).unlink()


def test_segment_that_stays_behind_a_whole_run_is_reported(tmp_path: Path) -> None:
    name = f"fdb{os.urandom(6).hex()}.m1"
    before = leaks.segments()
    (tmp_path / "popen-gw0" / "data").mkdir(parents=True)
    (tmp_path / "popen-gw0" / "data" / "segments").write_text(f"/{name}\n")
    (leaks.SHM_DIR / name).touch()
    try:
        assert leaks.segments_left_behind(before, tmp_path) == [name]
    finally:
        (leaks.SHM_DIR / name).unlink()
    assert leaks.segments_left_behind(before, tmp_path) == []


def test_segment_of_nobody_is_not_held_against_one_worker_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(leaks.WORKER_MARK, "gw0")
    name = f"fdb{os.urandom(6).hex()}.m1"
    before = take_stock()
    (leaks.SHM_DIR / name).touch()
    try:
        assert left_behind(before, tmp_path) == []
    finally:
        (leaks.SHM_DIR / name).unlink()
