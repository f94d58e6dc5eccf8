"""The attached handle below its face: find the service, follow it, open its versions, let go.

`Attached` gives the kernel's `Attachment` what it calls back for, rarely: attaching, also in a
forked child and to the next generation; mapping a new version; the typed error of an answer; a
segment for a batch that does not fit the ring. Reads and single writes run in the kernel without
a Python frame.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import time
import weakref

from ferrisdb import service as services
from ferrisdb.errors import (
    BatchTooLargeError,
    BusyError,
    ClosedError,
    ConflictError,
    DiskFullError,
    Error,
    HistoryGoneError,
    ProtocolError,
    SharedMemoryFullError,
    SnapshotTooOldError,
    StorageError,
    UnavailableError,
    UsageError,
    by_wire_code,
)
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.kernel.client import Attachment, Pin
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.kernel.readview import ReadView
from ferrisdb.kernel.ring import DURABILITIES
from ferrisdb.kernel.table import Table
from ferrisdb.seams import storage_error
from ferrisdb.service import Service
from ferrisdb.shm import version_page
from ferrisdb.shm.control_request import CompactRange, encode_control
from ferrisdb.shm.names import large_number
from ferrisdb.shm.registry import ClientRegistration
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.shm.version_page import TableRef

_WIPE_ON_FORK = 18
_EPOCH_RETIRED = 1 << 63
_EXPIRED = (1 << 64) - 1
_LOOK_NS = 15_000_000
_ORDER_NS = 20_000_000

_handles: weakref.WeakSet[Attached] = weakref.WeakSet()


class Attached(Attachment):
    """A process's hold on a database: its registration, its service, its mapped version."""

    def __init__(self, path: str, *, start: bool, timeout: float, durability: str) -> None:
        """Attach; as `ferrisdb.open`, whose checks have been made."""
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
        #: How transactions of this handle have fared of late.
        self.timeout_ns = int(timeout * 1e9)
        self.default_durability = DURABILITIES[durability]
        self.cpu_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self._attach(self.deadline_ns())
        _handles.add(self)

    # Attaching

    def deadline_ns(self, timeout: float | None = None) -> int:
        """Return when a call that begins now gives up, on the monotonic clock.

        Shape:   timeout, seconds; None: the handle's.
        """
        return time.monotonic_ns() + (self.timeout_ns if timeout is None else int(timeout * 1e9))

    def _attach(self, deadline_ns: int) -> None:
        found = services.find_or_start(self.path, start=self._start, deadline_ns=deadline_ns)
        client_id = os.urandom(16)
        try:
            registration = ClientRegistration.claim(self.path, found.names, client_id)
        except Error:
            raise
        except OSError as error:
            raise storage_error(error, self.path) from error
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
        self._attach(self.deadline_ns())

    # Versions

    def _refresh(self) -> None:
        """Open the current version, or fragment range tombstones that have come to it."""
        deadline_ns = self.deadline_ns()
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
        still = {ref.number for ref in page.tables}
        self._tables = {n: table for n, table in self._tables.items() if n in still}
        self._memtables = memtables
        return ReadView(epoch, page, list(memtables.values()), self._open_table, self._tables)

    def _open_table(self, ref: TableRef) -> Table:
        """Open a table of a version that is pinned; later versions find it in `_tables`."""
        path = DIR(self.path).file(FileKind.TABLE, ref.number)
        self._tables[ref.number] = table = Table(path, path=path, file_number=ref.number)
        return table

    def _order(self, pin: Pin, own: bool) -> Pin:
        """Return a pin to whose sequence the memtables are in order, for a scan.

        The order comes microseconds behind a commit, unless the coordinator died in between: then
        this finds or starts the next one.
        Shape:  own, whether the pin is the scan's, which may be dropped for one of the next
                coordinator.
        Raises: UnavailableError at the time-out; SnapshotTooOldError, not own, if it restarts.
        """
        deadline_ns = self.deadline_ns()
        while True:
            if pin.wait_ordered(_ORDER_NS):
                if not own:
                    return pin
                try:
                    # It may have been the next coordinator that completed the order.
                    pin.verify()
                    return pin
                except SnapshotTooOldError:
                    pin.release()
                    pin = self.take_pin()
            elif own:
                pin.release()
                self._check_service(deadline_ns)
                pin = self.take_pin()
            else:
                self._check_service(deadline_ns)
                pin.verify()
            if time.monotonic_ns() > deadline_ns:
                if own:
                    pin.release()
                raise UnavailableError("the service died between a commit and its order: try again")

    # Errors

    def _status_error(self, code: int, detail: int) -> Error:
        """Make the error of an answer's wire code."""
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
        if code in (ConflictError.wire_code, HistoryGoneError.wire_code):
            conflict = ConflictError if code == ConflictError.wire_code else HistoryGoneError
            error = conflict("a key that was read has changed since: nothing was written")
            error.check = detail if detail < _EXPIRED else -1
            return error
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

    @property
    def service(self) -> Service:
        """The service that it is attached to, as it was found last."""
        self.enter_call()
        assert self._service is not None
        return self._service

    @property
    def registration(self) -> ClientRegistration:
        """Its place among the attached clients."""
        self.enter_call()
        assert self._registration is not None
        return self._registration

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def options(self) -> tuple[str, bool, float, str]:
        """What it was made with: path, start, timeout, durability."""
        return self.path, self._start, self._timeout, self._durability

    @property
    def batch_bytes_max(self) -> int:
        """Most bytes of operations that one commit may have: half a memtable."""
        return self._control_word(layout.CONTROL_BATCH_BYTES_MAX)

    def durability_of(self, durability: str | None) -> int:
        """Return the number of a durability's name; None is the handle's default."""
        if durability is None:
            return self.default_durability
        code = DURABILITIES.get(durability)
        if code is None:
            raise UsageError(f"durability is 'sync', 'os' or 'async', not {durability!r}")
        return code

    def ask_compaction(self, first: bytes, last: bytes | None) -> int:
        """Have [first, last) of stored keys compacted soon; returns the ticket of that."""
        return self.ask(encode_control(CompactRange(first, last)))

    def compact(self, first: bytes, last: bytes | None, timeout: float | None) -> None:
        """Have [first, last) of stored keys compacted; None is no bound. As `Keyspace.compact`."""
        if last is not None and first >= last:
            return
        give_up_ns = None if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
        while True:
            generation = self.generation
            ticket = self.ask_compaction(first, last)
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

    def check_service(self, deadline_ns: int) -> None:
        """Find out whether the service lives; find or start one if it doesn't."""
        self._check_service(deadline_ns)

    def ordered_pin(self) -> Pin:
        """Return a new pin to whose sequence the memtables are in order; as for a scan."""
        return self._order(self.take_pin(), True)

    def enter_call(self) -> None:
        """Raise what any call raises on a closed handle; attach again in a forked child."""
        if not self._is_alive():
            self._revive()

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


def _forget_parent() -> None:
    # Where fork doesn't wipe pages: what the parent's handles hold is not the child's.
    for handle in list(_handles):
        handle._detach()


os.register_at_fork(after_in_child=_forget_parent)
