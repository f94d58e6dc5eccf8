"""Seen: a service that refused to start, for its log was damaged, left its shared memory behind.

Cause: control page and memtable are made before the log is read, and only the next start swept
them; a damaged database may have no next start.
Remedy: a start that fails removes what it has made, unless somebody reads through the pages.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrisdb.errors import CorruptionError
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.keys import DEFAULT_PREFIX
from tests.sim.image import UnsyncedFileSystem
from tests.support.databases import segments
from tests.support.fakes import ManualClock
from tests.support.full_database import Running, sweep


def test_no_segment_outlives_a_start_that_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.mkdir()
    running = Running(str(path), UnsyncedFileSystem(), ManualClock(), 1)
    batch = BatchBuffer(DEFAULT_PREFIX)
    batch.put(b"key", b"value")
    running.commit(batch)
    running.stop()
    sweep(str(path))
    (log,) = (one for one in path.glob("*.wal") if b"value" in one.read_bytes())
    log.write_bytes(log.read_bytes().replace(b"value", b"vulue"))
    with pytest.raises(CorruptionError):
        Running(str(path), UnsyncedFileSystem(), ManualClock(), 2)
    assert not segments(path)
