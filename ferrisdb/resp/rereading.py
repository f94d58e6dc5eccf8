"""Read again what a restart of the service has taken the snapshot of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ferrisdb.errors import SnapshotTooOldError

T = TypeVar("T")

ATTEMPTS: Final = 5
"""Times that something is read whose snapshot is taken away each time."""


def reread(read: Callable[[], T]) -> T:
    """Return what `read` returns, called anew for as long as it raises SnapshotTooOldError.

    Raises:  SnapshotTooOldError, of the last attempt; what else `read` raises.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except SnapshotTooOldError:
            continue
    return read()
