"""The compactor as a process: serves, stops, and never outlives its coordinator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import multiprocess
import psutil
import pytest

from ferrisdb.exit_codes import ExitCode
from ferrisdb.kernel import layout
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment
from ferrisdb.workers import compactor
from ferrisdb.workers.messages import (
    CompactorOptions,
    Failed,
    Flushed,
    FlushMemtable,
    Prepared,
    PrepareMemtable,
    Stop,
)
from tests.support.memtables import fill, put

GENERATION = 4


@pytest.fixture
def names(tmp_path: Path) -> Iterator[SegmentNames]:
    made = SegmentNames.load_or_create(tmp_path)
    made.record(made.name("k", 0))
    page = ControlPage.format(
        Segment.create(made.name("k", 0), layout.CONTROL_BYTES),
        database_id=bytes(16),
        memtable_bytes=1 << 20,
        batch_bytes_max=1 << 19,
    )
    page.generation = GENERATION
    yield made
    made.sweep()
    page.close()


def start(names: SegmentNames, *, generation: int = GENERATION, parent: int = 0) -> tuple[Any, Any]:
    """Start a compactor as the coordinator does; return process and pipe."""
    context = multiprocess.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (names.directory, theirs, CompactorOptions(), generation, parent or os.getpid())
    process = context.Process(target=compactor.main, args=arguments)
    process.start()
    theirs.close()
    return process, ours


def ended(process: Any) -> int:
    process.join(20)
    code: int = process.exitcode
    process.close()
    return code


def test_serves_until_stop_and_shrugs_off_signals(names: SegmentNames) -> None:
    for number in (5, 12):
        names.record(names.name("m", number))
    segment = Segment.create(names.name("m", 5), 1 << 18)
    fill(segment.view, [put(b"k", b"v")], number=5).close()
    segment.close()
    process, pipe = start(names)
    pipe.send(FlushMemtable(5, 20, 0))
    flushed = pipe.recv()
    assert isinstance(flushed, Flushed) and flushed.table is not None
    assert flushed.table.entry_count == 1
    assert psutil.Process(process.pid).nice() == psutil.Process().nice() + 5
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process.pid, number)
    pipe.send(PrepareMemtable(12, 1 << 18, 1 << 16, 1))
    assert pipe.recv() == Prepared(12)
    pipe.send(FlushMemtable(99, 21, 0))
    assert isinstance(pipe.recv(), Failed)
    pipe.send(Stop())
    assert ended(process) == ExitCode.OK
    pipe.close()
    assert {"000012.wal", "000020.sst"} <= set(os.listdir(names.directory))


def test_leaves_when_the_pipe_is_closed(names: SegmentNames) -> None:
    process, pipe = start(names)
    pipe.close()
    assert ended(process) == ExitCode.ORPHANED


def test_does_not_start_under_another_generation_or_parent(names: SegmentNames) -> None:
    first, pipe = start(names, generation=GENERATION - 1)
    second, other = start(names, parent=1)
    assert ended(first) == ended(second) == ExitCode.ORPHANED
    pipe.close()
    other.close()


def test_dies_with_a_killed_coordinator(names: SegmentNames) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.support.compactor_parent", names.directory, str(GENERATION)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs([child], timeout=20)
    assert alive == []
