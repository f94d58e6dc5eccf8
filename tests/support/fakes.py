"""Stand in for clock and randomness: seeded, moved by hand."""

from __future__ import annotations

import random


class SeededRng:
    """Randomness that a seed repeats."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def u64(self) -> int:
        return self._random.getrandbits(64)


class ManualClock:
    """Clocks that stand still until told otherwise."""

    def __init__(self, wall_us: int = 1_700_000_000_000_000) -> None:
        self._wall_us = wall_us
        self._monotonic_ns = 0

    def wall_us(self) -> int:
        return self._wall_us

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def advance_us(self, us: int) -> None:
        """Let time pass on both clocks."""
        self._wall_us += us
        self._monotonic_ns += us * 1000
