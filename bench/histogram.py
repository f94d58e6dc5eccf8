"""Count latencies in a log-linear histogram: 32 buckets an octave, so within 3 per cent.

A bucket's value is the largest that falls into it: percentiles are never too good.

Source: HdrHistogram's layout, without its packing.
"""

from __future__ import annotations

from typing import Any, Final

SUB_BITS: Final = 5
BUCKETS: Final = (64 - SUB_BITS) << SUB_BITS
PERCENTILES: Final = (50.0, 99.0, 99.9, 99.99)


class Histogram:
    """Latencies in ns.

    Owner: one thread; `counts` travels between processes and is added up.
    """

    def __init__(self, counts: list[int] | None = None) -> None:
        self.counts = [0] * BUCKETS if counts is None else counts

    def add(self, ns: int) -> None:
        """Count one latency."""
        shift = max(ns.bit_length() - SUB_BITS - 1, 0)
        self.counts[(shift << SUB_BITS) + (ns >> shift)] += 1

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def percentile(self, part: float) -> int:
        """Return the ns that so many per cent do not exceed; 0 if there are none."""
        wanted = self.total * part / 100
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return _highest(index)
        return 0

    def max_ns(self) -> int:
        """Return the largest."""
        return self.percentile(100.0)

    def summary(self) -> dict[str, Any]:
        """Return count, percentiles and maximum, in µs."""
        row: dict[str, Any] = {"count": self.total}
        row |= {f"p{part:g}_us": self.percentile(part) / 1000 for part in PERCENTILES}
        return row | {"max_us": self.max_ns() / 1000}


def _highest(index: int) -> int:
    # The inverse of `add`: octaves from the second on begin with their upper half.
    shift = max((index >> SUB_BITS) - 1, 0)
    return ((index - (shift << SUB_BITS) + 1) << shift) - 1
