"""Thresholds that a load has to keep, as people write them: `p99<5ms`, `errors<0.1%`, `rate>10000`.

    ASSERTION  = [KIND "."] METRIC OPERATOR VALUE
    KIND       = "read" | "update"                 without it: all operations together
    METRIC     = "p" NUMBER | "max" | "mean"       VALUE is a duration: 250us, 5ms, 1.5s
               | "rate"                            VALUE is a number, of operations a second
               | "errors"                          VALUE is a percentage of what was tried: 0.1%
                                                   or a number of operations
               | "wrong"                           VALUE is a number of values that were wrong
    OPERATOR   = "<" | "<=" | ">" | ">="

Blanks may stand around the operator. Anything else is refused: a gate must not pass for a typing
mistake.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ferrisdb.bench.units import duration_text, parse_duration_ns, rate_text

KINDS: Final = ("read", "update")
_TEXT_CHARS_MAX: Final = 100
_SHAPE: Final = re.compile(r"(?:([a-z]+)\.)?([a-z]+[0-9.]*)\s*(<=|>=|<|>)\s*(\S+)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class AssertionSyntaxError(ValueError):
    """An assertion can't be read; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load came to, in the figures that assertions name; of one kind, or of all."""

    #: Operations that were answered, and those that failed.
    operations: int
    errors: int
    wrong: int
    seconds: float
    #: Returns a percentile in ns.
    percentile_ns: Callable[[float], int]
    max_ns: int
    mean_ns: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an assertion held, and what was found."""

    text: str
    held: bool
    found: str


@dataclass(frozen=True, slots=True)
class Assertion:
    """One threshold.

    Units:  bound, ns of a latency; operations a second of a rate; per cent or a number of errors.
    """

    text: str
    kind: str | None
    metric: str
    operator: str
    bound: float
    is_share: bool = False

    def judge(self, outcomes: dict[str | None, Outcome]) -> Verdict:
        """Say whether it held.

        Shape:  outcomes, by kind; None: of all operations. What was never tried holds nothing.
        """
        outcome = outcomes.get(self.kind)
        if outcome is None or outcome.operations + outcome.errors == 0:
            return Verdict(self.text, False, "nothing was tried")
        if self.metric not in ("rate", "errors", "wrong") and outcome.operations == 0:
            return Verdict(self.text, False, "nothing was answered")
        found = self._found(outcome)
        held = _OPERATORS[self.operator](found, self.bound)
        return Verdict(self.text, held, self._shown(found))

    def _found(self, outcome: Outcome) -> float:
        if self.metric == "rate":
            return outcome.operations / outcome.seconds if outcome.seconds else 0.0
        if self.metric == "wrong":
            return outcome.wrong
        if self.metric == "errors":
            tried = outcome.operations + outcome.errors
            return 100 * outcome.errors / tried if self.is_share else outcome.errors
        if self.metric == "max":
            return outcome.max_ns
        if self.metric == "mean":
            return outcome.mean_ns
        return outcome.percentile_ns(float(self.metric[1:]))

    def _shown(self, found: float) -> str:
        if self.is_share:
            return f"{found:.4g} %"
        if self.metric in ("errors", "wrong"):
            return f"{found:,.0f}"
        if self.metric == "rate":
            return f"{rate_text(found)}/s"
        return duration_text(found / 1000)


def parse(text: str) -> Assertion:
    """Return the assertion that a text says.

    Raises:  AssertionSyntaxError.
    """
    match = _SHAPE.fullmatch(text.strip()) if len(text) <= _TEXT_CHARS_MAX else None
    if match is None:
        raise AssertionSyntaxError(
            f"{text[:_TEXT_CHARS_MAX]!r} is no assertion: write METRIC<VALUE, such as p99<5ms, "
            "read.p99.9<2ms, errors<0.1% or rate>10000"
        )
    kind, metric, sign, value = match.groups()
    if kind is not None and kind not in KINDS:
        raise AssertionSyntaxError(
            f"{text!r}: operations are of the kinds {' and '.join(KINDS)}, not {kind!r}"
        )
    bound, is_share = _bound(text, _metric(text, metric), value)
    return Assertion(text.strip(), kind, metric, sign, bound, is_share)


def parse_all(texts: Iterable[str]) -> list[Assertion]:
    """Return the assertions of several texts.

    Raises:  AssertionSyntaxError, for the first that can't be read.
    """
    return [parse(text) for text in texts]


def _metric(text: str, metric: str) -> str:
    """Return a metric that is known."""
    if metric in ("max", "mean", "rate", "errors", "wrong"):
        return metric
    number = metric[1:]
    if metric[0] == "p" and _NUMBER.fullmatch(number):
        if 0 < float(number) <= 100:
            return metric
        raise AssertionSyntaxError(f"{text!r}: a percentile is above 0 and at most 100: p99.9")
    raise AssertionSyntaxError(
        f"{text!r}: there is no metric {metric!r}, but p50, p99, p99.9 ..., max, mean, rate, "
        "errors and wrong"
    )


def _bound(text: str, metric: str, value: str) -> tuple[float, bool]:
    """Return the number of a value, and whether it is a percentage."""
    if metric in ("rate", "errors", "wrong"):
        is_share = metric == "errors" and value.endswith("%")
        number = value.removesuffix("%") if is_share else value
        if _NUMBER.fullmatch(number) is None:
            raise AssertionSyntaxError(f"{text!r}: {value!r} is no number{_NUMBERS[metric]}")
        if is_share and float(number) > 100:
            raise AssertionSyntaxError(f"{text!r}: a share of errors is at most 100%")
        return float(number), is_share
    try:
        return parse_duration_ns(value), False
    except ValueError as error:
        raise AssertionSyntaxError(f"{text!r}: {error}") from None


_NUMBERS: Final = {
    "rate": ": a rate is one of operations a second, such as 10000",
    "errors": ": write a share, such as 0.1%, or how many operations may fail",
    "wrong": ": write how many values may be wrong",
}
