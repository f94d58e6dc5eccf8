"""Show how far a run is: a line for each cell, and a bar with the time that is left.

Where standard error is no terminal there is no bar, and the time left stands in the lines.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from ferrisdb.bench.cells import Cell
from ferrisdb.bench.plan import minutes


class Progress:
    """The progress of one run.

    Units:   seconds that the plan estimates; what is left is scaled by how long things take.
    """

    def __init__(self, estimate_s: float, *, quiet: bool = False) -> None:
        self._estimate_s = estimate_s
        self._done_s = 0.0
        self._begun_s = time.monotonic()
        self._is_quiet = quiet
        self._bar: Any = tqdm(
            total=estimate_s,
            disable=True if quiet else not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}% |{bar}| {desc}",
            dynamic_ncols=True,
            leave=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    @property
    def left_s(self) -> float:
        """About how long it will still take."""
        took = time.monotonic() - self._begun_s
        left = self._estimate_s - self._done_s
        # A run's first minutes say little about the rest.
        weight = self._done_s / self._estimate_s if self._estimate_s else 0.0
        pace = took / self._done_s if self._done_s else 1.0
        return max(left * (1 - weight + weight * pace), 0.0)

    def begin(self, what: str) -> None:
        """Say what is being done."""
        self._bar.set_description_str(f"{minutes(self.left_s)} left, {what}")

    def end(self, estimate_s: float) -> None:
        """Count what was done, by what the plan said of it."""
        self._done_s += estimate_s
        self._bar.update(min(estimate_s, max(self._bar.total - self._bar.n, 0)))

    def show(self, cell: Cell) -> None:
        """Show a cell."""
        if self._is_quiet:
            return
        left = "" if sys.stderr.isatty() else f"  ({minutes(self.left_s)} left)"
        tqdm.write(line_of(cell) + left, file=sys.stderr)


def line_of(cell: Cell) -> str:
    """Return a cell as a line."""
    loop = "" if cell.target_per_s is None else f" at {cell.target_per_s:g}/s"
    name = f"{cell.workload}{loop}"
    line = f"{name:24} {cell.durability:4} {cell.engine:16} {cell.clients:>2} cl"
    if cell.why is not None:
        return f"{line}  {'WRONG' if cell.errors else 'not measured'}: {cell.why}"
    line += f" {cell.rate_per_s:>12,.0f} {cell.unit}s/s"
    for name, figures in cell.latency.items():
        line += f"  {name} p50 {_us(figures['p50_us'])} p99 {_us(figures['p99_us'])}"
    return f"{line}  ({cell.note})" if cell.note else line


def _us(value: float) -> str:
    if value < 1000:
        return f"{value:.3g} µs"
    return f"{value / 1000:.3g} ms"
