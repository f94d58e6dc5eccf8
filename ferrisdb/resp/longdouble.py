"""Add decimal numbers as Redis on x86-64 does: in the 80-bit extended format of its FPU.

A number is (significand, exponent), an exact integer times a power of two, rounded as the format
rounds: 64 bits, to nearest, ties to even. Whole numbers do it, so the result is the same on every
machine and needs no library.

Printed are 17 digits behind the point, without zeros at the end.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TEXT_BYTES_MAX: Final = 5 * 1024
_SIGNIFICAND_BITS: Final = 64
_EXPONENT_MAX: Final = 16383 - 63
"""Of a 64-bit significand: 2**16384 is infinite."""
_EXPONENT_MIN: Final = -16382 - 63
"""Below it a significand loses bits."""
_DIGITS: Final = 17
_DIGITS_AT_ONCE: Final = 4000
#: Decimal exponents beyond it are infinite or zero with any digits that TEXT_BYTES_MAX allows.
_TEN_EXPONENT_MAX: Final = 12_000

_decimal = re.compile(rb"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?").fullmatch
_hexadecimal = re.compile(
    rb"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?[0-9]+))?"
).fullmatch
_infinite = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE).fullmatch


class Number(NamedTuple):
    """A finite number: significand * 2 ** exponent."""

    significand: int
    exponent: int


ZERO: Final = Number(0, 0)


def read(text: bytes) -> Number | bool | None:
    """Return the number that a text is, as C's strtold reads it.

    Returns: None, it is none, or lies outside of the format's range; True, it is infinite.
    """
    if not 0 < len(text) < TEXT_BYTES_MAX:
        return None
    match = _decimal(text)
    base, per_digit = 10, 1
    if match is None:
        match = _hexadecimal(text)
        base, per_digit = 16, 4
    if match is None:
        return True if _infinite(text) else None
    sign, whole, part, power = match.groups()
    if not whole and not part:
        return None
    digits = _integer(whole + (part or b""), base)
    if digits == 0:
        return ZERO
    exponent = _exponent(power, base) - per_digit * len(part or b"")
    if base == 16:
        number = _scaled(digits, exponent)
    elif exponent >= 0:
        if exponent > _TEN_EXPONENT_MAX:
            return None
        number = _rounded(digits * 10**exponent, 1)
    else:
        if exponent < -_TEN_EXPONENT_MAX:
            return None
        number = _rounded(digits, 10**-exponent)
    if number is None or number.significand == 0:
        return None
    return Number(-number.significand, number.exponent) if sign == b"-" else number


def _exponent(power: bytes | None, base: int) -> int:
    if power is None:
        return 0
    # Of any length; far beyond the range is far enough.
    bound = 10 * _TEN_EXPONENT_MAX * base
    return (
        max(-bound, min(bound, int(power.decode())))
        if len(power) < 20
        else (-bound if power.startswith(b"-") else bound)
    )


def add(one: Number, other: Number) -> Number | None:
    """Return the sum, rounded; None if it is infinite."""
    exponent = min(one.exponent, other.exponent)
    total = (one.significand << one.exponent - exponent) + (
        other.significand << other.exponent - exponent
    )
    if total == 0:
        return ZERO
    number = _scaled(abs(total), exponent)
    if number is None:
        return None
    return Number(-number.significand, number.exponent) if total < 0 else number


def show(number: Number) -> bytes:
    """Return the number in decimal, with up to 17 digits behind the point."""
    significand, exponent = number
    scaled = abs(significand) * 10**_DIGITS
    if exponent >= 0:
        scaled <<= exponent
    else:
        scaled = _shifted(scaled, -exponent)
    whole, part = divmod(scaled, 10**_DIGITS)
    text = _decimal_text(whole)
    if part:
        text += b"." + (b"%017d" % part).rstrip(b"0")
    return b"-" + text if significand < 0 and scaled else text


# Python refuses to read and print very long integers in one go.


def _integer(digits: bytes, base: int) -> int:
    if len(digits) <= _DIGITS_AT_ONCE:
        return int(digits, base)
    high, low = digits[:-_DIGITS_AT_ONCE], digits[-_DIGITS_AT_ONCE:]
    scale: int = base**_DIGITS_AT_ONCE
    return int(high, base) * scale + int(low, base)


def _decimal_text(whole: int) -> bytes:
    # A number of so few bits has fewer digits.
    if whole.bit_length() <= 3 * _DIGITS_AT_ONCE:
        return b"%d" % whole
    high, low = divmod(whole, 10**_DIGITS_AT_ONCE)
    return (b"%d" % high + (b"%d" % low).rjust(_DIGITS_AT_ONCE, b"0")).lstrip(b"0")


def _shifted(value: int, bits: int) -> int:
    """Return value / 2**bits, to nearest, ties to even."""
    if bits <= 0:
        return value << -bits
    quotient = value >> bits
    rest = value - (quotient << bits)
    half = 1 << bits - 1
    return quotient + (rest > half or (rest == half and quotient & 1))


def _scaled(value: int, exponent: int) -> Number | None:
    """Round value * 2**exponent, value above 0, to the format; None if it is infinite."""
    bits = max(value.bit_length() - _SIGNIFICAND_BITS, _EXPONENT_MIN - exponent)
    if bits > 0:
        value = _shifted(value, bits)
        exponent += bits
    if value.bit_length() + exponent > _EXPONENT_MAX + _SIGNIFICAND_BITS:
        return None
    return Number(value, exponent)


def _rounded(numerator: int, denominator: int) -> Number | None:
    """Round a positive fraction to the format; None if it is infinite."""
    # Two bits more than the significand has, and whether there is anything below them.
    shift = _SIGNIFICAND_BITS + 2 - (numerator.bit_length() - denominator.bit_length())
    if shift > 0:
        quotient, rest = divmod(numerator << shift, denominator)
    else:
        quotient, rest = divmod(numerator, denominator << -shift)
    return _scaled(quotient << 1 | (rest != 0), -shift - 1)
