"""Read a run's results.jsonl, and say of each measured cell what its rounds come to.

Cells of the same workload, clients, durability and loop are one group, whatever their engine and
round: they are what is compared. An engine's figure is the median of its rounds; its spread are the
smallest and the largest. An engine of which a round went wrong has no figure in that group; one
that was not even asked, for it can't do such a thing, lacks it.

R1  A run that was interrupted has no last line, or half of one: that line is left out. Any other
    line that can't be read is an error, for a result must not be judged by a part of it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ferrisdb.bench.cells import Cell, CellKey

FILE_NAME: Final = "results.jsonl"


class ResultsError(ValueError):
    """Results can't be read, or not used so; the message names the file, and the line if any."""


class NoResultsError(ResultsError):
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and what it lies between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of some values, at least one."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def apart(self, other: Spread) -> bool:
        """Tell whether the two have nothing in common."""
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True, slots=True)
class Measured:
    """An engine's rounds of one group; at least one, and none of them wrong."""

    engine: str
    rounds: tuple[Cell, ...]

    @property
    def rate(self) -> Spread:
        """Operations (or rows) a second, of all clients together."""
        return Spread.of(cell.rate_per_s for cell in self.rounds)

    @property
    def unit(self) -> str:
        """What is counted."""
        return self.rounds[0].unit

    @property
    def errors(self) -> int:
        """Failed operations of all rounds."""
        return sum(cell.errors for cell in self.rounds)

    @property
    def verified(self) -> int:
        """Values of all rounds that were compared with what they had to be."""
        return sum(cell.verified for cell in self.rounds)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else there is to know of the rounds."""
        return tuple(dict.fromkeys(cell.note for cell in self.rounds if cell.note))

    def operations(self) -> list[str]:
        """Return the kinds of operations whose latencies are known."""
        return list(dict.fromkeys(kind for cell in self.rounds for kind in cell.latency))

    def latency(self, kind: str, figure: str) -> Spread | None:
        """Return a kind's latency in µs.

        Shape:   figure, a name such as "p99_us".
        Returns: None if no round has it.
        """
        values = [
            cell.latency[kind][figure]
            for cell in self.rounds
            if figure in cell.latency.get(kind, {}) and cell.latency[kind].get("count", 1)
        ]
        return Spread.of(values) if values else None


@dataclass(frozen=True, slots=True)
class Group:
    """All that was measured of the same thing."""

    key: CellKey
    title: str
    measured: Mapping[str, Measured]
    #: Engines that went wrong, with every distinct reason.
    wrong: Mapping[str, tuple[str, ...]]
    #: Engines that can't do this, and why.
    lacking: Mapping[str, str]

    @property
    def engines(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.measured, *self.wrong, *self.lacking)

    def ratio(self, ours: str, other: str) -> Spread | None:
        """Return how many times the rate of another engine ours has.

        Returns: of medians; low and high are those of rounds that were measured side by side, if
                 there are any. None if one of them has no figure, or the other did nothing.
        """
        if ours not in self.measured or other not in self.measured:
            return None
        mine, its = self.measured[ours], self.measured[other]
        if its.rate.median <= 0:
            return None
        ratio = mine.rate.median / its.rate.median
        rates = {cell.round: cell.rate_per_s for cell in its.rounds}
        paired = [
            cell.rate_per_s / rates[cell.round]
            for cell in mine.rounds
            if rates.get(cell.round, 0) > 0
        ]
        return Spread(ratio, min([ratio, *paired]), max([ratio, *paired]))


@dataclass(frozen=True, slots=True)
class Results:
    """One run."""

    #: Its file.
    path: Path
    #: What it was measured on, with versions, arguments and engines; {} where the line is missing.
    machine: Mapping[str, Any]
    groups: tuple[Group, ...]
    engines: tuple[str, ...] = field(default=())

    @property
    def folder(self) -> Path:
        """Where its histograms are."""
        return self.path.parent

    def settings(self, engine: str) -> tuple[str | None, str | None]:
        """Return an engine's settings, and why it was not measured."""
        row = self.machine.get("engines", {}).get(engine) or {}
        return row.get("settings"), row.get("missing")

    def workloads(self) -> dict[str, list[Group]]:
        """Return the groups of each workload, in the order of the run."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            found.setdefault(group.key.workload, []).append(group)
        return found


def read(path: Path) -> Results:
    """Read a run.

    Shape:   path, its folder, or its results.jsonl under whatever name.
    Raises:  ResultsError.
    """
    file = path / FILE_NAME if path.is_dir() else path
    machine: dict[str, Any] = {}
    cells: list[Cell] = []
    for number, row in _rows(file):
        if row.get("kind") == "machine":
            machine = row
            continue
        try:
            cells.append(_checked(Cell.from_json(row)))
        except ValueError as error:
            raise ResultsError(f"{file}, line {number}: {error}") from None
    groups = tuple(group_cells(cells))
    named = [*machine.get("engines", {}), *(cell.engine for cell in cells)]
    return Results(file, machine, groups, tuple(dict.fromkeys(named)))


def group_cells(cells: Iterable[Cell]) -> Iterator[Group]:
    """Yield the groups of some cells, each where its first cell is."""
    of_key: dict[CellKey, list[Cell]] = {}
    for cell in cells:
        of_key.setdefault(cell.key, []).append(cell)
    for key, members in of_key.items():
        engines: dict[str, list[Cell]] = {}
        for cell in members:
            engines.setdefault(cell.engine, []).append(cell)
        measured: dict[str, Measured] = {}
        wrong: dict[str, tuple[str, ...]] = {}
        lacking: dict[str, str] = {}
        for engine, rounds in engines.items():
            reasons = dict.fromkeys(cell.why for cell in rounds if cell.why is not None)
            if not reasons:
                measured[engine] = Measured(engine, tuple(rounds))
            elif any(cell.operations or cell.errors for cell in rounds):
                wrong[engine] = tuple(reasons)
            else:
                lacking[engine] = "; ".join(reasons)
        yield Group(key, members[0].title, measured, wrong, lacking)


def _checked(cell: Cell) -> Cell:
    """Return a cell whose figures are numbers, as nothing but its names was looked at so far."""
    figures: dict[str, object] = {"rate_per_s": cell.rate_per_s, "round": cell.round}
    if not isinstance(cell.latency, dict):
        raise ValueError("latency: no object")
    for kind, row in cell.latency.items():
        if not isinstance(row, dict):
            raise ValueError(f"latency of {kind!r}: no object")
        figures |= {f"{kind} {name}": value for name, value in row.items()}
    for name, value in figures.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is no number")
    return cell


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Not splitlines, which knows more ends of lines than JSON lines has.
        *lines, _torn = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise NoResultsError(f"no results at {file}: run `ferrisdb bench --out DIR`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{file}: {error}") from None
    for number, line in enumerate(lines, 1):  # R1: not the torn one
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ResultsError(f"{file}, line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ResultsError(f"{file}, line {number}: no JSON object")
        yield number, row
