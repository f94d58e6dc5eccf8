"""Numbers come as often as their distribution says. Method: many draws, counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ferrisdb.bench.distributions import Zipfian, ZipfianRanks, coprime, distribution, zeta

COUNT = 200_000


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", ["uniform", "zipfian", "latest"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_numbers_lie_in_their_range(name: str, size: int) -> None:
    numbers = distribution(name, size, 0.99, _rng()).draw(10_000)
    assert numbers.dtype == np.uint64 and numbers.max() < size


def test_a_seed_gives_the_same_numbers() -> None:
    drawn = [distribution("zipfian", 1000, 0.99, _rng()).draw(100).tolist() for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_uniform_numbers_are_equally_likely() -> None:
    counts = np.bincount(distribution("uniform", 100, 0.99, _rng()).draw(COUNT).astype(int))
    assert len(counts) == 100 and abs(counts - COUNT / 100).max() < 6 * math.sqrt(COUNT / 100)


@pytest.mark.parametrize("theta", [0.5, 0.99])
def test_ranks_are_as_likely_as_zipf_s_law_says(theta: float) -> None:
    size = 1000
    ranks = ZipfianRanks(size, theta, _rng()).draw(COUNT).astype(int)
    counts = np.bincount(ranks, minlength=size)
    law = 1 / np.arange(1, size + 1) ** theta
    law *= COUNT / law.sum()
    # The two first are exact, the others by an approximation that is a few per cent off.
    assert np.allclose(counts[:2], law[:2], rtol=0.06)
    assert np.allclose(np.cumsum(counts)[9::90], np.cumsum(law)[9::90], rtol=0.1)


def test_popular_numbers_are_spread_and_never_coincide() -> None:
    size = 10_000
    factor = coprime(size)
    assert len({rank * factor % size for rank in range(size)}) == size
    counts = np.bincount(Zipfian(size, 0.99, _rng()).draw(COUNT).astype(int), minlength=size)
    popular = np.sort(np.argsort(counts)[-10:])
    assert np.diff(popular).min() > 10
    assert counts.max() > COUNT / 20


@pytest.mark.parametrize("size", [1, 10, 999_999])
def test_zeta_is_the_sum(size: int) -> None:
    assert zeta(size, 0.99) == pytest.approx(sum(n**-0.99 for n in range(1, size + 1)), rel=1e-9)


def test_zeta_of_many_goes_on_where_the_sum_ends() -> None:
    summed = float((np.arange(1, 3_000_001, dtype=np.float64) ** -0.7).sum())
    assert zeta(3_000_000, 0.7) == pytest.approx(summed, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "size", "theta"),
    [("normal", 10, 0.9), ("uniform", 0, 0.9), ("zipfian", 10, 1.0), ("zipfian", 1 << 32, 0.5)],
)
def test_what_can_not_be_is_refused(name: str, size: int, theta: float) -> None:
    with pytest.raises(ValueError, match=r"one of|choose from|theta"):
        distribution(name, size, theta, _rng())
