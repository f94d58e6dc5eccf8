"""What clients did in a second, and the timeline that it all becomes.

A client sends one Second after the other, also empty ones; a second of the timeline is complete
when each client has sent its own. An operation belongs to the second in which it ended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.load.assertions import KINDS, Outcome

OVERDUE: Final = "overdue"
"""An operation of an open loop that was not sent, for its moment was longer ago than an operation
may take: whoever had asked for it would have given up."""


SHORTEST_S: Final = 0.1
"""A last second that is shorter is a part of the one before."""


@dataclass(slots=True)
class Second:
    """One client's second, or all clients'."""

    number: int
    #: Of operations that were answered, by kind.
    latencies: dict[str, Histogram] = field(default_factory=dict)
    #: By kind of operation and kind of error.
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Values that were wrong, by what was wrong.
    wrong: Counter[str] = field(default_factory=Counter)
    verified: int = 0
    reconnects: int = 0
    #: When it was sent; of all clients', the last.
    ended_ns: int = 0

    def merge(self, other: Second) -> None:
        """Add another client's second, or another second."""
        for kind, histogram in other.latencies.items():
            self.latencies.setdefault(kind, Histogram()).merge(histogram)
        self.errors += other.errors
        self.wrong += other.wrong
        self.verified += other.verified
        self.reconnects += other.reconnects
        self.ended_ns = max(self.ended_ns, other.ended_ns)

    def all_latencies(self) -> Histogram:
        """Return those of all kinds."""
        found = Histogram()
        for histogram in self.latencies.values():
            found.merge(histogram)
        return found

    @property
    def operations(self) -> int:
        """How many were answered."""
        return sum(histogram.total for histogram in self.latencies.values())

    @property
    def error_count(self) -> int:
        """How many failed."""
        return sum(self.errors.values())

    def errors_by_kind(self) -> dict[str, int]:
        """Return the errors, whatever the operation."""
        found: Counter[str] = Counter()
        for (_operation, kind), count in self.errors.items():
            found[kind] += count
        return dict(found)

    def outcomes(self, seconds: float) -> dict[str | None, Outcome]:
        """Return what assertions judge, by kind of operation; None: all."""
        found: dict[str | None, Outcome] = {
            None: self._outcome(
                self.all_latencies(), self.error_count, sum(self.wrong.values()), seconds
            )
        }
        for kind in KINDS:
            errors = sum(count for (of, _kind), count in self.errors.items() if of == kind)
            histogram = self.latencies.get(kind, Histogram())
            wrong = sum(self.wrong.values()) if kind == "read" else 0
            found[kind] = self._outcome(histogram, errors, wrong, seconds)
        return found

    def to_json(self, seconds: float) -> dict[str, Any]:
        """Return its line of the timeline.

        Shape:   seconds, how long it was; the last one may be shorter.
        """
        everything = self.all_latencies()
        return {
            "kind": "second",
            "second": self.number,
            "seconds": round(seconds, 3),
            "operations": everything.total,
            "rate_per_s": round(everything.total / seconds, 3) if seconds else 0.0,
            "errors": self.errors_by_kind(),
            "wrong": dict(self.wrong),
            "verified": self.verified,
            "reconnects": self.reconnects,
            "latency": {
                "all": everything.summary(),
                **{kind: histogram.summary() for kind, histogram in self.latencies.items()},
            },
        }

    @staticmethod
    def _outcome(histogram: Histogram, errors: int, wrong: int, seconds: float) -> Outcome:
        return Outcome(
            histogram.total,
            errors,
            wrong,
            seconds,
            histogram.percentile,
            histogram.max_ns(),
            histogram.mean_ns(),
        )


class Timeline:
    """All clients' seconds, put together as they come.

    Owner:  one thread.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self._open: dict[int, Second] = {}
        #: How many seconds of its own each client has sent.
        self._sent: Counter[int] = Counter()
        self._next = 0
        #: Everything so far.
        self.total = Second(-1)

    def add(self, client: int, second: Second) -> None:
        """Add a client's next second."""
        self._open.setdefault(second.number, Second(second.number)).merge(second)
        self._sent[client] = second.number + 1
        self.total.merge(second)

    def complete(self) -> Iterator[Second]:
        """Yield, in order, the seconds that are over and that every client has sent by now."""
        least = min(self._sent[client] for client in range(self._clients))
        # The last one of a client may be followed by a part of another.
        while self._next < least - 1:
            yield self._take(self._next)

    def rest(self, seconds: float) -> Iterator[tuple[Second, float]]:
        """Yield, in order, the seconds that are left when no more come, each with its length.

        Shape:  seconds, how long all of it took. What is left of a last second that was hardly
                begun is a part of the one before.
        """
        last = max(math.ceil(seconds - SHORTEST_S), 1) - 1
        last = max(last, self._next)
        for number in [each for each in self._open if each > last]:
            self._open.setdefault(last, Second(last)).merge(self._open.pop(number))
        while self._next < last:
            yield self._take(self._next), 1.0
        yield self._take(last), max(seconds - last, SHORTEST_S)

    def partial(self, number: int) -> Second:
        """Return what there is by now of a second that may not be complete."""
        return self._open.get(number, Second(number))

    def _take(self, number: int) -> Second:
        self._next = number + 1
        return self._open.pop(number, Second(number))
