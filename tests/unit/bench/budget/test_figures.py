"""Ratios, their spread and what is asked; and the table that shows them."""

from __future__ import annotations

import pytest

from ferrisdb.bench.budget import table
from ferrisdb.bench.budget.figures import Asked, Figure, Measured, Row, judge

TIMES = Figure("get", "µs", {"ferrisdb": [1.0, 2.0, 4.0], "lmdb": [4.0, 5.0, 6.0]})
RATES = Figure("put", "/s", {"ferrisdb": [900.0], "a": [100.0], "b": [300.0]}, more_is_better=True)


def _row(*asked: Asked) -> Row:
    return Row("get", "random get", asked, lambda run: [])


def test_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    verdict = judge(Asked("get", 2.5, ("lmdb",)), [TIMES])
    assert verdict is not None
    assert (verdict.value, verdict.low, verdict.high) == (2.5, 1.5, 4.0)
    assert verdict.holds and verdict.peer == "lmdb"
    missed = judge(Asked("get", 2.51, ("lmdb",)), [TIMES])
    assert missed is not None and not missed.holds


def test_the_best_of_several_peers_is_the_one_that_counts() -> None:
    verdict = judge(Asked("put", 4, ("a", "b")), [RATES])
    assert verdict is not None
    assert (verdict.peer, verdict.value, verdict.holds) == ("b", 3.0, False)
    times = Figure("fill", "s", {"ferrisdb": [1.0], "a": [9.0], "b": [3.0]})
    faster = judge(Asked("fill", 3, ("a", "b")), [times])
    assert faster is not None and faster.peer == "b" and faster.holds


def test_a_bound_without_peers_is_of_our_median() -> None:
    verdict = judge(Asked("get", most=2.0), [TIMES])
    assert verdict is not None
    assert (verdict.value, verdict.low, verdict.high, verdict.holds) == (2.0, 1.0, 4.0, True)
    below = judge(Asked("get", most=1.9), [TIMES])
    assert below is not None and not below.holds


@pytest.mark.parametrize(
    "asked", [Asked("get", 2, ("rocksdict",)), Asked("scan", 2, ("lmdb",)), Asked("scan", most=1)]
)
def test_what_was_not_compared_does_not_hold(asked: Asked) -> None:
    assert judge(asked, [TIMES]) is None
    measured = Measured(_row(asked, Asked("get", 1, ("lmdb",))), (TIMES,))
    assert len(measured.verdicts()) == 1 and not measured.holds
    assert any("nothing to compare with" in line for line in table.lines([measured]))


def test_table_says_medians_ranges_ratios_and_whether_they_hold() -> None:
    good = Measured(_row(Asked("get", 2, ("lmdb",))), (TIMES,))
    assert good.holds
    failed = Measured(_row(Asked("get", 2, ("lmdb",))), why="no lmdb here")
    text = "\n".join(table.markdown([good, failed]))
    assert "| random get | 2.00 µs [1.00–4.00] | lmdb 5.00 µs [4.00–6.00] |" in text
    assert "| 2.50 × lmdb [1.50–4.00] | 2 × lmdb | holds |" in text
    assert "not measured: no lmdb here" in text
    assert not failed.holds
    assert good.to_json()["verdicts"][0]["value"] == 2.5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (0.95, "0.95"), (2.5, "2.50"), (12.34, "12.3"), (432.1, "432"),
     (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_the_digits_that_say_something(value: float, text: str) -> None:
    assert table.number(value) == text
