"""Find keys: SCAN, KEYS, RANDOMKEY, DBSIZE.

All of them see the keys that the session's user may name, and no others. Outside of EXEC none of
them holds the worker up, however many keys there are: SCAN looks at a bounded number, KEYS goes
in slices, DBSIZE counts in a thread. Within EXEC they read what the transaction reads.

SCAN goes in the order of the keys, with MATCH only through those that begin with the pattern's
literal part. It looks at COUNT keys, or some more where that makes a cursor that needs no stem
(cursors.py); more than SCAN_ROWS_MAX count as that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ferrisdb.kernel.rows import open_rows
from ferrisdb.resp.arguments import integer, option
from ferrisdb.resp.command import SYNTAX_ERROR, CommandError, Deferred, data
from ferrisdb.resp.counting import counted, is_empty, visible, within_prefix
from ferrisdb.resp.cursors import (
    StemWrite,
    cut,
    far_cursor,
    is_plain,
    plain_cursor,
    position_of,
    scan_reply,
    stem_of,
    write_stem,
)
from ferrisdb.resp.gathering import Bounds, Gathering
from ferrisdb.resp.glob import Matcher, literal_prefix, matcher
from ferrisdb.resp.replies import Reply
from ferrisdb.resp.rereading import reread

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call
    from ferrisdb.resp.session import Session
    from ferrisdb.seams import Rng

SCAN_COUNT: Final = 10
SCAN_ROWS_MAX: Final = 10_000
_FEW: Final = 64
"""So many keys are drawn from evenly; among more, RANDOMKEY goes by their bytes."""

_DRAWS: Final = 12

_as_unsigned = re.compile(rb"[+-]?[0-9]*").fullmatch
_WORD_MAX: Final = (1 << 64) - 1


# SCAN


class _Scan(NamedTuple):
    """One SCAN: from where, how many keys, which of them."""

    bounds: Bounds
    keys_wanted: int
    match: Matcher | None


def _parse(session: Session, args: list[bytes]) -> _Scan | None:
    """Read a SCAN's arguments; None: there is nothing to be found.

    Raises:  CommandError.
    """
    cursor = _cursor(args[0])
    count, pattern, kind = SCAN_COUNT, b"*", b"string"
    words = args[1:]
    for at in range(0, len(words), 2):
        name, value = option(words[at]), words[at + 1 : at + 2]
        if name == b"count" and value:
            count = integer(value[0])
            if count < 1:
                raise CommandError(SYNTAX_ERROR)
        elif name == b"match" and value:
            pattern = value[0]
        elif name == b"type" and value:
            kind = option(value[0])
        else:
            raise CommandError(SYNTAX_ERROR)
    start, end = within_prefix(visible(session), literal_prefix(pattern))
    if cursor:
        position = position_of(session.service, cursor)
        if position is None:
            return None
        start = position if start is None else max(start, position)
    if kind != b"string" or is_empty((start, end)):
        return None
    match = None if pattern == b"*" else matcher(pattern)
    return _Scan((start, end), min(count, SCAN_ROWS_MAX), match)


def _cursor(word: bytes) -> int:
    """Return a cursor as C's `strtoul` reads it.

    Raises:  CommandError, it is none.
    """
    word = word.partition(b"\0")[0]
    if _as_unsigned(word) is None or word in (b"+", b"-"):
        raise CommandError(b"ERR invalid cursor")
    # Longer ones are not made numbers at all; leading zeros count.
    digits = word.lstrip(b"+-").lstrip(b"0")
    number = int(digits or b"0") if len(digits) <= 20 else _WORD_MAX + 1
    if number > _WORD_MAX:
        raise CommandError(b"ERR invalid cursor")
    return -number & _WORD_MAX if word.startswith(b"-") else number


def _walk(rows: Iterator[bytes], scan: _Scan) -> tuple[list[bytes], bytes | None]:
    """Look at the next keys; returns those that match, and where to go on, None at the end."""
    found: list[bytes] = []
    match, count = scan.match, scan.keys_wanted
    best: bytes | None = None
    # What the reply ends with if `best` is where to go on.
    kept = 0
    looked_max = count + count // 2 + SCAN_COUNT
    last = b""
    for looked, key in enumerate(rows):
        if looked >= count:
            # It may be better to go on a little than to stop here.
            position = cut(last, key)
            if best is None or len(position) < len(best):
                best, kept = position, len(found)
            if is_plain(best) or looked >= looked_max:
                break
        if match is None or match(key):
            found.append(key)
        last = key
    else:
        return found, None
    return found[:kept], best


def scan_alone(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Run SCAN outside of EXEC."""
    scan = _parse(session, args)
    if scan is None:
        return scan_reply(0, [])
    service = session.service

    def attempt() -> tuple[list[bytes], bytes | None]:
        # Not empty, and without a limit: so it is a Rows, which holds a pin.
        rows: Any = open_rows(service.space, None, *scan.bounds, None, None, False, True)
        try:
            return _walk(rows, scan)
        finally:
            rows.close()

    found, position = reread(attempt)
    if position is None:
        return scan_reply(0, found)
    if is_plain(position):
        return scan_reply(plain_cursor(position), found)
    stem = stem_of(position)
    number = service.stems.number(stem, service.clock.wall_us())
    if number is None:
        return StemWrite(session, position, found).start()
    return scan_reply(far_cursor(number, position[len(stem) :]), found)


@data("scan", -2, "readonly", keys=(0, 0, 0), alone=scan_alone)
def scan(call: Call) -> Reply:
    """Return some keys, and the cursor to go on with."""
    parsed = _parse(call.session, call.args)
    if parsed is None:
        return scan_reply(0, [])
    found, position = _walk(call.scan(*parsed.bounds, keys_only=True), parsed)
    if position is None:
        return scan_reply(0, found)
    if is_plain(position):
        return scan_reply(plain_cursor(position), found)
    stem = stem_of(position)
    # Of this transaction, which may fail: so it is not noted as written.
    writer = call.within(call.session.service.stems_space)
    number, _ = write_stem(writer, stem, call.now_us)
    return scan_reply(far_cursor(number, position[len(stem) :]), found)


# KEYS


def _keys_of(session: Session, pattern: bytes) -> tuple[Bounds, Matcher | None] | None:
    bounds = within_prefix(visible(session), literal_prefix(pattern))
    if is_empty(bounds):
        return None
    return bounds, None if pattern == b"*" else matcher(pattern)


def keys_alone(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Run KEYS outside of EXEC."""
    wanted = _keys_of(session, args[0])
    if wanted is None:
        return []
    return Gathering(session, wanted[0], wanted=wanted[1]).start()


@data("keys", 2, "readonly", keys=(0, 0, 0), alone=keys_alone)
def keys(call: Call) -> Reply:
    """Return all keys that match a pattern."""
    wanted = _keys_of(call.session, call.args[0])
    if wanted is None:
        return []
    bounds, match = wanted
    return [key for key in call.scan(*bounds, keys_only=True) if match is None or match(key)]


# RANDOMKEY


@data("randomkey", 1, "readonly", keys=(0, 0, 0))
def randomkey(call: Call) -> Reply:
    """Return any key; each has a chance.

    The chances are even among few keys. Among many one goes by their bytes: at each place where
    they differ, all bytes that there are have the same chance, or nearly.
    """
    start, end = visible(call.session)
    few = list(call.scan(start, end, limit=_FEW + 1, keys_only=True))
    if not few:
        return None
    rng = call.session.service.rng
    if len(few) <= _FEW:
        return few[rng.u64() % len(few)]
    low = few[0]
    high = next(call.scan(start, end, limit=1, reverse=True, keys_only=True))
    while low != high:
        common = len(cut(low, high)) - 1
        low = _drawn(call, rng, low, high, common)
        if len(low) == common:
            break
        same = low[: common + 1]
        high = next(call.scan(prefix=same, limit=1, reverse=True, keys_only=True))
    return low


def _drawn(call: Call, rng: Rng, low: bytes, high: bytes, common: int) -> bytes:
    """Return the first key of those with one of the bytes that follow what two keys have in common.

    Shape:   low and high, the first and the last key that have it in common.
    """
    # The key that the others continue comes before all bytes.
    lowest = low[common] if len(low) > common else -1
    span = high[common] - lowest + 1
    seen = [low]
    for _ in range(_DRAWS):
        drawn = lowest + rng.u64() % span
        if drawn == lowest:
            return low
        above = low[:common] + bytes([drawn])
        found: bytes = next(call.scan(above, None, limit=1, keys_only=True))
        if found[common] == drawn:
            return found
        # None begins so: another draw, for taking the next one favours what lies behind a gap.
        seen.append(found)
    return seen[rng.u64() % len(seen)]


# DBSIZE


def dbsize_alone(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Run DBSIZE outside of EXEC."""
    del args
    return counted(session)


@data("dbsize", 1, "readonly fast", keys=(0, 0, 0), alone=dbsize_alone)
def dbsize(call: Call) -> Reply:
    """Return how many keys there are."""
    return sum(1 for _ in call.scan(*visible(call.session), keys_only=True))
