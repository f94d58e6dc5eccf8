"""Transactions: read one moment, write in private, commit only if what was read still holds.

T1  A transaction's snapshot is taken at its first read, so that one that only writes has none: it
    depends on nothing and never conflicts. One that only reads commits without asking anybody.
T2  Its pin is held until the verdict: were it let go before, the coordinator could forget what
    tells whether the reads still hold.
T3  Where the memtables no longer reach back to the snapshot the coordinator writes nothing and says
    so; what was read is compared with a newer snapshot, and sent again with that one.

Source: optimistic validation, Kung and Robinson 1981; reads of keys and ranges with writes kept at
the client, as in FoundationDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ferrisdb.atomic_operations import AtomicRequest, AtomicWrites
from ferrisdb.backoff import Backoff
from ferrisdb.batch import commit_atomic
from ferrisdb.errors import (
    ClosedError,
    ConflictError,
    HistoryGoneError,
    TransactionTooLargeError,
    UsageError,
)
from ferrisdb.kernel import layout
from ferrisdb.kernel.rows import bounds, open_rows
from ferrisdb.keys import user_key
from ferrisdb.local_writes import LocalWrites, Mark
from ferrisdb.merged_rows import merged_rows
from ferrisdb.read_set import CHECKS_BYTES_MAX, Checks, RangeRead, ReadSet, first_difference

if TYPE_CHECKING:
    from ferrisdb.kernel.batch import BatchBuffer
    from ferrisdb.kernel.client import Pin
    from ferrisdb.kernel.space import Space

ISOLATIONS = ("serializable", "snapshot")
"""What a transaction may ask for; "snapshot" allows write skew, and nothing else."""


class TransactionWriter(AtomicWrites):
    """One key space within a transaction: its reads and writes. One thread."""

    __slots__ = ("_space", "_tx")

    def __init__(self, tx: Transaction, space: Space) -> None:
        self._tx = tx
        self._space = space

    def keyspace(self, other: Space) -> TransactionWriter:
        """Return another key space within the same transaction.

        Raises:  UsageError, it is of another database; KeyspaceDroppedError.
        """
        if other.attached is not self._space.attached:
            raise UsageError("a transaction covers key spaces of one database handle only")
        other.check_lives()
        return TransactionWriter(self._tx, other)

    # Reading

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the key's value as the transaction sees it, or `default`; counts as a read.

        Raises:  WrongTypeError, KeyTooLargeError, SnapshotTooOldError, ClosedError; for a key
                 that atomic operations of this transaction were applied to, what they raise.
        """
        value = self._entry(key)[0]
        return default if value is None else value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of `keys` in their order, None where absent."""
        return [self._entry(key)[0] for key in keys]

    def entry(self, key: bytes) -> tuple[bytes | None, int]:
        """Return (value or None, when it expires in µs since the epoch, 0 for never).

        Raises:  as `get`.
        """
        return self._entry(key)

    def ttl(self, key: bytes) -> float | None:
        """Return how many seconds the key has to live, None if it has no expiry.

        Raises:  KeyError, it is absent.
        """
        value, expires_us = self._entry(key)
        if value is None:
            raise KeyError(key)
        return (expires_us - self._tx.pin().now_us) / 1e6 if expires_us else None

    def __getitem__(self, key: bytes) -> bytes:
        value = self._entry(key)[0]
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._entry(key)[0] is not None

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
        tx, space = self._tx, self._space
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

    def _entry(self, key: bytes) -> tuple[bytes | None, int]:
        tx = self._tx
        pin = tx.pin()
        if len(tx.writes):
            # The key's type and length are checked by `entry_at` otherwise.
            written = isinstance(key, bytes) and tx.writes.written(
                self._space.prefix + key, pin.now_us
            )
            if written:
                if written.known:
                    return written.over(None, 0, pin.now_us)
                return written.over(*self._read(pin, key), pin.now_us)
        return self._read(pin, key)

    def _read(self, pin: Pin, key: bytes) -> tuple[bytes | None, int]:
        entry = self._space.entry_at(pin, key)
        self._tx.note_key(self._space.prefix + key, entry[1])
        return entry

    # Writing

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        ttl: float | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Set the key; `ttl` in seconds from the commit.

        Raises:  TransactionTooLargeError, and this write is not part of it; as `Keyspace.put`.
        """
        self._tx.begin_write().put(self._space.prefix, key, value, ttl, expires_at)

    def put_until(self, key: bytes, value: bytes, expires_us: int) -> None:
        """Set the key until a moment in µs since the epoch, exactly; 0 for ever. Raises: as `put`.

        A moment that has passed deletes the key.
        """
        self._tx.begin_write().put_until(self._space.prefix, key, value, expires_us)

    def delete(self, key: bytes) -> None:
        """Remove the key; an absent one is no error, and nothing is read. Raises: as `put`."""
        self._tx.begin_write().delete(self._space.prefix, key)

    def delete_range(self, start: bytes | None, end: bytes | None) -> None:
        """Remove every key in [start, end); None is no bound. Raises: as `put`."""
        self._tx.begin_write().delete_range(self._space.prefix, start, end)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        if self._entry(key)[0] is None:
            raise KeyError(key)
        self.delete(key)

    def _atomic(self, key: bytes, request: AtomicRequest) -> None:
        self._tx.begin_write().atomic(self._space.prefix, key, request)


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

    def __init__(self, owner: Transaction, mark: Mark) -> None:
        self.owner = owner
        self.mark = mark


class Transaction(TransactionWriter):
    """Reads of one moment and writes that are committed together, if what was read still holds.

    As a context manager it commits at exit, and rolls back if an exception passes. One thread.
    `db.transact` runs a function in transactions until one commits.
    """

    __slots__ = (
        "_done", "_durability", "_isolation", "_pin", "_read_only", "_reads", "_savepoints",
        "_session", "seq", "writes",
    )  # fmt: skip

    def __init__(self, space: Space, durability: int, isolation: str, read_only: bool) -> None:
        if isolation not in ISOLATIONS:
            raise UsageError(f"isolation is 'serializable' or 'snapshot', not {isolation!r}")
        space.check_lives()
        super().__init__(self, space)
        self._durability = durability
        self._isolation = isolation
        self._read_only = read_only
        self._session = space.attached.session
        self._pin: Pin | None = None
        self._reads = ReadSet()
        self._savepoints: list[Savepoint] = []
        self._done = False
        #: What it has written so far.
        self.writes = LocalWrites(space.attached.batch_bytes_max)
        #: Commit sequence number once committed: of the snapshot if nothing was written, and 0
        #: if nothing was read either, or the durability is "async".
        self.seq = 0

    # For its writers

    def pin(self) -> Pin:
        """Return what it reads at, taken now if this is the first read (T1)."""
        self._live()
        if self._pin is None:
            self._pin = self._space.attached.take_pin()
        return self._pin

    def begin_write(self) -> LocalWrites:
        """Return where writes are noted."""
        self._live()
        if self._read_only:
            raise UsageError("this transaction was begun with read_only=True: it writes nothing")
        self._check_reads()
        return self.writes

    def note_key(self, stored: bytes, expires_us: int) -> None:
        """Note the read of a stored key, unless reads don't matter."""
        if not self._read_only:
            self._reads.add_key(stored, expires_us)
            if len(self.writes):
                self._check_reads()

    def note_range(self, seen: RangeRead) -> None:
        """Note a range whose rows are being handed out, unless reads don't matter."""
        if not self._read_only:
            self._reads.add_range(seen)

    def _check_reads(self) -> None:
        if self._reads.nbytes > CHECKS_BYTES_MAX and self._isolation == "serializable":
            raise TransactionTooLargeError(
                f"what the transaction has read takes more than {CHECKS_BYTES_MAX} bytes to"
                " check: read ranges by scan, or less; begin it with read_only=True if it writes"
                " nothing"
            )

    def _live(self) -> None:
        attached = self._space.attached
        attached.enter_call()
        if self._done:
            raise ClosedError("this transaction is committed or rolled back: begin a new one")
        if self._session != attached.session:
            raise ClosedError(
                "this transaction belongs to a closed handle, or to this fork's parent:"
                " begin a new one"
            )

    # Savepoints

    def savepoint(self) -> Savepoint:
        """Return the point that it is at, to roll back to."""
        self._live()
        point = Savepoint(self, self.writes.mark())
        self._savepoints.append(point)
        return point

    def rollback_to(self, point: Savepoint) -> None:
        """Forget every write behind a savepoint; what was read since still counts as read.

        The savepoint stays, later ones are gone.
        Raises:  UsageError, it is another transaction's, or gone.
        """
        self._live()
        if point not in self._savepoints:
            raise UsageError("no such savepoint: it is another transaction's, or rolled back over")
        del self._savepoints[self._savepoints.index(point) + 1 :]
        self.writes.rewind(point.mark)

    # The end

    def commit(self) -> None:
        """Commit; the transaction is used up, whatever happens.

        With durability "async" one that has read something waits as by "os".
        Raises: ConflictError, something that was read has changed since; SnapshotTooOldError;
                BusyError, DiskFullError, KeyspaceDroppedError, NotAnIntegerError,
                IntegerOverflowError: nothing was written; CommitUnknownError.
        """
        self._live()
        self._done = True
        try:
            if self.writes.batch.count:
                self._commit_writes()
            elif self._pin is not None:
                self.seq = self._pin.seq
        finally:
            self._release()

    @property
    def has_writes(self) -> bool:
        """Whether anything would be committed."""
        return self.writes.batch.count > 0

    def request(self) -> CommitRequest:
        """Return what to hand in, instead of `commit` and without waiting.

        The transaction is used up, but for `rollback`: to be called once the verdict is there,
        because it lets go of the snapshot (T2). Any conflict, a HistoryGoneError too, is for the
        caller to run the transaction again.
        """
        self._live()
        self._done = True
        checks, batch = self._checks(), self.writes.batch
        if not checks.encoded and not checks.expiry_us and not batch.is_atomic:
            return CommitRequest(batch, self._durability, 0, 0, checks)
        if self._pin is None:
            self._pin = self._space.attached.take_pin()
        pin = self._pin
        if batch.is_atomic:
            batch = batch.hinted(pin.entry)
        durability = max(self._durability, layout.DURABILITY_OS)
        return CommitRequest(batch, durability, pin.generation, pin.seq, checks)

    def newest_seq(self, key: bytes) -> int:
        """Return the sequence of a key's newest version at the snapshot, its deletes included.

        Only memtables are asked: 0 if none has one. Not noted as a read; ranges don't count.
        """
        pin, stored = self.pin(), self._space.prefix + key
        found = (memtable.get(stored, pin.seq) for memtable in pin.view.memtables)
        return max((version[0] for version in found if version is not None), default=0)

    def rollback(self) -> None:
        """Forget everything; the transaction is used up. Once it has ended: nothing happens."""
        self._done = True
        self._release()

    def _commit_writes(self) -> None:
        attached, batch, checks = self._space.attached, self.writes.batch, self._checks()
        if not checks.encoded and not checks.expiry_us:
            if batch.is_atomic:
                self.seq, _ = commit_atomic(attached, batch, self._durability)
            else:
                self.seq = attached.commit(batch, self._durability) - 1
            return
        backoff = Backoff(attached.deadline_ns())
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

    def _checks(self) -> Checks:
        if self._isolation == "serializable":
            return self._reads.checks()
        return self._reads.checks_of_written(self.writes, self._pin)

    def _send(self, checks: Checks) -> None:
        attached, batch, pin = self._space.attached, self.writes.batch, self.pin_held()
        durability = max(self._durability, layout.DURABILITY_OS)
        if batch.is_atomic:
            batch = batch.hinted(pin.entry)
        self.seq = (
            attached.commit(
                batch,
                durability,
                generation=pin.generation,
                snapshot_seq=pin.seq,
                checks=checks.encoded,
                expiry_us=checks.expiry_us,
            )
            - 1
        )

    def pin_held(self) -> Pin:
        """Return the pin that everything was read at."""
        assert self._pin is not None, "there are checks only of what was read"
        return self._pin

    def _renew(self, checks: Checks) -> None:
        """Go on at a newer snapshot, if all that was read reads the same there (T3).

        Raises:  ConflictError, SnapshotTooOldError.
        """
        old = self.pin_held()
        new = self._space.attached.ordered_pin()
        try:
            differs = first_difference(checks, old, new)
        except BaseException:
            new.release()
            raise
        if differs is not None:
            new.release()
            raise _conflict_at(differs)
        self._pin = new
        old.release()

    def _conflict(self, error: ConflictError, checks: Checks) -> ConflictError:
        if error.check is None or not 0 <= error.check < len(checks.parts):
            return ConflictError("a key that was read has expired since: nothing was written")
        part = checks.parts[error.check]
        return _conflict_at(part if isinstance(part, bytes) else part[0], part)

    def _release(self) -> None:
        pin, self._pin = self._pin, None
        if pin is not None:
            pin.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._done:
            self.commit()
        self.rollback()

    def __del__(self) -> None:
        # The pin lets its slot go by itself.
        self._done = True


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
