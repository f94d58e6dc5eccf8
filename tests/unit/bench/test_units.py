"""Goal: durations are read strictly, and printed as people write them. Method: tables."""

from __future__ import annotations

import pytest

from ferrisdb.bench import units


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5ms", 5_000_000),
        ("250us", 250_000),
        ("250µs", 250_000),
        ("250\N{GREEK SMALL LETTER MU}s", 250_000),
        ("1.5s", 1_500_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1m2s3ms4us5ns", 62_003_004_005),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, ns: int) -> None:
    assert units.parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", "5", "ms", "5 ms", "-5ms", "5mss", "1m1h", "1s1s", "1e3s", "٣s", "5ms\n", "1.s", "inf"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration: write one such as"):
        units.parse_duration_ns(text)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 µs"),
        (0.0123, "12.3 ns"),
        (0.9999, "1.00 µs"),
        (1, "1.00 µs"),
        (9.999, "10.0 µs"),
        (123.4, "123 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (1234, "1.23 ms"),
        (12_345_678, "12.3 s"),
        (4_000_000_000, "4,000 s"),
    ],
)
def test_durations_are_printed_with_three_digits(us: float, text: str) -> None:
    assert units.duration_text(us) == text


def test_rates_and_ratios_are_printed() -> None:
    assert [units.rate_text(rate) for rate in (0, 0.5, 12.34, 999.9, 1234567)] == [
        "0", "0.500", "12.3", "1,000", "1,234,567",
    ]  # fmt: skip
    assert [units.short_rate(rate) for rate in (0, 12, 999.9, 1234, 1234567)] == [
        "0", "12.0", "1.00k", "1.23k", "1.23M",
    ]  # fmt: skip
    assert [units.ratio_text(ratio) for ratio in (0.951, 2.1, 9.999, 123.4)] == [
        "0.95 ×", "2.10 ×", "10.0 ×", "123 ×",
    ]  # fmt: skip
    assert [units.tick_rate(rate) for rate in (0, 500, 12_000, 1_500_000)] == [
        "0", "500", "12k", "1.5M",
    ]  # fmt: skip
    assert [units.tick_duration(us) for us in (0.01, 1, 100, 10_000, 1e6)] == [
        "10 ns", "1 µs", "100 µs", "10 ms", "1 s",
    ]  # fmt: skip
