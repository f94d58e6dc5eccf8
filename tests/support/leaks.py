"""Find what a test left behind: processes, file descriptors, names in shared memory.

Processes are ours if they descend from the test run or carry its mark in their environment (a
service that `open` starts in the background leaves the family tree, but inherits that).
A name in shared memory is not ours if a process of someone else maps it: several test runs
share one machine.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

RUN_MARK = "FERRISDB_TEST_RUN"
"""Environment variable that every process of one test run inherits."""

SHM_DIR = Path("/dev/shm")
SEGMENT_NAME = re.compile(r"fdb[0-9a-f]{12}\.")
LEAVE_TIMEOUT_S = 5.0
"""How long a process that was told to stop may take after its test has ended."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this test run holds at one moment."""

    processes: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    segments: frozenset[str]


def take_stock() -> Belongings:
    """List what this run holds now."""
    return Belongings(_processes(), _descriptors(), _segments())


def left_behind(before: Belongings) -> list[str]:
    """Return a line for each thing held now that was not held before."""
    new_processes = [_process(pid) for pid in _processes() - before.processes]
    alive = [process for process in new_processes if process is not None]
    if alive:
        _, alive = psutil.wait_procs(alive, timeout=LEAVE_TIMEOUT_S)
    found = [f"process {_describe(process)}" for process in alive]
    if _descriptors() - before.descriptors:
        gc.collect()
    found += [f"descriptor {n} of {name}" for n, name in _descriptors() - before.descriptors]
    found += [f"segment {name}" for name in _segments() - before.segments if not _foreign(name)]
    return found


def _processes() -> frozenset[int]:
    mine = {process.pid for process in psutil.Process().children(recursive=True)}
    mark = f"{RUN_MARK}={os.environ.get(RUN_MARK, '')}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() + b"\0":
                mine.add(int(path.parent.name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return frozenset(mine - {os.getpid()} - _trackers())


def _trackers() -> set[int]:
    """Return multiprocessing's resource trackers: one per run, they stay until its end."""
    found = set()
    for package in ("multiprocessing", "multiprocess"):
        module = sys.modules.get(f"{package}.resource_tracker")
        if module is not None:
            found.add(getattr(module._resource_tracker, "_pid", None))
    return {pid for pid in found if pid is not None}


def _descriptors() -> frozenset[tuple[int, str]]:
    tracked = {
        getattr(module._resource_tracker, "_fd", None)
        for name in ("multiprocessing", "multiprocess")
        if (module := sys.modules.get(f"{name}.resource_tracker")) is not None
    }
    found = set()
    for path in Path("/proc/self/fd").glob("*"):
        try:
            found.add((int(path.name), os.readlink(path)))
        except OSError:
            continue  # the descriptor of the listing itself
    return frozenset(entry for entry in found if entry[0] not in tracked)


def _segments() -> frozenset[str]:
    if not SHM_DIR.is_dir():
        return frozenset()
    return frozenset(name for name in os.listdir(SHM_DIR) if SEGMENT_NAME.match(name))


def _foreign(name: str) -> bool:
    """Tell whether a process outside this run maps the segment, or it is gone by now."""
    ours = _processes() | {os.getpid()}
    path = str(SHM_DIR / name).encode()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if int(maps.parent.name) not in ours and path in maps.read_bytes():
                return True
        except OSError:
            continue
    return not (SHM_DIR / name).exists()


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
