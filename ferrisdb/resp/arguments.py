"""Read numbers and moments out of a command's arguments, as Redis 7.0 does."""

from __future__ import annotations

import re
from typing import Final

from ferrisdb.resp.command import NOT_AN_INTEGER, CommandError

INTEGER_MAX: Final = (1 << 63) - 1
INTEGER_MIN: Final = -(1 << 63)
EXPIRES_US_MAX: Final = INTEGER_MAX
"""Latest expiry that is kept; a later one is this one."""

_is_integer = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch


def read_integer(text: bytes) -> int | None:
    """Return a 64-bit integer written the one way that Redis accepts, None if it isn't one."""
    if _is_integer(text) is None:
        return None
    number = int(text)
    return number if INTEGER_MIN <= number <= INTEGER_MAX else None


def integer(text: bytes, otherwise: bytes = NOT_AN_INTEGER) -> int:
    """Return a 64-bit integer.

    Raises:  CommandError with `otherwise`, it isn't one.
    """
    number = read_integer(text)
    if number is None:
        raise CommandError(otherwise)
    return number


def int32(text: bytes) -> int:
    """Return an integer of C's `int`, as the number of a database is one.

    Raises:  CommandError, it isn't one.
    """
    number = integer(text)
    if not -(1 << 31) <= number < 1 << 31:
        raise CommandError(
            b"ERR value is out of range, value must between -2147483648 and 2147483647"
        )
    return number


def expiry_us(text: bytes, name: bytes, unit_ms: int, base_ms: int) -> int:
    """Return the moment in µs that a time to live, or a moment, in seconds or ms means.

    Shape:   name, the command's, for the error; unit_ms, 1000 for seconds; base_ms, now in ms,
             0 for a moment since the epoch.
    Raises:  CommandError, no integer, or not above 0, or more than fits.
    """
    number = integer(text)
    if number <= 0 or number > INTEGER_MAX // unit_ms:
        raise CommandError(b"ERR invalid expire time in '%b' command" % name)
    at_ms = number * unit_ms
    if at_ms > INTEGER_MAX - base_ms:
        raise CommandError(b"ERR invalid expire time in '%b' command" % name)
    return min((at_ms + base_ms) * 1000, EXPIRES_US_MAX)


def option(word: bytes) -> bytes:
    """Return an option's name in lower case, as C compares it: up to a zero byte."""
    return word.partition(b"\0")[0].lower()
