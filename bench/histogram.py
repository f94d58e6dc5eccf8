"""Count latencies in HdrHistogram's buckets: three significant digits, from 1 ns to a day.

Layout: `counts[index]`. A value below 2,048 ns has a bucket of its own; above that each octave is
cut into 1,024. With `shift` the bits of a value beyond its 11 highest,
`index = (shift << 10) + (ns >> shift)`. These are the buckets of an HdrHistogram of 1 to
`NS_MAX` with 3 significant digits, so `hdr_codec` can write them for the tools that read such.

H1  A bucket's value is the largest that falls into it: a percentile is never too good, and at most
    0.1 % too bad.
H2  Latencies wait in a list until there are enough of them to be counted in bulk; whatever looks
    at the counts counts these first.

Source: HdrHistogram's layout (Gil Tene), counted with NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

DIGITS: Final = 3
HALF_BITS: Final = 10
"""Half of the sub-buckets of an octave, as a power of two: 2,048 are the first above 2 x 10**3."""

NS_MAX: Final = 86_400 * 10**9
"""A day; what took longer is counted as a day."""

BUCKET_COUNT: Final = (NS_MAX.bit_length() - HALF_BITS + 1) << HALF_BITS
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
PENDING_MAX: Final = 16_384


class Histogram:
    """Latencies in ns.

    Owner:  one thread; it can be pickled, and merged with others.
    Cost:   `add` about 0.1 µs in the mean, `add_many` a quarter of that.
    """

    __slots__ = ("_counts", "_pending")

    def __init__(self) -> None:
        self._counts: Counts = np.zeros(BUCKET_COUNT, dtype=np.int64)
        self._pending: list[int] = []

    @classmethod
    def of_buckets(cls, indexes: npt.ArrayLike, counts: npt.ArrayLike) -> Histogram:
        """Return a histogram with these counts in these buckets, all others empty."""
        made = cls()
        made._counts[np.asarray(indexes, dtype=np.int64)] = np.asarray(counts, dtype=np.int64)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (Histogram.of_buckets, self.buckets())

    def add(self, ns: int) -> None:
        """Count one latency.

        Raises:  ValueError, one of the last is negative (H2); none of those is counted.
        """
        pending = self._pending
        pending.append(ns)
        if len(pending) >= PENDING_MAX:
            self._count_pending()

    def add_many(self, latencies_ns: Iterable[int] | npt.ArrayLike) -> None:
        """Count many at once: a list, an array, or whatever else yields whole numbers.

        Raises:  ValueError, one of them is negative; none is counted.
        """
        if isinstance(latencies_ns, Iterator):
            latencies_ns = list(latencies_ns)
        values = np.asarray(latencies_ns, dtype=np.int64)
        if values.size == 0:
            return
        if values.min() < 0:
            raise ValueError(f"a latency of {values.min()} ns: the clock went backwards")
        self._counts += np.bincount(indexes_of(values), minlength=BUCKET_COUNT)

    def merge(self, other: Histogram) -> None:
        """Count what another one has counted, too."""
        self._counts += other.counts

    @property
    def counts(self) -> Counts:
        """How many there are in each bucket; not a copy."""
        if self._pending:
            self._count_pending()
        return self._counts

    @property
    def total(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def buckets(self) -> tuple[Counts, Counts]:
        """Return the indexes of the buckets that aren't empty, and their counts."""
        (indexes,) = np.nonzero(self.counts)
        return indexes, self._counts[indexes]

    def percentile(self, part: float) -> int:
        """Return the ns that so many per cent do not exceed (H1); 0 if there are none."""
        return self.percentiles([part])[0]

    def percentiles(self, parts: Iterable[float]) -> list[int]:
        """Return several percentiles, for little more than one costs."""
        indexes, counts = self.buckets()
        if not indexes.size:
            return [0 for _ in parts]
        seen = np.cumsum(counts)
        total = int(seen[-1])
        # Rounded first: 99.9 per cent of 1,000 are 999, not 999.0000000000001.
        ranks = [max(math.ceil(round(total * part / 100, 6)), 1) for part in parts]
        places = np.minimum(np.searchsorted(seen, ranks), indexes.size - 1)
        return [highest_ns(int(index)) for index in indexes[places]]

    def max_ns(self) -> int:
        """Return the largest (H1); 0 if there are none."""
        return self.percentile(100.0)

    def mean_ns(self) -> float:
        """Return the mean, each latency taken as the middle of its bucket; 0 if there are none."""
        indexes, counts = self.buckets()
        return float(np.average(middles_ns(indexes), weights=counts)) if indexes.size else 0.0

    def deviation_ns(self) -> float:
        """Return the standard deviation, each latency taken as the middle of its bucket."""
        indexes, counts = self.buckets()
        if not indexes.size:
            return 0.0
        middles = middles_ns(indexes)
        mean = np.average(middles, weights=counts)
        return float(np.sqrt(np.average((middles - mean) ** 2, weights=counts)))

    def summary(self) -> dict[str, Any]:
        """Return count, percentiles, maximum and mean, in µs."""
        row: dict[str, Any] = {"count": self.total}
        found = self.percentiles([*PERCENTILES, 100.0])
        row |= {
            f"p{part:g}_us": ns / 1000 for part, ns in zip(PERCENTILES, found[:-1], strict=True)
        }
        return row | {"max_us": found[-1] / 1000, "mean_us": round(self.mean_ns() / 1000, 3)}

    def _count_pending(self) -> None:
        pending, self._pending = self._pending, []
        self.add_many(pending)


def indexes_of(latencies_ns: Counts) -> Counts:
    """Return each latency's bucket."""
    bounded = np.minimum(latencies_ns, NS_MAX)
    # Exact, for a day of ns has 47 bits and a float 53.
    _, bits = np.frexp(bounded.astype(np.float64))
    shifts = np.maximum(bits - (HALF_BITS + 1), 0).astype(np.int64)
    return np.asarray((shifts << HALF_BITS) + (bounded >> shifts), dtype=np.int64)


def highest_ns(index: int) -> int:
    """Return the largest value that falls into a bucket."""
    shift = max((index >> HALF_BITS) - 1, 0)
    return ((index - (shift << HALF_BITS) + 1) << shift) - 1


def middles_ns(indexes: Counts) -> npt.NDArray[np.float64]:
    """Return the middle of each bucket."""
    shifts = np.maximum((indexes >> HALF_BITS) - 1, 0)
    lowest = (indexes - (shifts << HALF_BITS)) << shifts
    return np.asarray(lowest + (1 << shifts >> 1), dtype=np.float64)
