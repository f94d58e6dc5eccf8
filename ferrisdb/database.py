"""The face of an attached database: opening it, and what its user holds in hand.

`Database` adds to the attached handle what is rare or convenient: scans, snapshots, batches, and
the mapping protocol. What it is to be attached lies in attached.py, reads and single writes in
the kernel.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ferrisdb import checkpoint as checkpoints
from ferrisdb import statistics
from ferrisdb.attached import Attached
from ferrisdb.batch import WriteBatch
from ferrisdb.errors import (
    ConflictError,
    Error,
    NotADatabaseError,
    UnavailableError,
    UsageError,
    WrongTypeError,
)
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.ring import DURABILITIES
from ferrisdb.kernel.rows import bounds, open_rows
from ferrisdb.shm.control_request import CompactRange, encode_control
from ferrisdb.snapshot import Snapshot

if TYPE_CHECKING:
    from ferrisdb.engine.report import Report

_MISSING: Any = object()

T = TypeVar("T")


def open_database(
    path: str | os.PathLike[str],
    *,
    start: bool = True,
    timeout: float = 5.0,
    durability: str = "sync",
) -> Database:
    """Attach to the database in directory `path`.

    Shape:   start, whether to start a service in the background if none runs (and to make the
             directory a database if it is empty or absent); timeout, seconds that any wait of
             this handle may last; durability, default of its writes: "sync", "os" or "async".
    Raises:  NotADatabaseError, FormatTooNewError, AccessError, CorruptionError,
             SharedMemoryFullError, UnavailableError.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise WrongTypeError(f"path is a directory's name, not {type(path).__name__}")
    name = os.fspath(path)
    if not isinstance(name, str):
        raise WrongTypeError("path is text, not bytes: use os.fsdecode")
    if os.path.exists(name) and not os.path.isdir(name):
        raise NotADatabaseError(f"{name} is no directory: a database is one")
    if not isinstance(timeout, (int, float)) or not 0 < timeout < 1e6:
        raise UsageError(f"timeout is a number of seconds above 0, not {timeout!r}")
    if durability not in DURABILITIES:
        raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
    return Database(os.path.abspath(name), start=start, timeout=timeout, durability=durability)


class Database(Attached, MutableMapping[bytes, bytes]):
    """An open database: a mapping from bytes to bytes, ordered by key.

    Thread-safe. Pickles as path and options, and attaches anew where it is unpickled. In a forked
    child it attaches anew at its first use there.
    """

    # Reading

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
        """Return an iterator over (key, value) in key order, or over keys.

        Shape:   [start, end) in both directions; prefix excludes start and end; limit, rows at
                 most. What it shows is the database at the moment of the call.
        Raises:  WrongTypeError, UsageError, TooManySnapshotsError, UnavailableError;
                 SnapshotTooOldError, CorruptionError while iterating.
        """
        return open_rows(self, None, start, end, prefix, limit, reverse, keys_only)

    def snapshot(self) -> Snapshot:
        """Return the database as it is now, to be read any number of times; close it after use."""
        return Snapshot(self, self.take_pin())

    def stats(self) -> dict[str, Any]:
        """Return the figures of the database, its memory and its clients.

        Of each client, what it pins: `pinned_bytes` are those that would be freed without it, or
        without it and others that pin the same.
        """
        self.enter_call()
        # Let go first: what asks is not to show among those that pin.
        with self.snapshot() as snap:
            version = snap.version
        assert self._service is not None
        return statistics.collect(self, self._service, version)

    def verify(self) -> Report:
        """Check every checksum and every invariant of the database, while it is in use.

        Returns: what was found, damage included; nothing is raised for that.
        Raises:  UnavailableError, StorageError, FormatTooNewError: it could not be checked.
        Cost:    reads every file once, and holds a snapshot meanwhile.
        """
        # Imported here: who only reads and writes doesn't pay for the engine.
        from ferrisdb.verification import verify_attached

        return verify_attached(self)

    # Writing

    def write_batch(self, *, durability: str | None = None) -> WriteBatch:
        """Return a batch; as a context manager it commits at exit unless an exception passes."""
        return WriteBatch(self, self.durability_of(durability))

    def durability_of(self, durability: str | None) -> int:
        """Return the number of a durability's name; None is the handle's default."""
        if durability is None:
            return self.default_durability
        code = DURABILITIES.get(durability)
        if code is None:
            raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
        return code

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
        code = self.durability_of(durability)
        rows = iter(pairs.items() if isinstance(pairs, Mapping) else pairs)
        batch = BatchBuffer(self.prefix)
        # Half a memtable, less what the pair that passes the limit may take.
        bytes_max = self._control_word(layout.CONTROL_BATCH_BYTES_MAX) // 2
        done, count = False, 0
        while not done:
            batch.clear()
            done = batch.put_pairs(rows, bytes_max)
            if len(batch):
                self.commit(batch, code)
                count += len(batch)
        return count

    def delete_range(
        self, start: bytes | None, end: bytes | None, *, durability: str | None = None
    ) -> None:
        """Remove every key in [start, end), at the cost of one write; None is no bound."""
        batch = BatchBuffer(self.prefix)
        batch.delete_range(start, end)
        if len(batch):
            self.commit(batch, self.durability_of(durability))

    def flush(self) -> None:
        """Wait until all earlier writes of this process are durable as by "sync".

        Raises:  the error of an asynchronous write; StorageError; CommitUnknownError.
        """
        self.drain()
        self.commit(BatchBuffer(self.prefix), layout.DURABILITY_SYNC)

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
        if last is not None and first >= last:
            return
        give_up_ns = None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
        ops = encode_control(CompactRange(first, last))
        while True:
            generation = self.generation
            ticket = self.ask(ops)
            wait_s = 0.001
            while self.generation == generation:
                done = self._control_word(layout.CONTROL_COMPACTED) >= ticket
                if done and self._control_word(layout.CONTROL_GENERATION) == generation:
                    return
                now_ns = time.monotonic_ns()
                if give_up_ns is not None and now_ns > give_up_ns:
                    raise UnavailableError("the compaction goes on behind the time-out")
                time.sleep(wait_s)
                wait_s = min(wait_s * 2, 0.05)
                self.enter_call()
                self._check_service(now_ns + self.timeout_ns)

    def checkpoint(
        self, directory: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Make `directory` a copy of the database, which opens as one of its own.

        It holds one moment: everything acknowledged before the call, this process's asynchronous
        writes among it, and of what others write meanwhile whole batches, in order. Tables are
        linked, so it costs little space until the database has changed; on another file system
        they are copied. Settings (ferrisdb.toml) stay behind.

        Shape:   directory, absent or empty, its parent there; timeout, seconds to take at most,
                 None for as long as it takes.
        Raises:  UsageError, it exists and is not empty, or lies in the database; UnavailableError
                 at the time-out; StorageError (DiskFullError among them): nothing is there then.
        Durable: yes.
        Cost:    reads and writes what the memtables hold; readers and writers go on.
        """
        self.enter_call()
        self.drain()
        checkpoints.make_checkpoint(
            self, directory, None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
        )

    def __reduce__(self) -> tuple[Callable[..., Database], tuple[object, ...]]:
        return _reopen, (self.path, self._start, self._timeout, self._durability)

    def __repr__(self) -> str:
        state = "closed " if self._closed else ""
        return f"<{state}ferrisdb.Database {self.path!r}>"

    # The mapping protocol

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
                raise KeyError("popitem: the database is empty")
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
        deadline_ns = self._deadline()
        wait_s = 0.0005
        while True:
            batch = BatchBuffer(self.prefix)
            pin = self.take_pin()
            try:
                value, expires_us = pin.entry(key)
                result = decide(value, batch)
                if not len(batch):
                    return result
                stored = self.prefix + key
                self.commit(
                    batch,
                    self.default_durability
                    if self.default_durability != layout.DURABILITY_ASYNC
                    else layout.DURABILITY_OS,
                    generation=pin.generation,
                    snapshot_seq=pin.seq,
                    checks=len(stored).to_bytes(4, "little") + stored,
                    expiry_us=expires_us,
                )
                return result
            except Error as error:
                if not isinstance(error, ConflictError) and error.wire_code != 41:
                    raise
                if time.monotonic_ns() > deadline_ns:
                    raise
            finally:
                pin.release()
            time.sleep(random.random() * wait_s)
            wait_s = min(wait_s * 2, 0.05)


def _reopen(path: str, start: bool, timeout: float, durability: str) -> Database:
    return open_database(path, start=start, timeout=timeout, durability=durability)
