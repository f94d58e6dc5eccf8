"""Write results of runs that never were, small and as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ferrisdb.bench.cells import Cell
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.histogram_log import write_log
from ferrisdb.bench.results import FILE_NAME

MACHINE: dict[str, Any] = {
    "kind": "machine",
    "cpu": "A processor",
    "cpus": 2,
    "memory_bytes": 4 << 30,
    "versions": {"lmdb": "3.0.0"},
    "engines": {
        "ferrisdb": {"settings": "attached", "missing": None},
        "lmdb": {"settings": "not synced", "missing": None},
        "plyvel": {"settings": None, "missing": "pip install plyvel"},
    },
}


def cell(rate: float, engine: str = "ferrisdb", workload: str = "readrandom", **more: Any) -> Cell:
    """Return a cell; what isn't given is plain."""
    plain: dict[str, Any] = {"title": f"{workload}: a test", "clients": 2, "durability": "os"}
    plain |= {"seconds": 1.0, "operations": int(rate), "rate_per_s": rate, "verified": 10}
    return Cell(engine=engine, workload=workload, **(plain | more))


def rounds(engine: str, rates: Iterable[float], workload: str = "readrandom") -> list[Cell]:
    """Return an engine's rounds of a workload."""
    return [cell(rate, engine, workload, round=at) for at, rate in enumerate(rates)]


def latencies(*kinds: str) -> dict[str, Histogram]:
    """Return a histogram for each kind of operation."""
    found = {kind: Histogram() for kind in kinds}
    for at, histogram in enumerate(found.values(), 1):
        histogram.add_many(range(1000 * at, 2000 * at))
    return found


def with_latencies(folder: Path, plain: Cell, *kinds: str) -> Cell:
    """Write a histogram log for a cell, and return the cell as it names it."""
    found = latencies(*kinds)
    name = f"{plain.workload}.{plain.engine}.{plain.round}.hlog"
    folder.mkdir(exist_ok=True)
    write_log(folder / name, found, started_s=0.0, seconds=1.0)
    row = plain.to_json()
    row |= {"histogram": name, "latency": {kind: each.summary() for kind, each in found.items()}}
    return Cell.from_json(row)


def write_run(folder: Path, cells: Iterable[Cell], machine: dict[str, Any] | None = None) -> Path:
    """Write a run's results; returns its folder."""
    folder.mkdir(exist_ok=True)
    rows = [MACHINE if machine is None else machine, *(each.to_json() for each in cells)]
    (folder / FILE_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
