"""Turn the arguments of a scan into a merge over a pinned version, and yield its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ferrisdb.errors import KeyTooLargeError, UnavailableError, UsageError, WrongTypeError
from ferrisdb.kernel.client import Pin
from ferrisdb.kernel.merge import Scan
from ferrisdb.keys import prefix_end
from ferrisdb.limits import KEY_BYTES_MAX

if TYPE_CHECKING:
    from ferrisdb.kernel.client import Attachment

_ROWS_FIRST = 64
_ROWS_MAX = 1024


def bounds(
    prefix: bytes, start: bytes | None, end: bytes | None, within: bytes | None
) -> tuple[bytes, bytes | None]:
    """Return [start, end) in stored keys.

    Shape:  prefix, the key space's; within, the scan's own `prefix` argument.
    Raises: WrongTypeError, KeyTooLargeError, UsageError.
    """
    for what, value in (("start", start), ("end", end), ("prefix", within)):
        if value is None:
            continue
        if not isinstance(value, bytes):
            raise WrongTypeError(f"{what} is bytes, not {type(value).__name__}")
        if len(value) > KEY_BYTES_MAX:
            raise KeyTooLargeError(f"{what} has {len(value)} bytes; at most {KEY_BYTES_MAX}")
    if within is not None:
        if start is not None or end is not None:
            raise UsageError("prefix excludes start and end: it is both")
        return prefix + within, prefix_end(prefix + within)
    first = prefix + (start or b"")
    return first, prefix_end(prefix) if end is None else prefix + end


def open_scan(pin: Pin, first: bytes, last: bytes | None, **how: Any) -> Scan:
    """Return the merge of what a pin holds between two stored keys."""
    sources: list[Any] = [m.source(pin.seq) for m in pin.view.memtables]
    for table, ref in zip(pin.view.tables, pin.view.page.tables, strict=True):
        if (ref.unbounded or ref.largest >= first) and (last is None or ref.smallest < last):
            sources.append(table.source(pin.seq))
    return Scan(
        sources,
        pin.view.all_ranges(),
        start=first,
        end=last,
        snapshot_seq=pin.seq,
        now_us=pin.now_us,
        **how,
    )


def order(pin: Pin, timeout_ns: int) -> None:
    """Wait until the memtables are in order up to the pin's sequence.

    Raises: UnavailableError at the time-out; SnapshotTooOldError if the service restarts.
    """
    waited_ns = 0
    while not pin.wait_ordered(20_000_000):
        pin.verify()
        waited_ns += 20_000_000
        if waited_ns > timeout_ns:
            raise UnavailableError("the service died between a commit and its order: try again")


def scan_rows(
    owner: Attachment,
    take_pin: Callable[[], Pin],
    *,
    start: bytes | None,
    end: bytes | None,
    prefix: bytes | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
    release: bool = True,
) -> Iterator[Any]:
    """Take the pin now and return an iterator over its rows, which lets it go at the end."""
    first, last = bounds(owner.prefix, start, end, prefix)
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise UsageError(f"limit is a number of rows, 0 or more, not {limit!r}")
    if limit == 0 or (last is not None and first >= last):
        return iter(())
    pin = take_pin()
    try:
        order(pin, owner.timeout_ns)
        scan = open_scan(
            pin,
            first,
            last,
            prefix_bytes=len(owner.prefix),
            reverse=bool(reverse),
            limit=limit,
            keys_only=bool(keys_only),
        )
    except BaseException:
        if release:
            pin.release()
        raise
    return _rows(pin, scan, min(limit or _ROWS_FIRST, _ROWS_MAX), release)


def _rows(pin: Pin, scan: Scan, rows_max: int, release: bool) -> Iterator[Any]:
    try:
        while True:
            pin.verify()
            rows = scan.fetch(rows_max)
            # What a revoked pin showed may be of freed memory: asked before it is handed out.
            pin.verify()
            if not rows:
                return
            yield from rows
            rows_max = min(rows_max * 2, _ROWS_MAX)
    finally:
        if release:
            pin.release()
