"""A write batch: operations that are committed together or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ferrisdb.atomic_operations import AtomicRequest, AtomicWrites
from ferrisdb.backoff import Backoff
from ferrisdb.errors import ClosedError, HistoryGoneError, SnapshotTooOldError, UsageError
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer

if TYPE_CHECKING:
    from ferrisdb.attached import Attached
    from ferrisdb.kernel.space import Space


class BatchWriter(AtomicWrites):
    """Adds the writes of one key space to a batch, which another one commits. One thread."""

    __slots__ = ("_batch", "_space")

    def __init__(self, batch: WriteBatch, space: Space) -> None:
        self._batch = batch
        self._space = space

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        ttl: float | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Set the key; `ttl` in seconds from the commit. Raises as `Keyspace.put`."""
        self._live().put(key, value, ttl, expires_at)

    def delete(self, key: bytes) -> None:
        """Remove the key; an absent one is no error."""
        self._live().delete(key)

    def delete_range(self, start: bytes | None, end: bytes | None) -> None:
        """Remove every key in [start, end); None is no bound."""
        self._live().delete_range(start, end)

    def _atomic(self, key: bytes, request: AtomicRequest) -> None:
        operation, operand, expected, flags, expires_us = request
        self._live().atomic(operation, key, operand, expected, flags, expires_us)

    def _live(self) -> BatchBuffer:
        buffer = self._batch.buffer()
        buffer.switch(self._space.prefix)
        return buffer


class WriteBatch(BatchWriter):
    """Collects writes; later ones win over earlier ones of the same batch. One thread.

    As a context manager it commits at exit, and drops everything if an exception passes.
    """

    __slots__ = ("_buffer", "_durability", "_session", "applied", "seq")

    def __init__(self, space: Space, durability: int) -> None:
        space.check_lives()
        super().__init__(self, space)
        self._durability = durability
        self._session = space.attached.session
        self._buffer: BatchBuffer | None = BatchBuffer(space.prefix)
        #: Commit sequence number, once committed (0 with durability "async").
        self.seq = 0
        #: How many of its atomic operations wrote something, once committed.
        self.applied = 0

    def keyspace(self, other: Space) -> BatchWriter:
        """Return what adds another key space's writes to this batch.

        Raises:  UsageError, it is of another database.
        """
        if other.attached is not self._space.attached:
            raise UsageError("a batch writes to key spaces of one database handle only")
        return BatchWriter(self, other)

    def clear(self) -> None:
        """Forget what was collected."""
        self.buffer().clear()

    def __len__(self) -> int:
        return len(self.buffer())

    def commit(self) -> None:
        """Commit what was collected; the batch is used up.

        Raises: BatchTooLargeError, BusyError, DiskFullError, KeyspaceDroppedError,
                NotAnIntegerError, IntegerOverflowError: nothing written; CommitUnknownError.
        """
        buffer, self._buffer = self.buffer(), None
        attached = self._space.attached
        if buffer.is_atomic:
            self.seq, self.applied = commit_atomic(attached, buffer, self._durability)
        elif len(buffer):
            self.seq = attached.commit(buffer, self._durability) - 1

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

    def buffer(self) -> BatchBuffer:
        """Return what was collected, encoded; for the writers of this batch."""
        attached = self._space.attached
        attached.enter_call()
        if self._buffer is None:
            raise ClosedError("this batch is committed or dropped: make a new one")
        if self._session != attached.session:
            raise ClosedError("this batch belongs to the parent of this fork: make a new one")
        return self._buffer


def commit_atomic(attached: Attached, buffer: BatchBuffer, durability: int) -> tuple[int, int]:
    """Commit a batch with atomic operations; returns (sequence, how many of them wrote).

    Each goes with what its key holds, in case that no memtable knows; where that has become too
    old on the way nothing was written, and it is read and sent again.
    """
    backoff = Backoff(attached.deadline_ns())
    while True:
        attached.enter_call()
        pin = attached.take_pin()
        try:
            seq, applied, _, _ = attached.commit_replied(
                buffer.hinted(pin.entry),
                max(durability, layout.DURABILITY_OS),
                generation=pin.generation,
                snapshot_seq=pin.seq,
            )
            return seq, applied
        except (HistoryGoneError, SnapshotTooOldError) as error:
            lost = error
        finally:
            pin.release()
        backoff.after(lost)
