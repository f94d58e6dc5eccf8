"""What a row asks for, what was measured of it, and how the two compare.

Ratios are of one run: our median beside the median of the peer that did best. Their spread is that
of the rounds, each taken by itself, for in a round the engines run one behind the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ferrisdb.bench.budget.run import Run

OURS: Final = "ferrisdb"


class BudgetError(Exception):
    """A row could not be measured, or an engine answered wrongly; the message says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity that a row measures.

    Shape: rounds, by engine one value a round, in `unit`; ours first.
    """

    name: str
    unit: str
    rounds: dict[str, list[float]]
    more_is_better: bool = False

    def median(self, engine: str) -> float:
        """Return an engine's median."""
        return statistics.median(self.rounds[engine])

    def best_of(self, engines: Sequence[str]) -> str | None:
        """Return which of these engines did best; None: none of them was measured."""
        measured = [name for name in engines if self.rounds.get(name)]
        choose = max if self.more_is_better else min
        return choose(measured, key=self.median) if measured else None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row asks of one of its figures.

    Shape: least, how many times as good as the best of `peers` ours has to be; without peers,
           most, what ours may be at most, in the figure's unit.
    """

    figure: str
    least: float = 1.0
    peers: tuple[str, ...] = ()
    most: float | None = None

    def text(self) -> str:
        """Return it in a few words."""
        if self.most is not None:
            return f"at most {self.most:g}"
        return f"{self.least:g} × {' or '.join(self.peers)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a figure compares with what was asked.

    Shape: value, the ratio, or our median where there is no peer; low and high, its spread.
    """

    figure: str
    asked: str
    peer: str | None
    value: float
    low: float
    high: float
    holds: bool


def judge(asked: Asked, figures: Sequence[Figure]) -> Verdict | None:
    """Compare a figure with what was asked of it; None: there is nothing to compare."""
    figure = next((each for each in figures if each.name == asked.figure), None)
    if figure is None or not figure.rounds.get(OURS):
        return None
    ours = figure.rounds[OURS]
    if asked.most is not None:
        value = figure.median(OURS)
        holds = value <= asked.most
        return Verdict(figure.name, asked.text(), None, value, min(ours), max(ours), holds)
    peer = figure.best_of(asked.peers)
    if peer is None:
        return None
    each = [_ratio(figure, a, b) for a, b in zip(ours, figure.rounds[peer], strict=False)]
    value = _ratio(figure, figure.median(OURS), figure.median(peer))
    holds = value >= asked.least
    return Verdict(figure.name, asked.text(), peer, value, min(each), max(each), holds)


def _ratio(figure: Figure, ours: float, other: float) -> float:
    """Return how many times as good ours is."""
    above, below = (ours, other) if figure.more_is_better else (other, ours)
    return above / below if below else float("inf")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: its name here, its work as the design says it, and what it asks."""

    name: str
    work: str
    asked: tuple[Asked, ...]
    measure: Callable[[Run], list[Figure]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a row: its figures, or why there are none."""

    row: Row
    figures: tuple[Figure, ...] = ()
    seconds: float = 0.0
    why: str | None = None

    def verdicts(self) -> list[Verdict]:
        """Return how each of its figures compares with what is asked."""
        found = [judge(asked, self.figures) for asked in self.row.asked]
        return [verdict for verdict in found if verdict is not None]

    def not_compared(self) -> list[Asked]:
        """Return what was asked and could not be compared."""
        return [asked for asked in self.row.asked if judge(asked, self.figures) is None]

    @property
    def holds(self) -> bool:
        """Whether everything that is asked was compared, and holds."""
        return not self.not_compared() and all(each.holds for each in self.verdicts())

    def to_json(self) -> dict[str, Any]:
        """Return its JSON object."""
        return {
            "row": self.row.name,
            "work": self.row.work,
            "asked": [asked.text() for asked in self.row.asked],
            "holds": self.holds,
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "figures": [asdict(figure) for figure in self.figures],
            "seconds": round(self.seconds, 1),
            "why": self.why,
        }
