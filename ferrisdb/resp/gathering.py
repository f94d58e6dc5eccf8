"""Gather many rows without holding the worker up: slice by slice, other clients between.

G1  All rows are of one moment: the pin stays from the first slice to the last. If a restart of
    the service takes it away, all is read again.
G2  What is gathered is bounded by what a reply may take; more is an error that names SCAN.
G3  At most GATHERINGS_MAX are under way in a worker, for each holds a pin; others wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.errors import Error, SnapshotTooOldError
from ferrisdb.kernel.rows import open_rows
from ferrisdb.resp.command import Deferred
from ferrisdb.resp.failures import failure_of
from ferrisdb.resp.replies import Failure, Reply
from ferrisdb.resp.rereading import ATTEMPTS

if TYPE_CHECKING:
    from ferrisdb.kernel.client import Pin
    from ferrisdb.resp.session import Session

GATHERINGS_MAX: Final = 16
SLICE_NS: Final = 1_000_000
"""How long a slice lasts, about."""
_ROWS_A_LOOK: Final = 64
_ROW_BYTES: Final = 32
"""What a row takes in a reply beside its bytes, about."""

Bounds = tuple[bytes | None, bytes | None]
"""Start and end of a range of keys; None: no bound."""


class Gatherings:
    """The gatherings of one worker (G3). Owner: its loop."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: deque[Gathering] = deque()

    def admit(self, gathering: Gathering) -> None:
        """Let it begin as soon as there is room."""
        if self._count < GATHERINGS_MAX:
            self._count += 1
            gathering.slice()
        else:
            self._waiting.append(gathering)

    def ended(self) -> None:
        """Take note that one has ended; the next one begins in a turn of its own."""
        if self._waiting:
            self._waiting.popleft().go_on()
        else:
            self._count -= 1


class Gathering(Deferred):
    """The rows of a range that are wanted, as a reply: keys, or [key, value] each.

    Shape:   wanted, called with a key; limit, rows at most, None for all.
    """

    __slots__ = (
        "_attempts_left", "_bounds", "_bytes_left", "_found", "_keys_only", "_limit", "_pin",
        "_reverse", "_rows", "_session", "_wanted",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        bounds: Bounds,
        *,
        wanted: Callable[[bytes], object] | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = True,
    ) -> None:
        super().__init__()
        self._session = session
        self._bounds = bounds
        self._wanted = wanted
        self._limit = limit
        self._reverse = reverse
        self._keys_only = keys_only
        self._attempts_left = ATTEMPTS
        self._pin: Pin | None = None
        self._rows: Any = None
        self._found: list[Any] = []
        self._bytes_left = 0

    def start(self) -> Deferred:
        """Gather the first slice as soon as there is room."""
        self._session.service.gatherings.admit(self)
        return self

    def slice(self) -> None:
        """Gather some rows; then the rest is posted, or the reply is given."""
        if self._session.is_closed:
            self._end(None)
            return
        try:
            if self._take():
                self._end(self._found)
            elif self._bytes_left < 0:
                self._end(Failure(reply_too_long(self._session)))
            else:
                self.go_on()
        except SnapshotTooOldError as error:
            self._let_go()
            self._attempts_left -= 1
            if self._attempts_left:
                self.go_on()
            else:
                self._end(Failure(failure_of(error)))
        except Error as error:
            self._end(Failure(failure_of(error)))

    def go_on(self) -> None:
        """Have the next slice gathered behind what waits in the loop."""
        self._session.service.server.post(self.slice)

    def _open(self) -> None:
        service = self._session.service
        self._found = []
        self._bytes_left = service.settings.output_bytes_max
        self._pin = service.attached.take_pin()
        self._rows = open_rows(
            service.space, self._pin, *self._bounds, None, self._limit, self._reverse,
            self._keys_only,
        )  # fmt: skip

    def _take(self) -> bool:
        """Take rows for as long as a slice may last; tell whether those were the last."""
        if self._rows is None:
            self._open()
        clock = self._session.service.clock
        end_ns = clock.monotonic_ns() + SLICE_NS
        found, wanted, keys_only = self._found, self._wanted, self._keys_only
        for taken, row in enumerate(self._rows, 1):
            if wanted is None or wanted(row if keys_only else row[0]):
                found.append(row)
                row_bytes = len(row) if keys_only else len(row[0]) + len(row[1])
                self._bytes_left -= _ROW_BYTES + row_bytes
                if self._bytes_left < 0:
                    return False
            if taken % _ROWS_A_LOOK == 0 and clock.monotonic_ns() > end_ns:
                return False
        return True

    def _let_go(self) -> None:
        pin, self._pin, self._rows = self._pin, None, None
        if pin is not None:
            pin.release()

    def _end(self, reply: Reply) -> None:
        self._let_go()
        self._found = []
        self._session.service.gatherings.ended()
        self.resolve(reply)


def reply_too_long(session: Session) -> bytes:
    """Return the error of a reply that is longer than a client may leave untaken."""
    return (
        b"ERR the reply would be longer than %d bytes (output_bytes_max): take it in parts, by"
        b" SCAN, or by FERRIS.RANGE with a LIMIT" % session.service.settings.output_bytes_max
    )
