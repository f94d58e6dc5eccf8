"""What a run writes: results.jsonl, a line a cell as it is measured, and the histograms' files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ferrisdb.bench import machine
from ferrisdb.bench.cells import Cell
from ferrisdb.bench.engines import OS, SYNC, Engine
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.histogram_log import write_log
from ferrisdb.bench.results import FILE_NAME

HISTOGRAMS = "histograms"


class Ledger:
    """The files of one run.

    Owner:  the runner; each line is with the operating system when `write` returns.
    """

    def __init__(self, out: Path) -> None:
        """Begin, in the place of an earlier run's results."""
        self.out = out
        (out / HISTOGRAMS).mkdir(parents=True, exist_ok=True)
        for old in (out / HISTOGRAMS).glob("*.hlog"):
            old.unlink()
        self._file = (out / FILE_NAME).open("w", encoding="utf-8")
        self.cell_count = 0
        #: Cells that went wrong.
        self.wrong: list[Cell] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write_machine(
        self, folder: str, arguments: Mapping[str, Any], engines: Sequence[type[Engine]]
    ) -> None:
        """Write the first line: what is measured, and on what.

        Shape:   folder, where the data will lie.
        """
        told = {kind.name: engine_facts(kind) for kind in engines}
        versions = {kind.name: kind.version() for kind in engines if kind.missing() is None}
        self._write(
            {"kind": "machine", **machine.facts(folder)}
            | {"versions": versions, "arguments": dict(arguments), "engines": told}
        )

    def write_cell(self, cell: Cell) -> None:
        """Write a cell."""
        self.cell_count += 1
        if cell.errors and cell.why is not None:
            self.wrong.append(cell)
        self._write(cell.to_json())

    def write_histograms(
        self, cell: Cell, latencies: dict[str, Histogram], started_s: float
    ) -> str | None:
        """Write a cell's histograms; returns the file's name, None where there are none."""
        if not latencies:
            return None
        loop = f".{cell.target_per_s:g}" if cell.target_per_s is not None else ""
        name = f"{cell.workload}.{cell.durability}{loop}.{cell.engine}.c{cell.clients}"
        path = f"{HISTOGRAMS}/{name}.r{cell.round}.hlog"
        write_log(self.out / path, latencies, started_s=started_s, seconds=cell.seconds)
        return path

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
        self._file.flush()


def engine_facts(kind: type[Engine]) -> dict[str, Any]:
    """Say how an engine is set up, what it can't do, and what is missing."""
    settings = (
        f'{kind.setup}. With "os" a write is done when {kind.done_when(OS)};'
        f' with "sync" when {kind.done_when(SYNC)}.'
    )
    return {
        "title": kind.title,
        "settings": settings,
        "lacks": dict(kind.lacks),
        "missing": kind.missing(),
    }


def now_s() -> float:
    """Return seconds since 1970."""
    return time.time()
