"""What a transaction has read, and how the coordinator is asked whether it still holds.

A point read is a key. A range read is the part of its range that was really seen: up to the last
row that was taken, all of it once the iteration has ended.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from ferrisdb.kernel import layout
from ferrisdb.kernel.rows import open_rows
from ferrisdb.kernel.space import Space
from ferrisdb.keys import prefix_end
from ferrisdb.limits import STORED_KEY_BYTES_MAX

if TYPE_CHECKING:
    from ferrisdb.kernel.client import Pin
    from ferrisdb.local_writes import LocalWrites


def key_check(stored_key: bytes) -> bytes:
    """Return the check that a stored key has not changed."""
    head = len(stored_key) | layout.CHECK_KEY << 24
    return head.to_bytes(4, "little") + stored_key


def range_check(first: bytes, last: bytes | None) -> bytes:
    """Return the check that nothing in [first, last) of stored keys has changed; None: no bound."""
    head = len(first) | layout.CHECK_RANGE << 24
    end = last or b""
    return head.to_bytes(4, "little") + len(end).to_bytes(4, "little") + first + end


class RangeRead:
    """A range that is being read, and how much of it was seen."""

    __slots__ = ("_at", "_first", "_last", "_reverse", "_whole", "rows")

    def __init__(self, first: bytes, last: bytes | None, reverse: bool, rows: Any) -> None:
        self._first, self._last, self._reverse = first, last, reverse
        self._at: bytes | None = None
        self._whole = False
        #: The rows' iterator, which knows the earliest expiry among them.
        self.rows = rows

    def saw(self, stored: bytes) -> None:
        """Note the key of a row that is handed out."""
        self._at = stored

    def saw_all(self) -> None:
        """Note that there are no more rows."""
        self._whole = True

    def extent(self) -> tuple[bytes, bytes | None] | None:
        """Return [first, last) of stored keys that was seen, None if nothing was."""
        if self._whole:
            return self._first, self._last
        if self._at is None:
            return None
        if self._reverse:
            return self._at, self._last
        if len(self._at) < STORED_KEY_BYTES_MAX:
            return self._first, self._at + b"\x00"
        # No key is longer, so the next one is not one that continues it.
        return self._first, prefix_end(self._at)


class Checks(NamedTuple):
    """What a commit depends on.

    Shape:  encoded, as the coordinator takes it; parts, what each check is about, in that order:
            a stored key, or first and last of a range; expiry_us, the earliest expiry among what
            was read, 0 if there is none.
    """

    encoded: bytes
    parts: list[bytes | tuple[bytes, bytes | None]]
    expiry_us: int


class ReadSet:
    """The keys and ranges that one transaction has read.

    Shape:   points, stored keys, each with its expiry or 0.
    """

    def __init__(self, points: dict[bytes, int], ranges: list[RangeRead]) -> None:
        self._points = points
        self._ranges = ranges

    def _extents(self) -> list[tuple[bytes, bytes | None]]:
        """Return what was seen of the ranges, overlapping ones as one, in order."""
        merged: list[tuple[bytes, bytes | None]] = []
        for first, last in sorted(
            (e for e in (one.extent() for one in self._ranges) if e is not None),
            key=lambda extent: extent[0],
        ):
            if merged and (merged[-1][1] is None or first <= merged[-1][1]):
                before = merged[-1]
                if before[1] is not None and (last is None or last > before[1]):
                    merged[-1] = before[0], last
            else:
                merged.append((first, last))
        return merged

    def checks(self) -> Checks:
        """Return the checks of everything that was read."""
        extents = self._extents() if self._ranges else []
        expiries = [expires_us for expires_us in self._points.values() if expires_us]
        expiries += [one.rows.expiry_us for one in self._ranges if one.rows.expiry_us]
        parts: list[bytes | tuple[bytes, bytes | None]] = [*self._points, *extents]
        return _encode(parts, min(expiries, default=0))

    def checks_of_written(self, writes: LocalWrites, pin: Pin | None) -> Checks:
        """Return the checks of what was both read and written: snapshot isolation's."""
        points = {key: expiry for key, expiry in self._points.items() if writes.touches(key)}
        ranges: list[tuple[bytes, bytes | None]] = []
        for first, last in self._extents():
            ranges += writes.ranges_in(first, last)
            for key in writes.keys_in(first, last):
                if key not in points and pin is not None:
                    points[key] = pin.entry(key)[1]
        expiries = [expires_us for expires_us in points.values() if expires_us]
        return _encode([*points, *ranges], min(expiries, default=0))


def _encode(parts: list[bytes | tuple[bytes, bytes | None]], expiry_us: int) -> Checks:
    encoded = b"".join(
        key_check(part) if isinstance(part, bytes) else range_check(*part) for part in parts
    )
    return Checks(encoded, parts, expiry_us)


def first_difference(checks: Checks, old: Pin, new: Pin) -> bytes | None:
    """Return the first stored key (a range's start) that reads otherwise now; None: none does.

    Compared are values and expiries, not sequences: a merge may have left out versions that
    nobody reads (ADR 0006).
    Cost:   reads everything that the checks name, twice.
    """
    for part in checks.parts:
        if isinstance(part, bytes):
            if old.entry(part) != new.entry(part):
                return part
        elif not _same_rows(part, old, new):
            return part[0]
    return None


def _same_rows(part: tuple[bytes, bytes | None], old: Pin, new: Pin) -> bool:
    space = Space(old.owner, b"")
    before: Any = open_rows(space, old, *part, None, None, False, False)
    after: Any = open_rows(space, new, *part, None, None, False, False)
    for one, other in zip_longest(before, after):
        if one != other:
            return False
    # An empty range has no such property.
    same: bool = getattr(before, "expiry_us", 0) == getattr(after, "expiry_us", 0)
    return same
