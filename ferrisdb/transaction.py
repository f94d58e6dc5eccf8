"""Transactions: read one moment, write in private, commit only if what was read still holds.

Reads and writes of single keys, and the commit of what has no more, are the kernel's (txn.pyx, with
T1 and T2); here is what is rarer.

T3  Where the memtables no longer reach back to the snapshot the coordinator writes nothing and says
    so; what was read is compared with a newer snapshot, and sent again with that one.

Source: optimistic validation, Kung and Robinson 1981; reads of keys and ranges with writes kept at
the client, as in FoundationDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ferrisdb.atomic_operations import AtomicRequest, AtomicWrites
from ferrisdb.backoff import Backoff
from ferrisdb.batch import commit_atomic
from ferrisdb.errors import ConflictError, HistoryGoneError, UsageError
from ferrisdb.kernel import layout
from ferrisdb.kernel.rows import bounds, open_rows
from ferrisdb.kernel.txn import TxCore, TxSpace
from ferrisdb.keys import user_key
from ferrisdb.local_writes import LocalWrites
from ferrisdb.merged_rows import merged_rows
from ferrisdb.read_set import Checks, RangeRead, ReadSet, first_difference

if TYPE_CHECKING:
    from ferrisdb.kernel.batch import BatchBuffer
    from ferrisdb.kernel.space import Space


class TransactionWriter(AtomicWrites, TxSpace):
    """One key space within a transaction: its reads and writes. One thread."""

    __slots__ = ()

    def keyspace(self, other: Space) -> TransactionWriter:
        """Return another key space within the same transaction.

        Raises:  UsageError, it is of another database; KeyspaceDroppedError.
        """
        if other.attached is not self.space.attached:
            raise UsageError("a transaction covers key spaces of one database handle only")
        other.check_lives()
        return TransactionWriter(other, self._tx)

    @property
    def _tx(self) -> Transaction:
        tx = self.transaction
        assert isinstance(tx, Transaction)
        return tx

    def scan(
        self,
        start: bytes | None = None,
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Iterator[Any]:
        """Return an iterator over rows as the transaction sees them at the call.

        Only what was really seen counts as read: a row that is not taken, and what lies behind
        it, may change without conflict. Shape: as `Keyspace.scan`.
        """
        tx, space = self._tx, self.space
        pin = tx.pin()
        first, last = bounds(space, start, end, prefix)
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UsageError(f"limit is a number of rows, 0 or more, not {limit!r}")
        if limit == 0 or (last is not None and first >= last):
            return iter(())
        rows: Any = open_rows(space, pin, start, end, prefix, None, reverse, keys_only)
        seen = RangeRead(first, last, reverse, rows)
        tx.note_range(seen)
        written = {
            key: found
            for key in tx.writes.keys_in(first, last)
            if (found := tx.writes.written(key, pin.now_us)) is not None
        }
        gone = tx.writes.ranges_in(first, last)
        return merged_rows(rows, written, gone, seen, space.prefix, pin, limit, reverse, keys_only)

    def _atomic(self, key: bytes, request: AtomicRequest) -> None:
        self._tx._add_atomic(self.space, key, *request)


class CommitRequest(NamedTuple):
    """What is handed in to have a transaction committed by somebody else than `commit`.

    Shape:  as `RingProducer.commit` takes it; generation and snapshot_seq, 0 if there is nothing
            to check.
    """

    batch: BatchBuffer
    durability: int
    generation: int
    snapshot_seq: int
    checks: Checks


class Savepoint:
    """A point within a transaction that its writes can be rolled back to."""

    __slots__ = ("mark", "owner")

    def __init__(self, owner: Transaction, mark: tuple[int, int, bool]) -> None:
        self.owner = owner
        self.mark = mark


class Transaction(TransactionWriter, TxCore):
    """Reads of one moment and writes that are committed together, if what was read still holds.

    As a context manager it commits at exit, and rolls back if an exception passes. One thread.
    `db.transact` runs a function in transactions until one commits.
    """

    __slots__ = ("_writes",)

    @property
    def writes(self) -> LocalWrites:
        """What it has written so far, by key."""
        writes: LocalWrites | None = getattr(self, "_writes", None)
        if writes is None:
            writes = self._writes = LocalWrites(self.batch)
        return writes

    def _own_entry(self, space: Space, key: bytes) -> tuple[bytes | None, int] | None:
        pin = self.pin()
        # The key's type and length are checked by `entry_at` otherwise.
        written = isinstance(key, bytes) and self.writes.written(space.prefix + key, pin.now_us)
        if not written:
            return None
        if written.known:
            return written.over(None, 0, pin.now_us)
        value, expires_us = space.entry_at(pin, key)
        self.note_key(space.prefix + key, expires_us)
        return written.over(value, expires_us, pin.now_us)

    # Savepoints

    def savepoint(self) -> Savepoint:
        """Return the point that it is at, to roll back to."""
        self.check_live()
        point = Savepoint(self, self.batch.mark())
        if self.savepoints is None:
            self.savepoints = []
        self.savepoints.append(point)
        return point

    def rollback_to(self, point: Savepoint) -> None:
        """Forget every write behind a savepoint; what was read since still counts as read.

        The savepoint stays, later ones are gone.
        Raises:  UsageError, it is another transaction's, or gone.
        """
        self.check_live()
        points = self.savepoints or []
        if point not in points:
            raise UsageError("no such savepoint: it is another transaction's, or rolled back over")
        del points[points.index(point) + 1 :]
        self.writes.rewind(point.mark)

    # The end

    @property
    def has_writes(self) -> bool:
        """Whether anything would be committed."""
        return self.batch.count > 0

    def request(self) -> CommitRequest:
        """Return what to hand in, instead of `commit` and without waiting.

        The transaction is used up, but for `rollback`: to be called once the verdict is there,
        because it lets go of the snapshot (T2). Any conflict, a HistoryGoneError too, is for the
        caller to run the transaction again.
        """
        self.finish()
        checks, batch = self._checks(), self.batch
        if not checks.encoded and not checks.expiry_us and not batch.is_atomic:
            return CommitRequest(batch, self.durability, 0, 0, checks)
        pin = self.held
        if pin is None:
            pin = self.space.attached.take_pin()
            self._hold(pin)
        if batch.is_atomic:
            batch = batch.hinted(pin.entry)
        durability = max(self.durability, layout.DURABILITY_OS)
        return CommitRequest(batch, durability, pin.generation, pin.seq, checks)

    def newest_seq(self, key: bytes) -> int:
        """Return the sequence of a key's newest version at the snapshot, its deletes included.

        Only memtables are asked: 0 if none has one. Not noted as a read; ranges don't count.
        """
        pin, stored = self.pin(), self.space.prefix + key
        found = (memtable.get(stored, pin.seq) for memtable in pin.view.memtables)
        return max((version[0] for version in found if version is not None), default=0)

    def _checks(self) -> Checks:
        """Return what the commit depends on."""
        reads = ReadSet(self.points, self.ranges)
        if self.is_serializable:
            return reads.checks()
        return reads.checks_of_written(self.writes, self.held)

    def _commit_others(self) -> None:
        checks = self._checks()
        if checks.encoded or checks.expiry_us:
            self._commit_checked(checks)
        elif self.batch.is_atomic:
            self.seq, _ = commit_atomic(self.space.attached, self.batch, self.durability)
        else:
            self.seq = self.space.attached.commit(self.batch, self.durability) - 1

    def _commit_again(self, error: ConflictError) -> None:
        checks = self._checks()
        if not isinstance(error, HistoryGoneError):
            raise self._conflict(error, checks) from None
        self._renew(checks)
        self._commit_checked(checks)

    def _commit_checked(self, checks: Checks) -> None:
        backoff = Backoff(self.space.attached.deadline_ns())
        while True:
            try:
                self._send(checks)
                return
            except HistoryGoneError as error:
                gone = error
            except ConflictError as error:
                raise self._conflict(error, checks) from None
            self._renew(checks)
            backoff.after(gone)

    def _send(self, checks: Checks) -> None:
        batch, pin = self.batch, self.held
        assert pin is not None, "there are checks only of what was read"
        if batch.is_atomic:
            batch = batch.hinted(pin.entry)
        self.seq = (
            self.space.attached.commit(
                batch,
                max(self.durability, layout.DURABILITY_OS),
                generation=pin.generation,
                snapshot_seq=pin.seq,
                checks=checks.encoded,
                expiry_us=checks.expiry_us,
            )
            - 1
        )

    def _renew(self, checks: Checks) -> None:
        """Go on at a newer snapshot, if all that was read reads the same there (T3).

        Raises:  ConflictError, SnapshotTooOldError.
        """
        held, new = self.held, self.space.attached.ordered_pin()
        assert held is not None, "there are checks only of what was read"
        try:
            differs = first_difference(checks, held, new)
        except BaseException:
            new.release()
            raise
        if differs is not None:
            new.release()
            raise _conflict_at(differs)
        self._hold(new)

    def _conflict(self, error: ConflictError, checks: Checks) -> ConflictError:
        if error.check is None or not 0 <= error.check < len(checks.parts):
            return ConflictError("a key that was read has expired since: nothing was written")
        part = checks.parts[error.check]
        return _conflict_at(part if isinstance(part, bytes) else part[0], part)


def _conflict_at(
    stored: bytes, part: bytes | tuple[bytes, bytes | None] | None = None
) -> ConflictError:
    key = user_key(stored)
    what = "a range that was read, from" if isinstance(part, tuple) else "the key"
    return ConflictError(
        f"{what} {key!r}, has changed since it was read: nothing was written; run the transaction"
        " again",
        key,
    )
