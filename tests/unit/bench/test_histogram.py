"""Percentiles are never too good, and at most 3 per cent too bad. Method: against sorted lists."""

from __future__ import annotations

import random

import pytest

from ferrisdb.bench.histogram import PERCENTILES, Histogram


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_lie_just_above_the_true_ones(seed: int) -> None:
    rng = random.Random(seed)
    latencies = sorted(int(2 ** rng.uniform(0, 40)) for _ in range(20_000))
    histogram = Histogram()
    for ns in latencies:
        histogram.add(ns)
    assert histogram.total == len(latencies)
    for part in PERCENTILES:
        true = latencies[round(len(latencies) * part / 100) - 1]
        assert true <= histogram.percentile(part) <= true * 1.032
    assert latencies[-1] <= histogram.max_ns() <= latencies[-1] * 1.032


def test_small_latencies_are_exact() -> None:
    for ns in range(64):
        histogram = Histogram()
        histogram.add(ns)
        assert histogram.max_ns() == ns
    assert Histogram().summary() == {
        "count": 0,
        "p50_us": 0.0,
        "p99_us": 0.0,
        "p99.9_us": 0.0,
        "p99.99_us": 0.0,
        "max_us": 0.0,
    }
