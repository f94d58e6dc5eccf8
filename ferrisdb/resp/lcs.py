"""LCS: the longest common subsequence of two values.

Instead of the table of lengths there is a row of bits for each byte of the first value: bit j is
clear where the length grows by one at byte j of the second. Rows are whole numbers, so a row costs
a few operations of the processor for 30 bytes. The way back through the table needs only these
bits: where two bytes differ, the length to the left is smaller exactly if the bit is clear.

Source: bit-parallel LCS, Hyyrö 2004. Which of several longest ones is returned, and the ranges of
IDX, are as in Redis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from ferrisdb.resp.arguments import integer, option
from ferrisdb.resp.command import SYNTAX_ERROR, CommandError, data
from ferrisdb.resp.replies import Reply

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call

TABLE_BYTES_MAX: Final = 512 << 20
"""What Redis's table, four bytes a cell, may take; ours takes a 32nd of it."""


class Match(NamedTuple):
    """A common part, all ends included."""

    first_start: int
    first_end: int
    second_start: int
    second_end: int


@data("lcs", -3, "readonly", keys=(1, 2, 1))
def lcs(call: Call) -> Reply:
    """Return the longest common subsequence, its length, or where its parts lie."""
    args = call.args
    first, second = call.get(args[0]) or b"", call.get(args[1]) or b""
    wants_length = wants_ranges = with_lengths = False
    shortest = 0
    at = 2
    while at < len(args):
        name = option(args[at])
        if name == b"idx":
            wants_ranges = True
        elif name == b"len":
            wants_length = True
        elif name == b"withmatchlen":
            with_lengths = True
        elif name == b"minmatchlen" and at + 1 < len(args):
            at += 1
            shortest = max(integer(args[at]), 0)
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    if wants_ranges and wants_length:
        raise CommandError(b"ERR If you want both the length and indexes, please just use IDX.")
    if 4 * (len(first) + 1) * (len(second) + 1) > TABLE_BYTES_MAX:
        raise CommandError(
            b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
        )
    if wants_length:
        return length_of(first, second)
    matches = list(matches_of(first, second))
    if not wants_ranges:
        return b"".join(first[m.first_start : m.first_end + 1] for m in reversed(matches))
    shown: list[Reply] = []
    length = 0
    for match in matches:
        match_bytes = match.first_end - match.first_start + 1
        length += match_bytes
        if match_bytes >= shortest:
            one: list[Reply] = [list(match[:2]), list(match[2:])]
            shown.append(one + [match_bytes] if with_lengths else one)
    return {b"matches": shown, b"len": length}


def length_of(first: bytes, second: bytes) -> int:
    """Return how long the longest common subsequences are."""
    (last,) = deque(_rows(first, second), maxlen=1)
    return len(second) - last.bit_count()


def matches_of(first: bytes, second: bytes) -> Iterator[Match]:
    """Yield the parts that make up the one that Redis chooses, from the last to the first."""
    rows = list(_rows(first, second))
    i, j = len(first), len(second)
    end: tuple[int, int] | None = None
    while i and j:
        if first[i - 1] == second[j - 1]:
            end = end or (i - 1, j - 1)
            i -= 1
            j -= 1
            continue
        if end is not None:
            yield Match(i, end[0], j, end[1])
            end = None
        if rows[i] >> j - 1 & 1:
            j -= 1
        else:
            i -= 1
    if end is not None:
        yield Match(i, end[0], j, end[1])


def _rows(first: bytes, second: bytes) -> Iterator[int]:
    """Yield the row of bits before the first byte of `first`, and behind each of its bytes."""
    every = (1 << len(second)) - 1
    backwards = second[::-1]
    places: dict[int, int] = {}
    for byte in set(first):
        digits = bytes(0x31 if other == byte else 0x30 for other in range(256))
        places[byte] = int(backwards.translate(digits) or b"0", 2)
    row = every
    yield row
    for byte in first:
        both = row & places[byte]
        row = ((row + both) | (row - both)) & every
        yield row
