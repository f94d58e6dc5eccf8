"""The rows of a range as a transaction sees them: what is stored, and its own writes over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrisdb.kernel.client import Pin
    from ferrisdb.local_writes import Written
    from ferrisdb.read_set import RangeRead


def merged_rows(
    rows: Iterator[Any],
    written: dict[bytes, Written],
    gone: list[tuple[bytes, bytes | None]],
    seen: RangeRead,
    prefix: bytes,
    pin: Pin,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
) -> Iterator[Any]:
    """Yield rows in order, and note in `seen` how far that has come.

    Shape:   rows, what is stored: (key, value), or keys with keys_only; written, by stored key,
             in order of the keys; gone, stored ranges that were deleted; limit, rows at most.
    """
    own = list(written)
    if not reverse:
        own.reverse()  # the next one is the last, to be popped
    left = -1 if limit is None else limit
    head: Any = next(rows, None)
    while head is not None or own:
        if head is not None:
            key: bytes = prefix + (head if keys_only else head[0])
        if head is None or (own and (own[-1] >= key if reverse else own[-1] <= key)):
            if head is not None and own[-1] == key:
                head = next(rows, None)
            key = own.pop()
            value = _value(written[key], key, pin)
            if value is None:
                continue
        else:
            value = b"" if keys_only else head[1]
            head = next(rows, None)
            if gone and any(f <= key and (e is None or key < e) for f, e in gone):
                continue
        seen.saw(key)
        yield key[len(prefix) :] if keys_only else (key[len(prefix) :], value)
        left -= 1
        if left == 0:
            return
    seen.saw_all()


def _value(written: Written, stored: bytes, pin: Pin) -> bytes | None:
    if written.known:
        return written.over(None, 0, pin.now_us)[0]
    # Inside the range that counts as read: no read of its own.
    return written.over(*pin.entry(stored), pin.now_us)[0]
