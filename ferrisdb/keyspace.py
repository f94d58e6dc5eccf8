"""A key space: an ordered mapping of its own within a database, and the face of most of it.

`Database` is the default one, and adds what concerns the directory as a whole. Single reads and
writes are the kernel's `Space`, the mapping protocol is in mapping.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ferrisdb import atomic_operations as operations
from ferrisdb import transact
from ferrisdb.atomic_operations import AtomicRequest
from ferrisdb.attached import Attached
from ferrisdb.batch import WriteBatch
from ferrisdb.kernel import layout
from ferrisdb.kernel.atomics import Atomic
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.rows import bounds
from ferrisdb.mapping import SpaceMapping
from ferrisdb.transaction import Transaction

if TYPE_CHECKING:
    from ferrisdb.database import Database

T = TypeVar("T")


class Keyspace(SpaceMapping):
    """A key space of an open database: a mapping from bytes to bytes, ordered by key.

    Thread-safe. It shares the database's attachment, and is closed with it. Pickles as the
    database does, with its name. Once it is dropped every call raises KeyspaceDroppedError, also
    if another one was created by its name.
    """

    def __init__(self, attached: Attached, prefix: bytes, keyspace_id: int, name: str) -> None:
        super().__init__(attached, prefix, keyspace_id)
        #: Its name in the catalogue; "" is the default key space.
        self.name = name

    def transaction(
        self,
        *,
        isolation: str = "serializable",
        durability: str | None = None,
        read_only: bool = False,
    ) -> Transaction:
        """Return a transaction; as a context manager it commits at exit unless an exception passes.

        Shape:   isolation, "snapshot" checks at the commit only what was both read and written,
                 which allows write skew; read_only refuses writes, and remembers no reads.
        Raises:  UsageError, KeyspaceDroppedError, ClosedError.
        """
        return Transaction(self, self.attached.durability_of(durability), isolation, read_only)

    def transact(
        self,
        fn: Callable[[Transaction], T],
        *,
        attempts: int | None = None,
        timeout: float | None = None,
        isolation: str = "serializable",
        durability: str | None = None,
    ) -> T:
        """Call `fn` with a transaction and commit it; again with a new one if it conflicts.

        `fn` may run several times: it should change nothing but the transaction. When it rolls
        back or raises nothing is committed; its errors pass.

        Shape:   attempts, transactions at most, None for as many as fit into the time; timeout,
                 seconds after which none is begun any more, None for the handle's.
        Returns: what `fn` returned.
        Raises:  ConflictError, SnapshotTooOldError of the last attempt; else as
                 `Transaction.commit`.
        """
        return transact.run(self, fn, attempts, timeout, isolation, durability)

    def write_batch(self, *, durability: str | None = None) -> WriteBatch:
        """Return a batch; as a context manager it commits at exit unless an exception passes."""
        return WriteBatch(self, self.attached.durability_of(durability))

    def flush(self) -> None:
        """Wait until all earlier writes of this process are durable as by "sync".

        Raises:  the error of an asynchronous write; StorageError; CommitUnknownError.
        """
        self.attached.drain()
        self.attached.commit(BatchBuffer(self.prefix), layout.DURABILITY_SYNC)

    def compact(
        self, start: bytes | None = None, end: bytes | None = None, *, timeout: float | None = None
    ) -> None:
        """Merge what is stored of [start, end) into its lowest level, deletes and all.

        Shape:   None is no bound; timeout, seconds to wait for it, None for as long as it takes.
        Raises:  WrongTypeError, KeyTooLargeError, UsageError; UnavailableError at the time-out,
                 and the compaction goes on by itself.
        Cost:    reads and writes all of the range; others read and write meanwhile.
        """
        first, last = bounds(self, start, end, None)
        self.attached.compact(first, last, timeout)

    # Atomic operations

    def add(
        self, key: bytes, delta: int = 1, *, wide: bool = False, durability: str | None = None
    ) -> int | None:
        """Add an integer to the key's value, ASCII decimal; an absent key is 0. Keeps an expiry.

        Shape:   delta and the sum, 64 bits signed; with `wide`, of any length.
        Returns: the sum; None if it is wide and does not fit 64 bits.
        Raises:  NotAnIntegerError, IntegerOverflowError: nothing written; as `put`.
        """
        _, fits, result = self._request(key, operations.add(delta, wide), durability)
        return result if fits else None

    def append(self, key: bytes, value: bytes, *, durability: str | None = None) -> int:
        """Append to the key's value, none if it is absent; returns how many bytes it has then."""
        request = operations.combine(Atomic.ATOMIC_APPEND, value)
        return self._request(key, request, durability)[2]

    def minimum(self, key: bytes, value: bytes, *, durability: str | None = None) -> bool:
        """Set the key to `value` if it is absent or holds more, in key order; tell if it was set.

        An expiry is kept.
        """
        request = operations.combine(Atomic.ATOMIC_MINIMUM, value)
        return self._request(key, request, durability)[0]

    def maximum(self, key: bytes, value: bytes, *, durability: str | None = None) -> bool:
        """Set the key to `value` if it is absent or holds less, in key order; tell if it was set.

        An expiry is kept.
        """
        request = operations.combine(Atomic.ATOMIC_MAXIMUM, value)
        return self._request(key, request, durability)[0]

    def bit_and(self, key: bytes, mask: bytes, *, durability: str | None = None) -> int:
        """Combine bit by bit, the shorter filled with zero bytes; returns the value's length."""
        return self._request(key, operations.combine(Atomic.ATOMIC_AND, mask), durability)[2]

    def bit_or(self, key: bytes, mask: bytes, *, durability: str | None = None) -> int:
        """Combine bit by bit, the shorter filled with zero bytes; returns the value's length."""
        return self._request(key, operations.combine(Atomic.ATOMIC_OR, mask), durability)[2]

    def bit_xor(self, key: bytes, mask: bytes, *, durability: str | None = None) -> int:
        """Combine bit by bit, the shorter filled with zero bytes; returns the value's length."""
        return self._request(key, operations.combine(Atomic.ATOMIC_XOR, mask), durability)[2]

    def compare_and_set(
        self,
        key: bytes,
        old: bytes | None,
        new: bytes | None,
        *,
        durability: str | None = None,
    ) -> bool:
        """Set the key to `new` only if it holds `old`; tell whether it did. An expiry is kept.

        Shape:   None: absent as `old`, delete as `new`.
        """
        return self._request(key, operations.compare_and_set(old, new), durability)[0]

    def set_if_absent(
        self,
        key: bytes,
        value: bytes,
        *,
        ttl: float | None = None,
        expires_at: float | None = None,
        durability: str | None = None,
    ) -> bool:
        """Set the key only if it is absent; tell whether it was. Shape and raises: as `put`."""
        return self._request(key, operations.set_if_absent(value, ttl, expires_at), durability)[0]

    def expire(
        self,
        key: bytes,
        seconds: float | None = None,
        *,
        at: float | None = None,
        durability: str | None = None,
    ) -> bool:
        """Give the key `seconds` to live, or until `at`, seconds since the epoch.

        Returns: whether the key is there. A moment that has passed deletes it.
        """
        return self._request(key, operations.expire(seconds, at), durability)[0]

    def persist(self, key: bytes, *, durability: str | None = None) -> bool:
        """Take the key's expiry away; tell whether it had one."""
        return self._request(key, operations.persist(), durability)[0]

    def _request(
        self, key: bytes, request: AtomicRequest, durability: str | None
    ) -> tuple[bool, bool, int]:
        return self.atomic(key, *request, durability=durability)

    def __reduce__(self) -> tuple[Callable[..., Keyspace], tuple[object, ...]]:
        return _reopen, (*self.attached.options, self.name)

    def __repr__(self) -> str:
        state = "closed " if self.attached.is_closed else ""
        return f"<{state}ferrisdb.Keyspace {self.name!r} of {self.attached.path!r}>"


def _reopen(path: str, start: bool, timeout: float, durability: str, name: str) -> Keyspace:
    from ferrisdb.database import open_database

    db: Database = open_database(path, start=start, timeout=timeout, durability=durability)
    return db.keyspace(name, create=False)
