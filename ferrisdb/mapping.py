"""The mapping protocol over one key space: what a dict can do, and atomically where it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ferrisdb.backoff import Backoff
from ferrisdb.errors import ConflictError, SnapshotTooOldError, WrongTypeError
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.rows import RangedSpace
from ferrisdb.read_set import key_check
from ferrisdb.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

_MISSING: Any = object()

T = TypeVar("T")


class SpaceMapping(RangedSpace, MutableMapping[bytes, bytes]):
    """One key space as a mapping from bytes to bytes, ordered by key."""

    def snapshot(self) -> Snapshot:
        """Return the database as it is now, to be read any number of times; close it after use."""
        self.check_lives()
        return Snapshot(self, self.attached.take_pin())

    def put_many(
        self,
        pairs: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]],
        *,
        durability: str | None = None,
    ) -> int:
        """Set many keys, in as few batches as the limit on batches allows; returns how many.

        Each batch is atomic; an error leaves the batches before it committed.
        Raises:  as `put`; WrongTypeError for a pair that is none, with its batch not written.
        """
        code = self.attached.durability_of(durability)
        rows = iter(pairs.items() if isinstance(pairs, Mapping) else pairs)
        batch = BatchBuffer(self.prefix)
        # Half a memtable, less what the pair that passes the limit may take.
        bytes_max = self.attached.batch_bytes_max // 2
        done, count = False, 0
        while not done:
            batch.clear()
            done = batch.put_pairs(rows, bytes_max)
            if len(batch):
                self.attached.commit(batch, code)
                count += len(batch)
        return count

    def delete_range(
        self, start: bytes | None, end: bytes | None, *, durability: str | None = None
    ) -> None:
        """Remove every key in [start, end), at the cost of one write; None is no bound."""
        batch = BatchBuffer(self.prefix)
        batch.delete_range(start, end)
        if len(batch):
            self.attached.commit(batch, self.attached.durability_of(durability))

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        self.pop(key)

    def __len__(self) -> int:
        """Count the keys at a snapshot: O(n). `list(db)` asks for it; `for` and `iter` don't."""
        with self.snapshot() as snap:
            return len(snap)

    def __bool__(self) -> bool:
        return next(self.scan(limit=1, keys_only=True), None) is not None

    def __iter__(self) -> Iterator[bytes]:
        return self.scan(keys_only=True)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @overload
    def pop(self, key: bytes) -> bytes: ...
    @overload
    def pop(self, key: bytes, default: T) -> bytes | T: ...
    def pop(self, key: bytes, default: Any = _MISSING) -> Any:
        """Remove the key and return its value, atomically; if absent, `default` or KeyError."""

        def remove(value: bytes | None, batch: BatchBuffer) -> bytes | None:
            if value is not None:
                batch.delete(key)
            return value

        value = self._change(key, remove)
        if value is not None:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: bytes, default: bytes = b"") -> bytes:
        """Return the key's value; set it to `default` first if it is absent, atomically."""

        def fill(value: bytes | None, batch: BatchBuffer) -> bytes:
            if value is not None:
                return value
            batch.put(key, default)
            return default

        return self._change(key, fill)

    def popitem(self) -> tuple[bytes, bytes]:
        """Remove the first key and return it with its value, atomically; KeyError if empty."""
        while True:
            key = next(self.scan(limit=1, keys_only=True), None)
            if key is None:
                raise KeyError("popitem: nothing is there")
            value = self.pop(key, None)
            if value is not None:
                return key, value

    def update(self, *others: Any, **named: bytes) -> None:
        """Set every key of a mapping or of pairs: one batch per limit on batches."""
        if named:
            raise WrongTypeError("keys are bytes: pass a mapping or pairs, not keywords")
        for other in others:
            self.put_many(other)

    def clear(self) -> None:
        """Remove every key, at the cost of one write."""
        self.delete_range(None, None)

    def _change(self, key: bytes, decide: Callable[[bytes | None, BatchBuffer], T]) -> T:
        """Read a key, decide, and commit only if it has not changed since; again if it has."""
        backoff = Backoff(self.attached.deadline_ns())
        durability = self.attached.default_durability
        if durability == layout.DURABILITY_ASYNC:
            durability = layout.DURABILITY_OS
        while True:
            batch = BatchBuffer(self.prefix)
            self.check_lives()
            pin = self.attached.take_pin()
            try:
                value, expires_us = self.entry_at(pin, key)
                result = decide(value, batch)
                if len(batch):
                    self.attached.commit(
                        batch,
                        durability,
                        generation=pin.generation,
                        snapshot_seq=pin.seq,
                        checks=key_check(self.prefix + key),
                        expiry_us=expires_us,
                    )
                return result
            except (ConflictError, SnapshotTooOldError) as error:
                lost = error
            finally:
                pin.release()
            backoff.after(lost)
