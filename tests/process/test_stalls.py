"""Write stalls, end to end: slower first, then BusyError at the time-out, never a silent hang.

Method: a real service with tiny memtables whose compactor is stopped by SIGSTOP, as one that can't
keep up; what a put says is compared with what is there afterwards.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import ferrisdb
from ferrisdb import errors
from ferrisdb.engine.control import LEVEL0_SLOW_COUNT, LEVEL0_STALL_COUNT
from tests.support import databases

SMALL = 256 << 10


@contextmanager
def stopped_compactor(path: Path) -> Iterator[None]:
    """Have the service's compactor stand still."""
    coordinator = psutil.Process(databases.coordinator_pid(path))
    [child] = [c for c in coordinator.children() if "spawn_main" in " ".join(c.cmdline())]
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


def test_a_put_that_waits_longer_than_its_time_out_is_busy_and_certainly_not_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    databases.configure(path, memtable_bytes=SMALL)
    with databases.opened(path) as db, ferrisdb.open(path, timeout=0.5) as impatient:
        databases.wait_until_prepared(path)
        pid = databases.coordinator_pid(path)
        written = 0
        refused: list[bytes] = []
        with stopped_compactor(path):
            while len(refused) < 3:
                assert written < 50_000, "writers are not stalled"
                key, begun = b"%06d" % (written + len(refused)), time.monotonic()
                try:
                    impatient.put(key, bytes(200), durability="os")
                    written += 1
                except errors.BusyError:
                    refused.append(key)
                    # Not at once, and not much later than asked for.
                    assert 0.4 < time.monotonic() - begun < databases.TIMEOUT_S / 2
            assert db.stats()["state"] == "stalled"
            assert [impatient.get(key) for key in refused] == [None] * 3
            assert len(impatient) == written
        # Somebody with patience is served as soon as the compactor goes on.
        db.put(b"last", b"")
        assert [db.get(key) for key in refused] == [None] * 3
        assert len(db) == written + 1
        databases.wait_until(lambda: db.stats()["state"] == "running")
        assert databases.coordinator_pid(path) == pid


def test_compactions_that_lag_slow_writers_down_before_they_stall_them(tmp_path: Path) -> None:
    path = tmp_path / "db"
    databases.configure(path, memtable_bytes=SMALL, compaction_bytes_per_s=1 << 14)
    free_s: list[float] = []
    slowed_s: list[float] = []
    with databases.opened(path) as db, ferrisdb.open(path, timeout=0.5) as impatient:
        while len(slowed_s) < 10:
            begun = time.monotonic()
            for _ in range(1000):
                db.put(os.urandom(16), bytes(50))
            took_s = time.monotonic() - begun
            count = db.stats()["levels"].get("0", {"tables": 0})["tables"]
            if count < LEVEL0_SLOW_COUNT:
                free_s.append(took_s)
            # So far on, they rest for more than half of their time.
            if count > (LEVEL0_SLOW_COUNT + LEVEL0_STALL_COUNT) // 2 + 1:
                slowed_s.append(took_s)
        # The best of each, for a loaded machine slows writers down, too.
        assert min(slowed_s) > 1.3 * min(free_s), (free_s, slowed_s)
        with pytest.raises(errors.BusyError):
            for _ in range(200_000):
                impatient.put(os.urandom(16), bytes(250), durability="os")
