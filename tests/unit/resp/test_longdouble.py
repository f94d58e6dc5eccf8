"""Goal: sums of decimals are those of x86's FPU. Method: a table; numpy's long double there."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ferrisdb.resp import longdouble
from ferrisdb.resp.longdouble import Number

has_fpu = pytest.mark.skipif(
    platform.machine() != "x86_64" or np.finfo(np.longdouble).nmant != 63,
    reason="long double is another format here",
)


def _sum(one: bytes, other: bytes) -> bytes | None:
    first, second = longdouble.read(one), longdouble.read(other)
    assert isinstance(first, Number)
    assert isinstance(second, Number)
    total = longdouble.add(first, second)
    return None if total is None else longdouble.show(total)


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        (b"0", b"0", b"0"),
        (b"10.50", b"0.1", b"10.6"),
        (b"5.0e3", b"2.0e2", b"5200"),
        (b"0.1", b"0.2", b"0.3"),
        (b"3", b"-3", b"0"),
        (b"-0.0", b"0", b"0"),
        (b"1e17", b"1.5", b"100000000000000001.5"),
        (b"0x1p3", b"0xA.8", b"18.5"),
        (b".5", b"-5.", b"-4.5"),
        (b"9223372036854775807", b"1", b"9223372036854775808"),
        (b"36893488147419103232", b"1", b"36893488147419103232"),
        (b"0.000000000000000006", b"0", b"0.00000000000000001"),
        (b"-0.000000000000000001", b"0", b"0"),
        (b"1e4932", b"1e4932", None),
        (b"-1e4932", b"-1e4932", None),
        (b"0e99999999999999999999", b"1", b"1"),
    ],
)
def test_sums_are_printed_as_redis_prints_them(
    one: bytes, other: bytes, total: bytes | None
) -> None:
    assert _sum(one, other) == total
    assert _sum(other, one) == total


@pytest.mark.parametrize(
    "text",
    [b"", b" 1", b"1 ", b"a", b".", b"-", b"+", b"1e", b"e5", b"0x", b"0x.p1", b"1_0", b"nan",
     b"1\0", b"1e4933", b"1e5000", b"1e99999999999999999999", b"1e-5000", b"1" * 5120,
     b"0x1p16384", b"0x1p-16446", b"infinit"],
)  # fmt: skip
def test_what_is_no_number_or_out_of_range_is_refused(text: bytes) -> None:
    assert longdouble.read(text) is None


def test_the_infinite_is_told_from_what_is_no_number() -> None:
    for text in (b"inf", b"-inf", b"+Infinity", b"INF"):
        assert longdouble.read(text) is True


def test_the_ends_of_the_range_are_numbers() -> None:
    assert longdouble.read(b"0x1p-16445") == Number(1, -16445)
    assert longdouble.read(b"0x1.8p-16446") == Number(1, -16445)
    largest = longdouble.read(b"0x1.fffffffffffffffep16383")
    assert largest == Number((1 << 64) - 1, 16383 - 63)
    assert longdouble.read(b"0x1.ffffffffffffffffp16383") is None
    assert isinstance(longdouble.read(b"1" + b"0" * 4900), Number)
    assert len(longdouble.show(largest)) == 4933


@pytest.mark.parametrize("exponent", [0, 63, 11_900, 12_000, 13_200, 13_287, 13_288, 13_300])
def test_long_whole_numbers_are_printed_whole(exponent: int) -> None:
    shown = longdouble.show(Number(1 << 63, exponent))
    whole = int(shown[:4000]) * 10 ** len(shown[4000:]) + int(shown[4000:] or b"0")
    assert (whole, shown[:1] != b"0") == (1 << 63 + exponent, True)


_DECIMALS = st.from_regex(
    re.compile(r"-?[0-9]{0,25}(\.[0-9]{1,25})?(e-?[0-9]{1,3})?"), fullmatch=True
)


@has_fpu
@settings(max_examples=300)
@given(_DECIMALS, _DECIMALS)
@example("0.1", "1e-20")
@example("9007199254740993", "0.5")
def test_sums_are_those_of_the_processor(one: str, other: str) -> None:
    read = longdouble.read(one.encode()), longdouble.read(other.encode())
    if not isinstance(read[0], Number) or not isinstance(read[1], Number):
        return
    total = np.longdouble(one) + np.longdouble(other)
    text = np.format_float_positional(total, precision=17, unique=False, trim="-")
    assert _sum(one.encode(), other.encode()) == (b"0" if text == "-0" else text.encode())
