"""What a transaction has written and not yet committed: to be read again, and to be committed.

Each write is encoded at once, as it will be committed. What is read back is first noted by its key
beside, so that a transaction that reads nothing back pays nothing for it. Reading a key composes,
in order, what was written to it: whatever is behind its last put, delete or range delete is an
atomic operation that is evaluated on the way.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from ferrisdb.kernel.atomics import evaluate
from ferrisdb.kernel.batch import BatchBuffer, OpKind


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


class LocalWrites:
    """The writes of one transaction by key, in order, over stored keys of any key space.

    Shape:  batch, all of it as it will be committed; what is added to it is noticed.
    """

    def __init__(self, batch: BatchBuffer) -> None:
        self.batch = batch
        self._forget()

    def _forget(self) -> None:
        #: Bytes of the batch that are noted here, and how many operations they are.
        self._noted_bytes = self._noted_count = 0
        self._by_key: dict[bytes, list[_Write]] = {}
        #: (position, first, last) of range deletes; last None: no bound.
        self._ranges: list[tuple[int, bytes, bytes | None]] = []
        self._sorted: list[bytes] = []
        self._is_sorted = True

    def _notice(self) -> None:
        """Note what was written since the last look."""
        if self._noted_bytes == self.batch.encoded_bytes:
            return
        for kind, key, value, expires_us in self.batch.operations(self._noted_bytes):
            position = self._noted_count
            self._noted_count += 1
            if kind == OpKind.OP_RANGE_DELETE:
                self._ranges.append((position, key, value or None))
                continue
            writes = self._by_key.get(key)
            if writes is None:
                writes = self._by_key[key] = []
                self._sorted.append(key)
                self._is_sorted = False
            if kind == OpKind.OP_ATOMIC:
                writes.append(_Write(position, value))
            elif kind == OpKind.OP_DELETE:
                writes.append(_Write(position, None))
            else:
                relative = kind == OpKind.OP_PUT_TTL
                writes.append(_Write(position, None, value, expires_us, relative))
        self._noted_bytes = self.batch.encoded_bytes

    def rewind(self, mark: tuple[int, int, bool]) -> None:
        """Forget what was written behind a mark."""
        self.batch.rewind(mark)
        if self._noted_bytes > self.batch.encoded_bytes:
            self._forget()

    # Reading back

    def written(self, stored: bytes, now_us: int) -> Written | None:
        """Return what was written to a key, None if nothing was."""
        self._notice()
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
        self._notice()
        if not self._is_sorted:
            self._sorted.sort()
            self._is_sorted = True
        begin = bisect_left(self._sorted, first)
        end = len(self._sorted) if last is None else bisect_left(self._sorted, last)
        return self._sorted[begin:end]

    def ranges_in(self, first: bytes, last: bytes | None) -> list[tuple[bytes, bytes | None]]:
        """Return the parts of [first, last) that were deleted as ranges."""
        self._notice()
        parts = []
        for _, start, end in self._ranges:
            lower = max(first, start)
            upper = end if last is None else last if end is None else min(last, end)
            if upper is None or lower < upper:
                parts.append((lower, upper))
        return parts

    def touches(self, stored: bytes) -> bool:
        """Tell whether a key was written to, singly or in a range."""
        self._notice()
        return stored in self._by_key or any(
            first <= stored and (last is None or stored < last) for _, first, last in self._ranges
        )
