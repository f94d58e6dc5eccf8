"""The attached handle: a database as its user's process sees it.

`Database` adds to the kernel's `Attachment` what is rare or convenient: attaching and finding the
service again, opening versions, scans, snapshots, batches, and the mapping protocol. Reads and
single writes run in the kernel without a Python frame. Long because it is the one face that
people see: what does not belong to it (scans, snapshots, batches, figures) lies beside it.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TypeVar, overload

from ferrisdb import service as services
from ferrisdb import statistics
from ferrisdb.batch import WriteBatch
from ferrisdb.errors import (
    BatchTooLargeError,
    BusyError,
    ClosedError,
    ConflictError,
    DiskFullError,
    Error,
    NotADatabaseError,
    ProtocolError,
    SharedMemoryFullError,
    StorageError,
    UnavailableError,
    UsageError,
    WrongTypeError,
    by_wire_code,
)
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.client import Attachment
from ferrisdb.kernel.commit import HISTORY_CODE
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.readview import ReadView
from ferrisdb.kernel.table import Table
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.scan import bounds, scan_rows
from ferrisdb.service import Service
from ferrisdb.shm import version_page
from ferrisdb.shm.control_request import CompactRange, encode_control
from ferrisdb.shm.names import large_number
from ferrisdb.shm.registry import ClientRegistration
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.snapshot import Snapshot

_WIPE_ON_FORK = 18
_EPOCH_RETIRED = 1 << 63
_LOOK_NS = 15_000_000
_DURABILITY_CODES = {
    "async": layout.DURABILITY_ASYNC,
    "os": layout.DURABILITY_OS,
    "sync": layout.DURABILITY_SYNC,
}
_MISSING: Any = object()

T = TypeVar("T")

_handles: weakref.WeakSet[Database] = weakref.WeakSet()


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
    if durability not in _DURABILITY_CODES:
        raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
    return Database(os.path.abspath(name), start=start, timeout=timeout, durability=durability)


class Database(Attachment, MutableMapping[bytes, bytes]):
    """An open database: a mapping from bytes to bytes, ordered by key.

    Thread-safe. Pickles as path and options, and attaches anew where it is unpickled. In a forked
    child it attaches anew at its first use there.
    """

    def __init__(self, path: str, *, start: bool, timeout: float, durability: str) -> None:
        """Attach; use `ferrisdb.open`."""
        self.path = path
        self._start = start
        self._timeout = timeout
        self._durability = durability
        self._closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._service: Service | None = None
        self._registration: ClientRegistration | None = None
        self._tables: dict[int, Table] = {}
        self._memtables: dict[int, Memtable] = {}
        self._looked_ns = 0
        self._large = itertools.count(1)
        self._large_segments: dict[int, Segment] = {}
        self._large_lock = threading.Lock()
        self.timeout_ns = int(timeout * 1e9)
        self.default_durability = _DURABILITY_CODES[durability]
        self.cpu_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self._set_prefix(DEFAULT_PREFIX)
        self._attach(self._deadline())
        _handles.add(self)

    # Attaching

    def _deadline(self) -> int:
        return time.monotonic_ns() + self.timeout_ns

    def _attach(self, deadline_ns: int) -> None:
        found = services.find_or_start(self.path, start=self._start, deadline_ns=deadline_ns)
        client_id = os.urandom(16)
        registration = ClientRegistration.claim(self.path, found.names, client_id)
        alive = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            alive.madvise(_WIPE_ON_FORK)
        except (OSError, ValueError, AttributeError):
            pass  # not Linux: _forget_parent does it
        self._service = found
        self._registration = registration
        self._tables, self._memtables = {}, {}
        self._set_control(found.control.segment.view, found.doorbell.view)
        self._set_segment(registration.segment.view, alive)
        try:
            self._agree(found.generation)
            self._await_served(deadline_ns)
        except BaseException:
            self._detach()
            registration.release()
            raise

    def _await_served(self, deadline_ns: int) -> None:
        """Wait until the coordinator serves our ring, following it over restarts."""
        assert self._registration is not None
        view = self._registration.segment.view
        while self._attached_generation() != self.generation:
            word = layout.load32(view, layout.CLIENT_WAKE)
            if self._attached_generation() == self.generation:
                break
            layout.futex_wait(view, layout.CLIENT_WAKE, word, 5_000_000)
            self._check_service(deadline_ns)
            if time.monotonic_ns() > deadline_ns:
                raise UnavailableError(
                    f"the service for {self.path} did not take this process on in time"
                )

    def _check_service(self, deadline_ns: int) -> None:
        """See that a coordinator serves us; agree to a new one; find or start one."""
        now_ns = time.monotonic_ns()
        with self._lock:
            retired = self._control_word(layout.CONTROL_EPOCH) >= _EPOCH_RETIRED
            generation = self._control_word(layout.CONTROL_GENERATION)
            if not retired and generation == self.generation:
                if now_ns - self._looked_ns < _LOOK_NS:
                    return
                self._looked_ns = now_ns
            found = services.find(self.path)
            if found is None:
                if self._closed:
                    raise ClosedError("this handle is closed: open the database again")
                if now_ns > deadline_ns:
                    return
                found = self._wait_for_service(deadline_ns)
                if found is None:
                    return
            self._join(found)

    def _wait_for_service(self, deadline_ns: int) -> Service | None:
        try:
            return services.find_or_start(self.path, start=self._start, deadline_ns=deadline_ns)
        except UnavailableError:
            if time.monotonic_ns() > deadline_ns:
                return None  # who waits knows what its time-out means: for a commit, unknown
            if self._start:
                raise
            # Somebody else is to start one: look again until the deadline.
            time.sleep(0.01)
            return None

    def _join(self, found: Service) -> None:
        """Go on under the coordinator that runs now."""
        retired = self._control_word(layout.CONTROL_EPOCH) >= _EPOCH_RETIRED
        if retired or self._service is None or found.names.nonce != self._service.names.nonce:
            self._service = found
            self._set_control(found.control.segment.view, found.doorbell.view)
            self._memtables = {}
            self._set_view(None)
        if found.generation != self.generation:
            self._agree(found.generation)

    def _revive(self) -> None:
        """Attach again in a forked child; refuse a closed handle."""
        if self._closed or self._pid == os.getpid():
            raise ClosedError("this handle is closed: open the database again")
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._large_segments = {}
        self._large_lock = threading.Lock()
        self._attach(self._deadline())

    # Versions

    def _refresh(self) -> None:
        """Open the current version, or fragment range tombstones that have come to it."""
        deadline_ns = self._deadline()
        while True:
            if not self._is_alive():
                raise ClosedError("this handle was closed by another thread")
            epoch = self._control_word(layout.CONTROL_EPOCH)
            if epoch >= _EPOCH_RETIRED:
                self._check_service(deadline_ns)
                if time.monotonic_ns() > deadline_ns:
                    raise UnavailableError(
                        f"no service runs for {self.path}: run `ferrisdb serve {self.path}`"
                    )
                continue
            index = self.hold_epoch(epoch)
            if not index:
                continue
            try:
                if self.view is not None and self.view.epoch == epoch:
                    self.view.refresh_ranges()
                    return
                view = self._open_view(epoch)
            finally:
                self.release_epoch(index)
            if view is not None:
                self._set_view(view)
                return
            if time.monotonic_ns() > deadline_ns:
                raise UnavailableError(f"the version {epoch} of {self.path} can't be opened")

    def _open_view(self, epoch: int) -> ReadView | None:
        """Map what version `epoch`, which is pinned, names; None if it has gone meanwhile."""
        assert self._service is not None
        names = self._service.names
        segment = Segment.open(names.name("v", epoch), writable=False)
        if segment is None:
            return None
        page = version_page.decode(segment.view)
        segment.close()
        memtables: dict[int, Memtable] = {}
        for ref in page.memtables:
            known = self._memtables.get(ref.number)
            if known is None:
                mapped = Segment.open(
                    names.name("m", ref.number), writable=False, bytes_expected=ref.nbytes
                )
                if mapped is None:
                    return None
                known = Memtable(mapped.view)
            memtables[ref.number] = known
        tables: dict[int, Table] = {}
        directory = DIR(self.path)
        for table in page.tables:
            opened = self._tables.get(table.number)
            if opened is None:
                path = directory.file(FileKind.TABLE, table.number)
                opened = Table(path, path=path, file_number=table.number)
            tables[table.number] = opened
        self._memtables, self._tables = memtables, tables
        return ReadView(epoch, page, list(memtables.values()), list(tables.values()))

    # Errors

    def _status_error(self, code: int, detail: int) -> Error:
        """Make the error of an answer's wire code."""
        del detail
        if code == BusyError.wire_code:
            return BusyError(
                "writes are stalled behind the flush and the time-out ran out: nothing was"
                " written; try again later"
            )
        if code == DiskFullError.wire_code:
            return DiskFullError(
                28, f"no space for the log of {self.path}: nothing was written; free some space"
            )
        if code == SharedMemoryFullError.wire_code:
            return SharedMemoryFullError(
                28, "no space for a memtable in /dev/shm: nothing was written; enlarge it"
            )
        if code in (ConflictError.wire_code, HISTORY_CODE):
            return ConflictError("a key that was read has changed since: nothing was written")
        if code == BatchTooLargeError.wire_code:
            return BatchTooLargeError("the batch does not fit half a memtable: nothing was written")
        kind = by_wire_code().get(code)
        if kind is None:
            return ProtocolError(f"the coordinator answered with an unknown code {code}")
        text = f"{kind.__doc__ or 'the request was refused'}".splitlines()[0]
        return kind(0, text) if issubclass(kind, StorageError) else kind(text)

    # Large batches

    def _large_create(self, ops: bytes) -> int:
        """Put a batch's operations into a segment of their own; returns its number."""
        assert self._service is not None and self._registration is not None
        number = large_number(self._registration.index, next(self._large))
        # One at a time: the client segment has one word to name it by.
        self._large_lock.acquire()
        try:
            # Named before it is made, so that the coordinator can remove it behind our death.
            own = self._registration.segment.view
            layout.store64(own, layout.CLIENT_LARGE, number)
            segment = Segment.create(self._service.names.name("x", number), len(ops))
        except BaseException:
            self._large_lock.release()
            raise
        with segment.view as view:
            view[:] = ops
        self._large_segments[number] = segment
        return number

    def _large_drop(self, number: int) -> None:
        segment = self._large_segments.pop(number, None)
        if segment is not None:
            unlink_segment(segment.name)
            segment.close()
        if self._registration is not None and self._is_alive():
            layout.store64(self._registration.segment.view, layout.CLIENT_LARGE, 0)
        self._large_lock.release()

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
        return scan_rows(
            self,
            self.take_pin,
            start=start,
            end=end,
            prefix=prefix,
            limit=limit,
            reverse=reverse,
            keys_only=keys_only,
        )

    def snapshot(self) -> Snapshot:
        """Return the database as it is now, to be read any number of times; close it after use."""
        return Snapshot(self, self.take_pin())

    def stats(self) -> dict[str, Any]:
        """Return the figures of the database, its memory and its clients."""
        self.enter_call()
        assert self._service is not None
        with self.snapshot() as snap:
            return statistics.collect(self, self._service, snap.version)

    # Writing

    def write_batch(self, *, durability: str | None = None) -> WriteBatch:
        """Return a batch; as a context manager it commits at exit unless an exception passes."""
        return WriteBatch(self, self.durability_of(durability))

    def durability_of(self, durability: str | None) -> int:
        """Return the number of a durability's name; None is the handle's default."""
        if durability is None:
            return self.default_durability
        code = _DURABILITY_CODES.get(durability)
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
        first, last = bounds(self.prefix, start, end, None)
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

    # Closing

    def close(self) -> None:
        """Wait for asynchronous writes, then detach; idempotent.

        Raises:  the error of an asynchronous write; the handle is closed nevertheless.
        """
        if self._closed or self._pid != os.getpid():
            self._closed = True
            return
        try:
            if self._is_alive():
                self.drain()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        _handles.discard(self)
        if self._pid != os.getpid():
            return
        self._detach()
        self._memtables, self._tables = {}, {}
        registration, self._registration = self._registration, None
        if registration is not None:
            registration.release()
            try:
                self._call_attention()
            except Error:
                pass

    def __del__(self) -> None:
        if getattr(self, "_closed", True) is False:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

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

    def check_service(self, deadline_ns: int) -> None:
        """Find out whether the service lives; find or start one if it doesn't."""
        self._check_service(deadline_ns)

    def enter_call(self) -> None:
        """Raise what any call raises on a closed handle; attach again in a forked child."""
        if not self._is_alive():
            self._revive()


def _reopen(path: str, start: bool, timeout: float, durability: str) -> Database:
    return open_database(path, start=start, timeout=timeout, durability=durability)


def _forget_parent() -> None:
    # Where fork doesn't wipe pages: what the parent's handles hold is not the child's.
    for handle in list(_handles):
        handle._detach()


os.register_at_fork(after_in_child=_forget_parent)
