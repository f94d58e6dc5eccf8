"""Say durations, rates and ratios as people read them, and read durations that people wrote."""

from __future__ import annotations

import re
from typing import Final

NS_PER: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
"""How many ns a unit has; the two letters that look like a µ are both taken for it."""

_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")


def parse_duration_ns(text: str) -> int:
    """Return the ns of a duration: "5ms", "1.5s", "1h30m". A number alone has no unit: refused.

    Raises:  ValueError, says what a duration looks like.
    """
    rest, found = text.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"), 0.0
    former = None
    while rest:
        match = _PART.match(rest)
        # Each unit at most once, the larger before the smaller.
        if match is None or (former is not None and NS_PER[match[2]] >= former):
            break
        former = NS_PER[match[2]]
        found += float(match[1]) * former
        rest = rest[match.end() :]
    if rest or former is None:
        raise ValueError(f"{text!r} is no duration: write one such as 5ms, 1.5s or 1h30m")
    return round(found)


def digits(value: float, significant: int = 3) -> str:
    """Return a number with so many significant digits, and never fewer than its whole ones."""
    if value == 0:
        return "0"
    places = significant - 1 - _magnitude(value, significant)
    return f"{value:,.{max(places, 0)}f}"


def _magnitude(value: float, significant: int) -> int:
    # Of the rounded number: 9.999 is written as 10.0.
    return int(f"{abs(value):.{significant - 1}e}".partition("e")[2])


def duration_text(us: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        # Judged as it is printed: 999.9 µs are 1.00 ms.
        if float(f"{us / size:.2e}") >= 1:
            return f"{digits(us / size)} {unit}"
    if us == 0 or float(f"{us:.2e}") >= 1:
        return f"{digits(us)} µs"
    return f"{digits(us * 1e3)} ns"


def rate_text(per_s: float) -> str:
    """Return a rate, whole from 1,000 on."""
    return f"{per_s:,.0f}" if per_s >= 1000 else digits(per_s)


def short_rate(per_s: float) -> str:
    """Return a rate for a plot's label: 12.3k, 1.20M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if float(f"{per_s / size:.2e}") >= 1:
            return f"{digits(per_s / size)}{unit}"
    return digits(per_s)


def tick_rate(per_s: float) -> str:
    """Return a rate for an axis, where numbers are round: 12k, 1.5M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if per_s >= size:
            return f"{per_s / size:g}{unit}"
    return f"{per_s:g}"


def tick_duration(us: float) -> str:
    """Return a duration for an axis, where numbers are round: 10 ms."""
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1.0)):
        if us >= size * 0.999:
            return f"{us / size:g} {unit}"
    return f"{us * 1e3:g} ns"


def ratio_text(ratio: float) -> str:
    """Return how many times something is something else."""
    return f"{ratio:.2f} ×" if ratio < 9.995 else f"{digits(ratio)} ×"
