"""Say on the wire why something failed: FerrisDB's errors as Redis's error lines.

The first word is what clients go by. TRYAGAIN: nothing was written, and the same may work later;
MISCONF: no space, nothing was written; UNKNOWN: whether it was written can't be known; ERR: the
request can't be done.
"""

from __future__ import annotations

from typing import Final

from ferrisdb.errors import (
    BusyError,
    CommitUnknownError,
    ConflictError,
    DiskFullError,
    Error,
    HistoryGoneError,
    IntegerOverflowError,
    NotAnIntegerError,
    SharedMemoryFullError,
    SnapshotTooOldError,
    TooManySnapshotsError,
    UnavailableError,
    ValueTooLargeError,
    by_wire_code,
)
from ferrisdb.resp.command import NOT_AN_INTEGER, TOO_LONG, CommandError

RERUN: Final = frozenset(
    [ConflictError.wire_code, HistoryGoneError.wire_code, SnapshotTooOldError.wire_code]
)
"""Status of a commit behind which the same is read and done again."""

_TEXTS: Final[dict[int, bytes]] = {
    NotAnIntegerError.wire_code: NOT_AN_INTEGER,
    IntegerOverflowError.wire_code: b"ERR increment or decrement would overflow",
    ValueTooLargeError.wire_code: TOO_LONG,
    BusyError.wire_code: b"TRYAGAIN writes are stalled behind the flush: nothing was written",
    DiskFullError.wire_code: b"MISCONF no space on the database's file system: nothing was written",
    SharedMemoryFullError.wire_code: b"MISCONF no space in shared memory: nothing was written",
    CommitUnknownError.wire_code: b"UNKNOWN the write may or may not have happened: read it back",
    TooManySnapshotsError.wire_code: b"TRYAGAIN too much is being read at once",
}


def failure_of(error: Error | CommandError) -> bytes:
    """Return the error line, without its `-`, of one of our errors or of a refused command."""
    if isinstance(error, CommandError):
        return error.text
    text = _TEXTS.get(error.wire_code)
    if text is not None:
        return text
    code = "TRYAGAIN" if isinstance(error, UnavailableError) else "ERR"
    return f"{code} {error}".replace("\r", " ").replace("\n", " ").encode()


def failure_of_status(status: int) -> bytes:
    """Return the error line, without its `-`, of a commit's status, which is not 0."""
    text = _TEXTS.get(status)
    if text is not None:
        return text
    kind = by_wire_code().get(status)
    if kind is None:
        return b"ERR the service answered with an unknown code %d" % status
    code = "TRYAGAIN" if issubclass(kind, UnavailableError) else "ERR"
    return f"{code} {(kind.__doc__ or '').splitlines()[0]}".encode()
