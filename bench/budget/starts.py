"""Attach to a running service, and start one: behind a clean stop, and behind SIGKILL.

Each opening is done by a new process, from the end of its imports to the value of its first get.
A start is what `open` does where no service runs: a process that imports everything, recovers, and
serves. Before a SIGKILL the compactor is stopped, so that memtables fill up and stay in the logs:
writers write until they are refused, and then all processes of the service are killed at once.
Each is measured of a small database and of a large one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import psutil

import ferrisdb
from ferrisdb import service
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import end_service
from ferrisdb.bench.budget.workload import keys_from, pairs_of, value_of
from ferrisdb.errors import BusyError

BATCH_ROWS: Final = 1000
PATIENCE_S: Final = 120.0
#: How long a write waits before it is refused, when the memtables are full.
REFUSED_S: Final = 0.5
WHAT: Final = ("attach", "clean start", "start after SIGKILL")
SIZES: Final = ("small", "large")


def starts(run: Run) -> list[Figure]:
    """Open a small and a large database in each way."""
    settings = run.settings
    values: dict[str, list[float]] = {f"{what}, {size}": [] for what in WHAT for size in SIZES}
    logs: dict[str, list[float]] = {size: [] for size in SIZES}
    place = run.place("starts")
    with contextlib.ExitStack() as stack:
        for size, key_count in zip(SIZES, settings.start_keys, strict=True):
            path = os.path.join(place, size)
            run.say(f"loading {key_count:,} keys")
            stack.callback(_end, path)
            _load(path, key_count)
        for turn in range(settings.rounds):
            run.say(f"starts, round {turn + 1} of {settings.rounds}")
            for size, key_count in zip(SIZES, settings.start_keys, strict=True):
                path = os.path.join(place, size)
                with ferrisdb.open(path, timeout=PATIENCE_S):
                    values[f"attach, {size}"].append(_opening(path, "attach", key_count - 1))
                end_service(path)
                values[f"clean start, {size}"].append(_opening(path, "start", key_count - 1))
                last, log_bytes = _kill_with_full_logs(path, key_count)
                logs[size].append(log_bytes / 1e6)
                values[f"start after SIGKILL, {size}"].append(_opening(path, "start", last))
    figures = [Figure(name, "ms", {OURS: each}) for name, each in values.items()]
    return figures + [Figure(f"logs, {size}", "MB", {OURS: logs[size]}) for size in SIZES]


def _load(path: str, key_count: int) -> None:
    with ferrisdb.open(path, timeout=PATIENCE_S, durability="os") as db:
        for first in range(0, key_count, BATCH_ROWS):
            count = min(BATCH_ROWS, key_count - first)
            db.put_many(pairs_of(first, keys_from(first, count)))
        db.compact()


def _end(path: str) -> None:
    if os.path.isdir(path):
        end_service(path)


def _opening(path: str, how: str, number: int) -> float:
    """Open in a new process and get a key by its number; return ms.

    Raises: BudgetError, it failed, or got another value.
    """
    key = keys_from(number, 1)[0]
    done = subprocess.run(
        [sys.executable, "-m", "ferrisdb.bench.budget.opening", path, how, key.hex()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": service.python_path()},
    )
    if done.returncode:
        raise BudgetError(f"opening {path} ({how}): {done.stderr.strip()[-500:]}")
    row: dict[str, Any] = json.loads(done.stdout)
    if row["value"] != value_of(number).hex():
        raise BudgetError(f"{how}: key {number} has another value than was written")
    return float(row["open_s"]) * 1000


def _kill_with_full_logs(path: str, key_count: int) -> tuple[int, int]:
    """Write until every memtable is full, and kill the service.

    Returns: the number of the last key that was written, and the bytes of the logs.
    """
    with ferrisdb.open(path, timeout=PATIENCE_S, durability="os") as db:
        db.compact()
    last = key_count - 1
    with ferrisdb.open(path, timeout=REFUSED_S, durability="os") as db:
        coordinator = psutil.Process(db.stats()["coordinator_pid"])
        family = [coordinator, *coordinator.children(recursive=True)]
        for process in family[1:]:
            process.suspend()
        with contextlib.suppress(BusyError):
            for batch in _batches(key_count):
                db.put_many(batch)
                last += len(batch)
        log_bytes = db.stats()["tree"]["log_bytes"]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, PATIENCE_S)
    return last, log_bytes


def _batches(first: int) -> Iterator[list[tuple[bytes, bytes]]]:
    while True:
        yield pairs_of(first, keys_from(first, BATCH_ROWS))
        first += BATCH_ROWS
