"""Find what a test left behind: processes, file descriptors, names in shared memory.

Processes are ours if they descend from the test run or carry its mark in their environment (a
service that `open` starts in the background leaves the family tree, but inherits that).
Several test runs may share one machine, and one run may be several processes (pytest-xdist), each
with a mark of its own: a name in shared memory is only held against this one if it can be (see
`_is_ours`). What no process of a run could be blamed for is found at the end of the whole run.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

RUN_MARK = "FERRISDB_TEST_RUN"
"""Environment variable that every process of one test run inherits."""

WORKER_MARK = "PYTEST_XDIST_WORKER"
"""Environment variable that pytest-xdist sets where other processes of the run run tests too."""

SHM_DIR = Path("/dev/shm")
SEGMENT_NAME = re.compile(r"fdb[0-9a-f]{12}\.")
LEAVE_TIMEOUT_S = 5.0
"""How long a process that was told to stop may take after its test has ended."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What there is at one moment: every process of the machine, and what this one holds."""

    pids: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    segments: frozenset[str]


def take_stock() -> Belongings:
    """List what there is now. Cheap, as it runs twice a test: nothing is judged here."""
    return Belongings(frozenset(psutil.pids()), _descriptors(), segments())


def left_behind(before: Belongings, tmp_root: Path) -> list[str]:
    """Return a line for each thing of ours now that was not there before.

    `tmp_root` is the folder of this run's database directories.
    """
    found = [f"process {_describe(process)}" for process in _still_there(_new(before))]
    if _descriptors() - before.descriptors:
        gc.collect()
    found += [f"descriptor {n} of {name}" for n, name in _descriptors() - before.descriptors]
    new_names = segments() - before.segments
    return found + [f"segment {name}" for name in new_names if _is_ours(name, tmp_root)]


def segments_left_behind(before: frozenset[str], tmp_root: Path) -> list[str]:
    """Return the names in shared memory that were not there before a run and stay behind it.

    `tmp_root` is the folder that holds those of all processes of the run, which have ended.
    """
    return sorted(name for name in segments() - before if _is_ours(name, tmp_root))


def _new(before: Belongings) -> list[psutil.Process]:
    """Return this run's processes that started since."""
    found = []
    for pid in set(psutil.pids()) - before.pids - _trackers():
        try:
            process = psutil.Process(pid)
            if _mark() in _proc_file(pid, "environ") or os.getpid() in _ancestors(process):
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or another user's
    return found


def _still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Give processes the time to leave; return those that don't."""
    give_up = time.monotonic() + LEAVE_TIMEOUT_S
    while processes and time.monotonic() < give_up:
        _, alive = psutil.wait_procs(processes, timeout=0.1)
        # A dead orphan waits for its new parent to notice, which may take as long as it likes.
        processes = [process for process in alive if not _is_zombie(process)]
    return processes


def _mark() -> bytes:
    return f"{RUN_MARK}={os.environ.get(RUN_MARK, '')}\0".encode()


def _ancestors(process: psutil.Process) -> set[int]:
    return {parent.pid for parent in process.parents()}


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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


def segments() -> frozenset[str]:
    """Return the names in shared memory that a database of ours may have made."""
    if not SHM_DIR.is_dir():
        return frozenset()
    return frozenset(name for name in os.listdir(SHM_DIR) if SEGMENT_NAME.match(name))


def _is_ours(name: str, tmp_root: Path) -> bool:
    """Tell whether a segment that is still there was made by this run.

    It was if one of our directories recorded its nonce or one of our processes maps it. It may
    have been, and counts, if no other test or service runs on this machine, which beside a process
    that is one of several of its run nobody can tell.
    """
    nonce = name[3:15]
    for record in tmp_root.rglob("segments"):
        content = record.read_bytes()
        if nonce.encode() in content or bytes.fromhex(nonce) in content:
            return (SHM_DIR / name).exists()
    pids = psutil.pids()
    ours = {pid for pid in pids if _mark() in _proc_file(pid, "environ")} | {os.getpid()}
    path = str(SHM_DIR / name).encode()
    if any(path in _proc_file(pid, "maps") for pid in ours):
        return True
    if WORKER_MARK in os.environ:
        return False
    # What started this run may have the words in its command, too.
    for pid in set(pids) - ours - _ancestors(psutil.Process()):
        words = _proc_file(pid, "cmdline")
        if b"pytest" in words or b"ferrisdb" in words or path in _proc_file(pid, "maps"):
            return False
    return (SHM_DIR / name).exists()


def _proc_file(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # gone meanwhile, or another user's


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
