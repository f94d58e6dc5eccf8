"""Percentiles are never too good, and at most 0.1 % too bad. Method: against sorted lists."""

from __future__ import annotations

import math
import pickle
import random

import numpy as np
import pytest

from ferrisdb.bench import histogram as histogram_module
from ferrisdb.bench.histogram import BUCKET_COUNT, NS_MAX, PERCENTILES, Histogram

ERROR = 1 / 1000


def _latencies(seed: int, count: int = 20_000) -> list[int]:
    rng = random.Random(seed)
    return [int(2 ** rng.uniform(0, 46)) for _ in range(count)]


def _true(latencies: list[int], part: float) -> int:
    """Return the percentile of a sorted list by its definition."""
    return latencies[max(math.ceil(round(len(latencies) * part / 100, 6)), 1) - 1]


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_lie_just_above_the_true_ones(seed: int) -> None:
    latencies = _latencies(seed)
    histogram = Histogram()
    for ns in latencies:
        histogram.add(ns)
    assert histogram.total == len(latencies)
    latencies.sort()
    for part in (*PERCENTILES, 0.0, 12.5, 99.999, 100.0):
        true = _true(latencies, part)
        assert true <= histogram.percentile(part) <= true * (1 + ERROR)
    assert histogram.mean_ns() == pytest.approx(np.mean(latencies), rel=ERROR)
    assert histogram.deviation_ns() == pytest.approx(np.std(latencies), rel=ERROR)


def test_few_latencies_have_percentiles_too() -> None:
    histogram = Histogram()
    histogram.add_many([30, 10, 20])
    assert histogram.percentiles([0, 33.4, 50, 66.7, 99, 100]) == [10, 20, 20, 30, 30, 30]


def test_every_bucket_begins_where_the_one_before_ends() -> None:
    indexes = np.arange(BUCKET_COUNT)
    highest = np.array([histogram_module.highest_ns(index) for index in indexes.tolist()])
    tops = highest[highest <= NS_MAX]
    assert (histogram_module.indexes_of(tops) == indexes[: len(tops)]).all()
    following = tops[:-1] + 1
    assert (histogram_module.indexes_of(following) == indexes[1 : len(tops)]).all()
    assert (np.diff(highest) / np.maximum(highest[1:], 1) <= ERROR)[2048:].all()


def test_all_ways_to_count_agree() -> None:
    latencies = _latencies(7)
    one, many, array, iterated = (Histogram() for _ in range(4))
    for ns in latencies:
        one.add(ns)
    many.add_many(latencies)
    array.add_many(np.array(latencies))
    iterated.add_many(iter(latencies))
    for other in (many, array, iterated):
        assert (one.counts == other.counts).all()


def test_parts_merge_to_the_whole_also_pickled() -> None:
    latencies = _latencies(8)
    whole = Histogram()
    whole.add_many(latencies)
    merged = Histogram()
    for begin in range(0, len(latencies), 777):
        part = Histogram()
        for ns in latencies[begin : begin + 777]:
            part.add(ns)
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.summary() == whole.summary()
    assert len(pickle.dumps(Histogram())) < 1000


def test_small_latencies_are_exact() -> None:
    for ns in range(2048):
        histogram = Histogram()
        histogram.add(ns)
        assert histogram.max_ns() == ns
    nothing = {f"p{part:g}_us": 0.0 for part in PERCENTILES}
    assert Histogram().summary() == {"count": 0, **nothing, "max_us": 0.0, "mean_us": 0.0}


def test_what_is_longer_than_a_day_counts_as_a_day() -> None:
    histogram = Histogram()
    histogram.add_many([NS_MAX * 50, (1 << 63) - 1])
    assert histogram.total == 2
    assert NS_MAX <= histogram.max_ns() <= NS_MAX * (1 + ERROR)


def test_a_negative_latency_is_refused_and_nothing_of_its_list_counted() -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="-5 ns"):
        histogram.add_many([1, -5, 2])
    assert histogram.total == 0
