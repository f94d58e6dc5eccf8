"""Goal: a gate says what it means, or refuses. Method: tables of what is read and what is not."""

from __future__ import annotations

import pytest

from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.load.assertions import (
    Assertion,
    AssertionSyntaxError,
    Outcome,
    parse,
    parse_all,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p99<5ms", (None, "p99", "<", 5e6, False)),
        ("read.p99.9<2ms", ("read", "p99.9", "<", 2e6, False)),
        ("update.max<=1.5s", ("update", "max", "<=", 1.5e9, False)),
        ("mean > 10us", (None, "mean", ">", 1e4, False)),
        (" p100 >= 1ns ", (None, "p100", ">=", 1, False)),
        ("errors<0.1%", (None, "errors", "<", 0.1, True)),
        ("errors<=0%", (None, "errors", "<=", 0, True)),
        ("read.errors<5", ("read", "errors", "<", 5, False)),
        ("rate>10000", (None, "rate", ">", 10_000, False)),
        ("wrong<1", (None, "wrong", "<", 1, False)),
    ],
)
def test_assertions_are_read(text: str, expected: tuple[object, ...]) -> None:
    found = parse(text)
    assert (found.kind, found.metric, found.operator, found.bound, found.is_share) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no assertion"),
        ("p99", "no assertion"),
        ("p99<", "no assertion"),
        ("<5ms", "no assertion"),
        ("p99=5ms", "no assertion"),
        ("p99==5ms", "no assertion"),
        ("p99<<5ms", "no duration"),
        ("p99<5ms<6ms", "no duration"),
        ("p99<5ms p50<1ms", "no assertion"),
        ("p99<5", "no duration"),
        ("p99<5%", "no duration"),
        ("p99<-5ms", "no duration"),
        ("p99<nan", "no duration"),
        ("p99<1e3ms", "no duration"),
        ("p99<٥ms", "no duration"),
        ("p٩٩<5ms", "no assertion"),
        ("p0<5ms", "above 0 and at most 100"),
        ("p999<5ms", "above 0 and at most 100"),
        ("p<5ms", "no metric 'p'"),
        ("p9.9.9<5ms", "no metric"),
        ("q99<5ms", "no metric 'q99'"),
        ("latency<5ms", "no metric 'latency'"),
        ("P99<5ms", "no assertion"),
        ("scan.p99<5ms", "not 'scan'"),
        ("read.update.p99<5ms", "no assertion"),
        ("rate>10k", "is no number: a rate is"),
        ("rate>5%", "is no number"),
        ("rate>inf", "is no number"),
        ("errors<0.1 %", "no assertion"),
        ("errors<101%", "at most 100%"),
        ("errors<.1%", "write a share"),
        ("wrong<1%", "how many values"),
        ("__import__('os')<1", "no assertion"),
        ("p99<" + "9" * 10_000 + "ms", "no assertion"),
        ("p99\x00<5ms", "no assertion"),
    ],
)
def test_anything_else_is_refused_and_says_why(text: str, reason: str) -> None:
    with pytest.raises(AssertionSyntaxError) as caught:
        parse(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


def _outcome(errors: int = 0, wrong: int = 0, count: int = 1000) -> Outcome:
    histogram = Histogram()
    histogram.add_many(range(1, count + 1))
    return Outcome(
        histogram.total, errors, wrong, 2.0, histogram.percentile, histogram.max_ns(),
        histogram.mean_ns(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "held", "found"),
    [
        ("p99<991ns", True, "990 ns"),
        ("p99<990ns", False, "990 ns"),
        ("p99<=990ns", True, "990 ns"),
        ("p50>0.6us", False, "500 ns"),
        ("max<1ms", True, "1.00 µs"),
        ("mean>=0.5us", True, "500 ns"),
        ("rate>499", True, "500/s"),
        ("rate>500", False, "500/s"),
        ("errors<1%", True, "0.5964 %"),
        ("errors<0.5%", False, "0.5964 %"),
        ("errors<6", False, "6"),
        ("wrong<1", False, "2"),
        ("read.p50<1us", False, "nothing was tried"),
        ("update.p50<1us", False, "nothing was answered"),
        ("update.rate>0", False, "0/s"),
        ("update.errors<=100%", True, "100 %"),
    ],
)
def test_assertions_hold_or_not(text: str, held: bool, found: str) -> None:
    outcomes: dict[str | None, Outcome] = {
        None: _outcome(errors=6, wrong=2),
        "update": _outcome(errors=4, count=0),
    }
    verdict = parse(text).judge(outcomes)
    assert (verdict.text, verdict.held, verdict.found) == (text, held, found)


def test_nothing_holds_where_nothing_was_done() -> None:
    outcomes: dict[str | None, Outcome] = {None: _outcome(count=0)}
    for text in ("errors<1%", "p99<1s", "rate>0", "wrong<1"):
        assert parse(text).judge(outcomes).held is False


def test_several_are_read_in_their_order() -> None:
    found: list[Assertion] = parse_all(["p99<5ms", "rate>1"])
    assert [each.metric for each in found] == ["p99", "rate"]
    with pytest.raises(AssertionSyntaxError):
        parse_all(["p99<5ms", "rate"])
