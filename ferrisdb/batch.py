"""A write batch: operations that are committed together or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ferrisdb.errors import ClosedError
from ferrisdb.kernel.batch import BatchBuffer

if TYPE_CHECKING:
    from ferrisdb.database import Database


class WriteBatch:
    """Collects writes; later ones win over earlier ones of the same batch. One thread.

    As a context manager it commits at exit, and drops everything if an exception passes.
    """

    __slots__ = ("_buffer", "_db", "_durability", "_session", "seq")

    def __init__(self, db: Database, durability: int) -> None:
        db.enter_call()
        self._db = db
        self._durability = durability
        self._session = db.session
        self._buffer: BatchBuffer | None = BatchBuffer(db.prefix)
        #: Commit sequence number, once committed (0 with durability "async").
        self.seq = 0

    def put(self, key: bytes, value: bytes, *, ttl: float | None = None) -> None:
        """Set the key; `ttl` in seconds from the commit. Raises as `Database.put`."""
        self._live().put(key, value, ttl)

    def delete(self, key: bytes) -> None:
        """Remove the key; an absent one is no error."""
        self._live().delete(key)

    def delete_range(self, start: bytes | None, end: bytes | None) -> None:
        """Remove every key in [start, end); None is no bound."""
        self._live().delete_range(start, end)

    def clear(self) -> None:
        """Forget what was collected."""
        self._live().clear()

    def __len__(self) -> int:
        return len(self._live())

    def commit(self) -> None:
        """Commit what was collected; the batch is used up.

        Raises: BatchTooLargeError, BusyError, DiskFullError: nothing written;
                CommitUnknownError.
        """
        buffer, self._buffer = self._live(), None
        if len(buffer):
            self.seq = self._db.commit(buffer, self._durability) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._buffer is not None:
            self.commit()
        self._buffer = None

    def _live(self) -> BatchBuffer:
        self._db.enter_call()
        if self._buffer is None:
            raise ClosedError("this batch is committed or dropped: make a new one")
        if self._session != self._db.session:
            raise ClosedError("this batch belongs to the parent of this fork: make a new one")
        return self._buffer
