"""Compare two runs cell by cell: what became faster, what slower, and what that is worth.

A change counts where the rounds of the two runs have no rate in common and each run has two rounds
at least; anything less lies within the spread. Two runs of one machine at different times also
differ by what else it did: `against` divides every rate by that of a peer which was measured in the
same rounds, and so cancels that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ferrisdb.bench.cells import CellKey
from ferrisdb.bench.engine_looks import OURS, OURS_BY_SOCKET
from ferrisdb.bench.results import Group, Measured, Results, ResultsError, Spread
from ferrisdb.bench.tables import key_text, main_kind
from ferrisdb.bench.units import duration_text, rate_text, ratio_text

JUDGED: Final = (OURS, OURS_BY_SOCKET)
"""The engines that a gate judges unless others are named: a slower peer is no fault of ours."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one cell."""

    workload: str
    what: str
    engine: str
    before: Spread | None
    after: Spread | None
    #: Rounds of the run that had fewer.
    round_count: int = 0
    #: p99 of the most frequent kind of operation, in µs.
    p99_before: float | None = None
    p99_after: float | None = None
    #: Why there is no figure in the second run, where there was one in the first.
    why: str = ""

    @property
    def ratio(self) -> Spread | None:
        """How many times the rate of the first run the second has; None if one is missing."""
        if self.before is None or self.after is None or self.before.low <= 0:
            return None
        return Spread(
            self.after.median / self.before.median,
            self.after.low / self.before.high,
            self.after.high / self.before.low,
        )

    @property
    def is_beyond_spread(self) -> bool:
        """Tell whether the change is more than the rounds differ among themselves."""
        if self.before is None or self.after is None or self.round_count < 2:
            return False
        return self.before.apart(self.after)

    def falls_below(self, bound: float) -> bool:
        """Tell whether this is a failure: by more than the spread, as far as that is known."""
        if self.why:
            return True
        if self.ratio is None or self.ratio.median >= bound:
            return False
        return self.is_beyond_spread or self.round_count < 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs beside each other."""

    changes: tuple[Change, ...]
    #: Cells of one run that the other hasn't.
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    #: By whose rate each rate is divided.
    against: str | None = None


def compare(
    before: Results, after: Results, engines: Sequence[str] = (), against: str | None = None
) -> Comparison:
    """Compare the cells of two runs.

    Shape:   engines, those to look at, none: all; against, an engine by whose rate of the same
             run each rate is divided.
    Raises:  ResultsError, the runs have nothing in common.
    """
    groups_before = {group.key: group for group in before.groups}
    groups_after = {group.key: group for group in after.groups}
    changes = tuple(
        change
        for key in groups_before
        if key in groups_after
        for change in _changes(groups_before[key], groups_after[key], engines, against)
    )
    if not changes:
        named = f" of {', '.join(engines)}" if engines else ""
        beside = f" beside {against}" if against else ""
        raise ResultsError(f"{before.path} and {after.path} have no cells{named}{beside} in common")
    cells_before, cells_after = (_cells(run, engines) for run in (before, after))
    return Comparison(
        changes,
        tuple(name for cell, name in cells_before.items() if cell not in cells_after),
        tuple(name for cell, name in cells_after.items() if cell not in cells_before),
        against,
    )


def judged(comparison: Comparison, bound: float, engines: Sequence[str] = ()) -> list[Change]:
    """Return the changes for which a gate fails: `engines`, or ours, fell below the bound."""
    names = engines or JUDGED
    return [
        change
        for change in comparison.changes
        if change.engine in names and change.falls_below(bound)
    ]


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison as a table."""
    if comparison.against:
        yield f"each rate divided by that of {comparison.against} in the same run"
    workload = None
    text = ratio_text if comparison.against else rate_text
    for change in comparison.changes:
        if workload != (change.workload, change.what):
            workload = (change.workload, change.what)
            yield f"{change.workload}  ({change.what})"
        if change.why:
            yield f"  {change.engine:15} WRONG: {change.why}"
            continue
        assert change.before is not None and change.after is not None
        rates = f"{text(change.before.median):>12} -> {text(change.after.median):<12}"
        yield f"  {change.engine:15} {rates} {_judgement(change):34} {_p99(change)}".rstrip()
    for name in comparison.only_before:
        yield f"only in the first run: {name}"
    for name in comparison.only_after:
        yield f"only in the second run: {name}"


def _changes(
    before: Group, after: Group, engines: Sequence[str], against: str | None
) -> Iterator[Change]:
    for engine, measured in before.measured.items():
        if (engines and engine not in engines) or engine == against:
            continue
        place = (before.key.workload, key_text(before), engine)
        if engine in after.wrong:
            yield Change(*place, _rate(before, engine, against), None, why=after.wrong[engine][0])
            continue
        was, became = (_rate(group, engine, against) for group in (before, after))
        if was is None or became is None:
            continue
        now = after.measured[engine]
        rounds = min(len(measured.rounds), len(now.rounds))
        yield Change(*place, was, became, rounds, _p99_of(before, measured), _p99_of(before, now))


def _rate(group: Group, engine: str, against: str | None) -> Spread | None:
    if against is not None:
        return group.ratio(engine, against)
    measured = group.measured.get(engine)
    return measured.rate if measured else None


def _p99_of(group: Group, measured: Measured) -> float | None:
    kind = main_kind(group)
    found = measured.latency(kind, "p99_us") if kind else None
    return found.median if found else None


def _cells(run: Results, engines: Sequence[str]) -> dict[tuple[CellKey, str], str]:
    """Return the names of a run's cells, by what tells them apart."""
    return {
        (group.key, engine): f"{group.key.workload} ({key_text(group)}), {engine}"
        for group in run.groups
        for engine in group.engines
        if not engines or engine in engines
    }


def _judgement(change: Change) -> str:
    ratio = change.ratio
    if ratio is None:
        return ""
    text = ratio_text(ratio.median)
    if change.round_count < 2:
        return f"{text} (one round)"
    text = f"{text} [{ratio.low:.2f} .. {ratio.high:.2f}]"
    if not change.is_beyond_spread:
        return text
    return f"{text} {'faster' if ratio.median > 1 else 'SLOWER'}"


def _p99(change: Change) -> str:
    if change.p99_before is None or change.p99_after is None:
        return ""
    return f"p99 {duration_text(change.p99_before)} -> {duration_text(change.p99_after)}"
