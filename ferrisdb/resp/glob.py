"""Match keys against patterns, exactly as Redis's `stringmatchlen` does.

    *       any bytes, also none          ?       any one byte
    [abc]   one of these bytes            [^abc]  one other byte        [a-c]  one of a range
    \\x      x itself, also within []

Its odd corners are kept: a class that is not closed ends with the pattern; a range the wrong way
round is turned; bytes from 0x80 on count as negative in a range, as `char` does on x86; and an
empty string matches the empty pattern alone, not even `**`.

Between two stars each byte of the pattern takes exactly one byte, so the leftmost place of such a
part is as good as any: nothing is tried twice, however many stars there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_COMPILED_MAX: Final = 1024
"""Longest pattern that is made a regular expression; `re` keeps these in its memory."""

_ANY: Final = frozenset(range(256))

Element = frozenset[int]
"""The bytes that one place takes."""

Matcher = Callable[[bytes], object]
"""Tell by a true result whether a string matches."""


def matcher(pattern: bytes, *, ignore_case: bool = False) -> Matcher:
    """Return what matches strings against a pattern."""
    if len(pattern) <= _COMPILED_MAX:
        return _compiled(pattern, ignore_case)
    return _Walk(_parts(pattern, ignore_case)).match


def literal_prefix(pattern: bytes) -> bytes:
    """Return what every string that matches begins with."""
    found = bytearray()
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte in b"*?[":
            break
        if byte == 0x5C and at + 1 < len(pattern):
            at += 1
            byte = pattern[at]
        found.append(byte)
        at += 1
    return bytes(found)


@lru_cache(maxsize=64)
def _compiled(pattern: bytes, ignore_case: bool) -> Matcher:
    if not pattern:
        return lambda text: not text
    first, *others = (b"".join(map(_expression, part)) for part in _parts(pattern, ignore_case))
    # Each part but the last at its leftmost place, and that never tried again.
    inner = b"".join(b"(?>.*?%b)" % part for part in others[:-1])
    last = b".*%b" % others[-1] if others else b""
    return re.compile(rb"(?s)(?=.)%b%b%b\Z" % (first, inner, last)).match


def _expression(element: Element) -> bytes:
    if element is _ANY:
        return b"."
    if len(element) == 1:
        return re.escape(bytes(element))
    if not element:
        return b"(?!)"
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(element))


class _Walk:
    """Matches without a regular expression: for patterns that are longer than anybody's."""

    def __init__(self, parts: list[list[Element]]) -> None:
        self._parts = parts

    def match(self, text: bytes) -> bool:
        first, *others = self._parts
        if not text or not _stands(first, text, 0):
            return False
        at = len(first)
        if not others:
            return at == len(text)
        for part in others[:-1]:
            while not _stands(part, text, at):
                at += 1
                if at + len(part) > len(text):
                    return False
            at += len(part)
        end = len(text) - len(others[-1])
        return end >= at and _stands(others[-1], text, end)


def _stands(part: list[Element], text: bytes, at: int) -> bool:
    """Tell whether a part stands at a place of the text."""
    return at + len(part) <= len(text) and all(
        text[at + n] in element for n, element in enumerate(part)
    )


def _parts(pattern: bytes, ignore_case: bool) -> list[list[Element]]:
    """Return what stands before, between and behind the stars."""
    parts: list[list[Element]] = [[]]
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte == 0x2A:
            if len(parts) == 1 or parts[-1]:
                parts.append([])
        elif byte == 0x3F:
            parts[-1].append(_ANY)
        elif byte == 0x5B:
            element, at = _class(pattern, at + 1, ignore_case)
            parts[-1].append(element)
        else:
            if byte == 0x5C and at + 1 < len(pattern):
                at += 1
                byte = pattern[at]
            parts[-1].append(_either_case(byte) if ignore_case else frozenset([byte]))
        at += 1
    return parts


def _class(pattern: bytes, at: int, ignore_case: bool) -> tuple[Element, int]:
    """Return the bytes of a class that begins behind its bracket, and where it ends."""
    is_negated = pattern[at : at + 1] == b"^"
    at += is_negated
    found: set[int] = set()
    while True:
        left = len(pattern) - at
        if left <= 0:
            at -= 1
            break
        byte = pattern[at]
        if byte == 0x5C and left >= 2:
            at += 1
            found.add(pattern[at])
        elif byte == 0x5D:
            break
        elif left >= 3 and pattern[at + 1] == 0x2D:
            found |= _range(byte, pattern[at + 2], ignore_case)
            at += 2
        else:
            found |= _either_case(byte) if ignore_case else {byte}
        at += 1
    return frozenset(_ANY - found if is_negated else found), at


def _range(start: int, end: int, ignore_case: bool) -> set[int]:
    low, high = sorted((_signed(start), _signed(end)))
    if not ignore_case:
        return {byte for byte in _ANY if low <= _signed(byte) <= high}
    low, high = _lower(low), _lower(high)
    return {byte for byte in _ANY if low <= _lower(_signed(byte)) <= high}


def _signed(byte: int) -> int:
    return byte - 256 if byte >= 128 else byte


def _lower(char: int) -> int:
    return char + 32 if 0x41 <= char <= 0x5A else char


def _either_case(byte: int) -> Element:
    return frozenset(other for other in _ANY if _lower(other) == _lower(byte))
