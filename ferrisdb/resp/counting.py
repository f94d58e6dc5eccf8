"""Count keys: at once if they are few, in a thread if they are many.

Every count reads one moment and goes through all keys of its range; no number of them is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ferrisdb.kernel.rows import open_rows
from ferrisdb.keys import prefix_end
from ferrisdb.resp.command import Deferred
from ferrisdb.resp.gathering import Bounds
from ferrisdb.resp.replies import Reply
from ferrisdb.resp.rereading import reread

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session

COUNTED_AT_ONCE: Final = 50_000
"""Keys that are counted in the loop; more are counted in a thread."""

_PAUSE: Final = 100
"""A count for INFO is good for so many times the time that it took."""


def visible(session: Session) -> Bounds:
    """Return the range of the keys that a session's user may name."""
    prefix = b"" if session.user is None else session.user.key_prefix
    return within_prefix((None, None), prefix)


def within_prefix(bounds: Bounds, prefix: bytes) -> Bounds:
    """Return the part of a range whose keys begin with a prefix."""
    start, end = bounds
    if not prefix:
        return bounds
    behind = prefix_end(prefix)
    start = prefix if start is None else max(start, prefix)
    if end is None or (behind is not None and behind < end):
        end = behind
    return start, end


def is_empty(bounds: Bounds) -> bool:
    """Tell whether a range can't have any key."""
    start, end = bounds
    return start is not None and end is not None and start >= end


def count_keys(service: Service, bounds: Bounds, limit: int | None) -> int:
    """Count the keys of a range as they are now, up to a limit. Any thread."""
    if is_empty(bounds):
        return 0

    def attempt() -> int:
        rows: Any = open_rows(service.space, None, *bounds, None, limit, False, True)
        count: int = rows.count_rest()
        return count

    return reread(attempt)


def counted(session: Session) -> Reply | Deferred:
    """Return how many keys a session's user may name, or what will have that."""
    service, bounds = session.service, visible(session)
    count = count_keys(service, bounds, COUNTED_AT_ONCE)
    if count < COUNTED_AT_ONCE:
        return count
    return service.counting.run(lambda: count_keys(service, bounds, None))


class KeyCount:
    """The number of all keys, counted as often as that is cheap. Owner: the worker's loop."""

    def __init__(self) -> None:
        self._count: int | None = None
        self._good_until_ns = 0
        self._is_under_way = False

    def ask(self, session: Session) -> Reply | Deferred:
        """Return about how many keys there are, or what will have that.

        Raises:  as `counted`.
        """
        if session.user is not None and session.user.key_prefix:
            return counted(session)
        clock = session.service.clock
        begin_ns = clock.monotonic_ns()
        if self._count is not None and (self._is_under_way or begin_ns < self._good_until_ns):
            return self._count
        found = counted(session)
        if not isinstance(found, Deferred):
            return found

        def note(count: Reply) -> None:
            self._is_under_way = False
            if isinstance(count, int):
                now_ns = clock.monotonic_ns()
                self._count, self._good_until_ns = count, now_ns + _PAUSE * (now_ns - begin_ns)
            answered.resolve(count)

        answered = Deferred()
        self._is_under_way = True
        found.then(note)
        return answered
