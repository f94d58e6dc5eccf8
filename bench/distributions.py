"""Choose key numbers: uniformly, by Zipf's law, or the latest first.

Each is drawn in bulk, so that choosing costs little beside an operation. Source: Gray et al.,
"Quickly generating billion-record synthetic databases" (1994), as YCSB uses it; what is changed:
popular numbers are spread by a permutation, where YCSB hashes and lets some of them coincide, and
zeta is summed up to a million terms and integrated from there on.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.records import Numbers
from ferrisdb.bench.scale import DISTRIBUTIONS

_SUMMED_MAX: Final = 1_000_000
_SPREAD: Final = 0x9E3779B1
"""About 2**32 over the golden ratio: neighbours come to lie far apart."""


class Distribution(Protocol):
    """Chooses numbers."""

    def draw(self, count: int) -> Numbers:
        """Return so many numbers."""


class Uniform:
    """Every number of 0 to `size` - 1 is as likely."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._size = size
        self._rng = rng

    def draw(self, count: int) -> Numbers:
        """Return so many numbers."""
        return self._rng.integers(0, self._size, count, dtype=np.uint64)


class ZipfianRanks:
    """Rank r of 0 to `size` - 1 is as likely as 1 / (r + 1) ** theta."""

    def __init__(self, size: int, theta: float, rng: np.random.Generator) -> None:
        """Prepare it.

        Shape:   theta, above 0 and below 1.
        """
        if not 0 < theta < 1:
            raise ValueError(f"theta is above 0 and below 1, not {theta}")
        self._size = size
        self._rng = rng
        self._zeta = zeta(size, theta)
        self._alpha = 1 / (1 - theta)
        self._half = 1 + 0.5**theta
        two = zeta(2, theta)
        self._eta = (1 - (2 / size) ** (1 - theta)) / (1 - two / self._zeta) if size > 2 else 0.0

    def draw(self, count: int) -> Numbers:
        """Return so many ranks."""
        u = self._rng.random(count)
        scaled = u * self._zeta
        ranks = (self._size * (self._eta * u - self._eta + 1) ** self._alpha).astype(np.uint64)
        ranks[scaled < self._half] = 1
        ranks[scaled < 1] = 0
        return np.minimum(ranks, np.uint64(self._size - 1))


class Zipfian:
    """Zipfian ranks, spread over all numbers by a permutation."""

    def __init__(self, size: int, theta: float, rng: np.random.Generator) -> None:
        self._ranks = ZipfianRanks(size, theta, rng)
        self._size = np.uint64(size)
        self._factor = np.uint64(coprime(size))

    def draw(self, count: int) -> Numbers:
        """Return so many numbers."""
        # Below 2**32 each, so the product fits.
        return self._ranks.draw(count) * self._factor % self._size


def coprime(size: int) -> int:
    """Return a factor that permutes the numbers below `size` when it is multiplied modulo it."""
    factor = _SPREAD % size or 1
    while math.gcd(factor, size) != 1:
        factor += 1
    return factor


def zeta(size: int, theta: float) -> float:
    """Return the sum of 1 / n ** theta for n from 1 to `size`."""
    summed = min(size, _SUMMED_MAX)
    terms: npt.NDArray[np.float64] = np.arange(1, summed + 1, dtype=np.float64) ** -theta
    total = float(terms.sum())
    if size > summed:
        # Euler and Maclaurin's formula; what it leaves out is below 1e-12.
        power = 1 - theta
        total += (float(size) ** power - float(summed) ** power) / power
        total += (float(size) ** -theta - float(summed) ** -theta) / 2
    return total


def distribution(name: str, size: int, theta: float, rng: np.random.Generator) -> Distribution:
    """Return a distribution over the numbers below `size`.

    Shape:   name, "uniform" or "zipfian"; for "latest", what it returns are ranks: 0 is the newest.
    """
    if not 0 < size < 1 << 32:
        raise ValueError(f"there are 1 to {(1 << 32) - 1:,} keys to choose from, not {size:,}")
    if name == "uniform":
        return Uniform(size, rng)
    if name == "zipfian":
        return Zipfian(size, theta, rng)
    if name == "latest":
        return ZipfianRanks(size, theta, rng)
    raise ValueError(f"a distribution is one of {', '.join(DISTRIBUTIONS)}, not {name}")
