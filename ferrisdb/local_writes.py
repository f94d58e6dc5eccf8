"""What a transaction has written and not yet committed: to be read again, and to be committed.

Each write is encoded at once, as it will be committed, and noted by its key beside. Reading a key
back composes, in order, what was written to it: whatever is behind its last put, delete or range
delete is an atomic operation that is evaluated on the way.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from ferrisdb.atomic_operations import AtomicRequest
from ferrisdb.errors import TransactionTooLargeError
from ferrisdb.kernel.atomics import evaluate
from ferrisdb.kernel.batch import BatchBuffer, moment_us, ttl_us
from ferrisdb.keys import prefix_end


class _Write(NamedTuple):
    """One write of one key: an atomic operation, or else what it holds from then on."""

    position: int
    operation: bytes | None
    value: bytes | None = None
    expires_us: int = 0
    #: Whether `expires_us` counts from the commit.
    relative: bool = False


class Written(NamedTuple):
    """What was written to a key: on top of what is there unless `known`."""

    known: bool
    value: bytes | None
    expires_us: int
    #: Atomic operations to be evaluated, in order.
    pending: tuple[bytes, ...]

    def over(
        self, held: bytes | None, held_expires_us: int, now_us: int
    ) -> tuple[bytes | None, int]:
        """Return (value or None, expires_us) as the key is behind it, over what it holds.

        Raises: NotAnIntegerError, IntegerOverflowError, ValueTooLargeError: so would the commit.
        """
        value, expires_us = (self.value, self.expires_us) if self.known else (held, held_expires_us)
        for operation in self.pending:
            after = evaluate(operation, value, expires_us, now_us)
            if after is not None:
                value, expires_us = after
            if expires_us and expires_us <= now_us:
                value, expires_us = None, 0
        return value, expires_us


class Mark(NamedTuple):
    """A point between two writes, to which `rewind` returns."""

    batch: tuple[int, int, bool]
    position: int


class LocalWrites:
    """The writes of one transaction, in order, over stored keys of any key space.

    Shape:  bytes_max, what they may take, encoded.
    """

    def __init__(self, bytes_max: int) -> None:
        #: All of it as it will be committed.
        self.batch = BatchBuffer(b"")
        self._bytes_max = bytes_max
        self._by_key: dict[bytes, list[_Write]] = {}
        #: (position, first, last) of range deletes; last None: no bound.
        self._ranges: list[tuple[int, bytes, bytes | None]] = []
        #: The key of each write in order, None for a range delete.
        self._journal: list[bytes | None] = []
        self._sorted: list[bytes] = []
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._journal)

    # Writing

    def put(
        self,
        prefix: bytes,
        key: bytes,
        value: bytes,
        ttl: float | None,
        expires_at: float | None,
    ) -> None:
        """Note a put. Raises: as `Transaction.put`; then nothing is noted."""
        mark = self._begin(prefix)
        self.batch.put(key, value, ttl, expires_at)
        self._end(mark)
        expires_us = ttl_us(ttl)
        if expires_at is not None:
            expires_us = moment_us(expires_at)
        self._note(prefix + key, None, bytes(value), expires_us, relative=ttl is not None)

    def put_until(self, prefix: bytes, key: bytes, value: bytes, expires_us: int) -> None:
        """Note a put until a moment in µs; 0 for ever. Raises: as `put`."""
        mark = self._begin(prefix)
        self.batch.put_until(key, value, expires_us)
        self._end(mark)
        self._note(prefix + key, None, bytes(value), expires_us)

    def delete(self, prefix: bytes, key: bytes) -> None:
        """Note a delete."""
        mark = self._begin(prefix)
        self.batch.delete(key)
        self._end(mark)
        self._note(prefix + key, None, None)

    def delete_range(self, prefix: bytes, start: bytes | None, end: bytes | None) -> None:
        """Note a delete of [start, end); None is no bound within the key space."""
        mark = self._begin(prefix)
        self.batch.delete_range(start, end)
        if self.batch.mark() == mark:
            return
        self._end(mark)
        first = prefix + (start or b"")
        last = prefix_end(prefix) if end is None else prefix + end
        self._ranges.append((len(self._journal), first, last))
        self._journal.append(None)

    def atomic(self, prefix: bytes, key: bytes, request: AtomicRequest) -> None:
        """Note an atomic operation."""
        operation, operand, expected, flags, expires_us = request
        mark = self._begin(prefix)
        self.batch.atomic(operation, key, operand, expected, flags, expires_us)
        self._end(mark)
        self._note(prefix + key, self.batch.since(mark), None)

    def _begin(self, prefix: bytes) -> tuple[int, int, bool]:
        self.batch.switch(prefix)
        return self.batch.mark()

    def _end(self, mark: tuple[int, int, bool]) -> None:
        if self.batch.encoded_bytes > self._bytes_max:
            self.batch.rewind(mark)
            raise TransactionTooLargeError(
                f"the transaction's writes take more than {self._bytes_max} bytes (half a"
                " memtable): this one is not among them; commit what there is, or write less"
            )

    def _note(
        self,
        stored: bytes,
        operation: bytes | None,
        value: bytes | None,
        expires_us: int = 0,
        *,
        relative: bool = False,
    ) -> None:
        writes = self._by_key.get(stored)
        if writes is None:
            writes = self._by_key[stored] = []
            self._sorted.append(stored)
            self._is_sorted = False
        writes.append(_Write(len(self._journal), operation, value, expires_us, relative))
        self._journal.append(stored)

    # Savepoints

    def mark(self) -> Mark:
        """Return where it is now."""
        return Mark(self.batch.mark(), len(self._journal))

    def rewind(self, mark: Mark) -> None:
        """Forget what was written behind a mark."""
        if mark.position == len(self._journal):
            return
        self.batch.rewind(mark.batch)
        for stored in reversed(self._journal[mark.position :]):
            if stored is None:
                self._ranges.pop()
                continue
            writes = self._by_key[stored]
            writes.pop()
            if not writes:
                del self._by_key[stored]
        del self._journal[mark.position :]
        self._sorted = sorted(self._by_key)
        self._is_sorted = True

    # Reading back

    def written(self, stored: bytes, now_us: int) -> Written | None:
        """Return what was written to a key, None if nothing was."""
        writes = self._by_key.get(stored, ())
        gone_at = -1
        for position, first, last in reversed(self._ranges):
            if first <= stored and (last is None or stored < last):
                gone_at = position
                break
        if not writes and gone_at < 0:
            return None
        pending: list[bytes] = []
        known, value, expires_us = False, None, 0
        for write in reversed(writes):
            if write.position < gone_at:
                break
            if write.operation is None:
                known, value, expires_us = True, write.value, write.expires_us
                if write.relative:
                    expires_us += now_us
                break
            pending.append(write.operation)
        if expires_us and expires_us <= now_us:
            value, expires_us = None, 0
        return Written(known or gone_at >= 0, value, expires_us, tuple(reversed(pending)))

    def keys_in(self, first: bytes, last: bytes | None) -> list[bytes]:
        """Return the stored keys in [first, last) that were written to singly, in order."""
        if not self._is_sorted:
            self._sorted.sort()
            self._is_sorted = True
        begin = bisect_left(self._sorted, first)
        end = len(self._sorted) if last is None else bisect_left(self._sorted, last)
        return self._sorted[begin:end]

    def ranges_in(self, first: bytes, last: bytes | None) -> list[tuple[bytes, bytes | None]]:
        """Return the parts of [first, last) that were deleted as ranges."""
        parts = []
        for _, start, end in self._ranges:
            lower = max(first, start)
            upper = end if last is None else last if end is None else min(last, end)
            if upper is None or lower < upper:
                parts.append((lower, upper))
        return parts

    def touches(self, stored: bytes) -> bool:
        """Tell whether a key was written to, singly or in a range."""
        return stored in self._by_key or any(
            first <= stored and (last is None or stored < last) for _, first, last in self._ranges
        )
