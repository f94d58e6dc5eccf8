"""Turn the arguments of a scan into a merge over a pinned version, and yield its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ferrisdb.errors import (
    KeyTooLargeError,
    SnapshotTooOldError,
    UnavailableError,
    UsageError,
    WrongTypeError,
)
from ferrisdb.kernel.client import Pin
from ferrisdb.kernel.level import Level
from ferrisdb.kernel.merge import Scan
from ferrisdb.kernel.table import Table
from ferrisdb.keys import prefix_end
from ferrisdb.limits import KEY_BYTES_MAX

if TYPE_CHECKING:
    from ferrisdb.database import Database

_ORDER_NS = 20_000_000
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
    tables: list[Table] = []
    levels: dict[int, list[Table]] = {}
    for table, ref in zip(pin.view.tables, pin.view.page.tables, strict=True):
        reaches = ref.unbounded or ref.largest >= first
        if not reaches or (last is not None and ref.smallest >= last):
            continue
        tables.append(table)
        if ref.level == 0:
            sources.append(table.source(pin.seq))
        else:
            levels.setdefault(ref.level, []).append(table)
    sources += [Level(level, pin.seq) for level in levels.values()]
    return Scan(
        sources,
        pin.view.all_ranges(tables),
        start=first,
        end=last,
        snapshot_seq=pin.seq,
        now_us=pin.now_us,
        **how,
    )


def ordered_pin(owner: Database, take_pin: Callable[[], Pin], *, anew: bool) -> Pin:
    """Return a pin to whose sequence the memtables are in order.

    The order comes microseconds behind a commit, unless the coordinator died in between: then
    this finds or starts the next one.
    Shape:  anew, whether `take_pin` makes a new pin at each call, which may be dropped for one of
            the next coordinator.
    Raises: UnavailableError at the time-out; SnapshotTooOldError, not anew, if it restarts.
    """
    deadline_ns = time.monotonic_ns() + owner.timeout_ns
    while True:
        pin = take_pin()
        if pin.wait_ordered(_ORDER_NS):
            if not anew:
                return pin
            try:
                # It may have been the next coordinator that completed the order.
                pin.verify()
                return pin
            except SnapshotTooOldError:
                pin.release()
        else:
            if anew:
                pin.release()
            owner.check_service(deadline_ns)
        if time.monotonic_ns() > deadline_ns:
            raise UnavailableError("the service died between a commit and its order: try again")


def scan_rows(
    owner: Database,
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
    pin = ordered_pin(owner, take_pin, anew=release)
    try:
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
