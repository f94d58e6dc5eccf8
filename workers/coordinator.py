"""Run one database: recover it, commit for everyone, rotate, install flushes, publish versions.

`Coordinator` carries out what `engine/control.py` decides and what the commit loop asks for. It
gets its files, clock and randomness from outside, and its compactor through a factory, so that
the same class runs in one process under the simulation.

Order at the start: LOCK, recovery into new synced files, the new generation on the control page,
the first version, then clients. Order at a clean stop: rings served, WAL synced, epoch retired,
names removed, LOCK let go.

Owner: the main thread of the coordinator process.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from ferrisdb.engine import control as ctl
from ferrisdb.engine.open import create_database, open_state
from ferrisdb.engine.recover import RecoveredLogs, recover_logs
from ferrisdb.engine.retire import Pins
from ferrisdb.engine.wal_files import OpenWal, WalOwner, activate
from ferrisdb.errors import Error, StorageError, by_wire_code
from ferrisdb.exit_codes import ExitCode
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.format.wal import FIRST_RECORD_OFFSET, Opening
from ferrisdb.kernel import layout
from ferrisdb.kernel.commit import CommitLoop, Reason
from ferrisdb.kernel.memtable import Memtable, MemtableWriter
from ferrisdb.options import Options
from ferrisdb.seams import Clock, FileSystem, Rng
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.shm.version_page import MemtableRef
from ferrisdb.workers.children import Died
from ferrisdb.workers.messages import (
    Answer,
    CompactorOptions,
    Failed,
    Flushed,
    FlushMemtable,
    Prepared,
    PrepareMemtable,
    Request,
)
from ferrisdb.workers.ports import Ports
from ferrisdb.workers.publisher import Publisher

_log = logging.getLogger("ferrisdb.coordinator")

TICK_NS = 100_000_000
SYNC_BEHIND_BYTES = 8 << 20
FLUSH_AT_STOP_BYTES = 8 << 20
STOP_NS_MAX = 8_000_000_000
MANIFEST_ROTATE_BYTES = 1 << 20


class CompactorPort(Protocol):
    """A compactor, as the coordinator sees it (children.CompactorProcess)."""

    def send(self, request: Request) -> None:
        """Give it a request."""

    def stop(self, timeout_s: float) -> None:
        """Have it leave."""

    def bury(self) -> int | None:
        """Take leave of one that died."""


class CompactorFactory(Protocol):
    """Starts a compactor."""

    def __call__(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: queue.SimpleQueue[Answer | Died],
        ring: Callable[[], None],
    ) -> CompactorPort:
        """Start it; its answers go to the inbox, and `ring` is called behind each."""


class Frozen:
    """A memtable's segment and kernel handle."""

    __slots__ = ("number", "segment", "table")

    def __init__(self, number: int, segment: Segment, table: Memtable) -> None:
        self.number = number
        self.segment = segment
        self.table = table

    def apply_records(self, buffer: bytes, start: int, end: int) -> int:
        """Replay, for recovery (engine.recover.ReplayTarget)."""
        if not isinstance(self.table, MemtableWriter):
            raise TypeError("only a writer takes records")
        return int(self.table.apply_records(buffer, start, end))

    def ref(self) -> MemtableRef:
        """Return how a version page names it."""
        return MemtableRef(self.number, self.segment.nbytes, self.table.first_seq)

    def close(self) -> None:
        """Unmap it."""
        self.table.close()
        self.segment.close()


class Coordinator:
    """One running database."""

    def __init__(
        self,
        directory: str,
        options: Options,
        *,
        fs: FileSystem,
        clock: Clock,
        rng: Rng,
        compactor: CompactorFactory,
        background_sync: bool = True,
    ) -> None:
        """Recover the database and publish it; the caller holds LOCK.

        Raises: NotADatabaseError, FormatTooNewError, CorruptionError, StorageError,
                SharedMemoryFullError: nothing was lost or published.
        """
        self.options = options
        self._dir = DIR(directory)
        self._fs, self._clock, self._rng = fs, clock, rng
        self._make_compactor = compactor
        self._background_sync = background_sync
        self._inbox: queue.SimpleQueue[Answer | Died] = queue.SimpleQueue()
        self._compactor: CompactorPort | None = None
        self._exit: ExitCode | None = None
        self._sync_thread: threading.Thread | None = None
        self._sync_failed = False
        self._synced_at_ns = 0
        self._next_tick_ns = 0
        self._recyclable: list[int] = []
        self._making: int | None = None
        create_database(fs, directory, clock, rng)
        state = open_state(fs, directory)
        for name in state.moved_aside:
            _log.warning("moved aside to %s/lost: %s", directory, name)
        self._database_id = state.database_id
        self._version = state.version
        self._names = SegmentNames.load_or_create(directory, state.database_id)
        self._open_control()
        recovered = self._recover(state)
        self._start(recovered)

    # Starting

    def _open_control(self) -> None:
        # The control page outlives generations: attached processes keep reading through it.
        names, nbytes = self._names, self.options.memtable_bytes
        self._doorbell_name, control_name = names.name("d", 0), names.name("k", 0)
        page = Segment.open(control_name, writable=True)
        bell = Segment.open(self._doorbell_name, writable=True)
        self.control: ControlPage | None = None
        if page is not None and bell is not None:
            try:
                found = ControlPage(page)
                if found.database_id == self._database_id and not found.is_retired:
                    self.control = found
            except Error:
                _log.warning("the control page of an earlier run is damaged: making a new one")
        fresh = self.control is None
        if fresh:
            names.sweep()
            names.record(control_name)
            names.record(self._doorbell_name)
            unlink_segment(control_name)
            unlink_segment(self._doorbell_name)
            bell = Segment.create(self._doorbell_name, layout.DOORBELL_BYTES)
            self.control = ControlPage.format(
                Segment.create(control_name, layout.CONTROL_BYTES),
                database_id=self._database_id,
                memtable_bytes=nbytes,
                batch_bytes_max=nbytes // 2,
            )
        assert bell is not None
        self._bell = bell
        self.page = self.control
        assert self.page is not None
        self.page.state = layout.STATE_STARTING
        self.page.memtable_bytes = nbytes
        self.page.batch_bytes_max = nbytes // 2
        self.page.coordinator_pid = os.getpid()
        self._publisher = Publisher(self._dir, self._fs, names, self.page)
        keep = {control_name, self._doorbell_name}
        self._publisher.inherit([] if fresh else [n for n in names.recorded if n not in keep])

    def _recover(self, state: object) -> RecoveredLogs[Frozen]:
        nbytes = self.options.memtable_bytes
        recovered = recover_logs(
            self._fs,
            state,  # type: ignore[arg-type]  # open_state's result, passed through
            # Snapshots of an earlier generation are refused, so no judgement asks how far back a
            # recovered memtable's history reaches.
            make_memtable=lambda number: self._new_memtable(number, 1),
            wal_bytes=nbytes + nbytes // 4,
            clock=self._clock,
            rng=self._rng,
            generation=self.page.generation + 1,
        )
        if recovered.dropped_bytes:
            _log.info(
                "torn tail: %d bytes behind the last whole group dropped", recovered.dropped_bytes
            )
        return recovered

    def _start(self, recovered: RecoveredLogs[Frozen]) -> None:
        self.generation = recovered.generation
        self._manifest = recovered.manifest
        self._owner = WalOwner(self._database_id, self.generation)
        self._next_file_number = recovered.next_file_number
        self._frozen = [memtable for _, memtable in recovered.memtables[:-1]]
        self._active = recovered.memtables[-1][1]
        self._wal: OpenWal = recovered.wal
        # C2: the new generation before its first commit; every snapshot of the old one is over.
        self.page.generation = self.generation
        # The version before its sequence: the old memtables may hold a part of the last group, and
        # who still reads them must not be shown up to its end.
        self._publish()
        self.page.visible_seq = recovered.last_seq
        self.page.ordered_seq = recovered.last_seq
        cpu_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.loop = CommitLoop(
            self.page.segment.view,
            self._bell.view,
            generation=self.generation,
            visible_seq=recovered.last_seq,
            last_time_us=recovered.last_time_us,
            cpu_count=cpu_count,
        )
        self._set_log(self._wal.append_offset)
        self._ports = Ports(
            self._dir.path, self._names, self.loop, self.generation, recovered.outcomes
        )
        self.control_state = ctl.Control(
            frozen_count_max=self.options.frozen_memtable_count_max,
            idle_exit_ns=None
            if self.options.idle_exit_s is None
            else int(self.options.idle_exit_s * 1e9),
        )
        self.page.state = layout.STATE_RUNNING
        self._ports.look()
        self._handle(
            ctl.Started(
                self._clock.monotonic_ns(),
                tuple(m.number for m in self._frozen),
                self._active.number,
            )
        )

    def _new_memtable(self, number: int, first_seq: int) -> Frozen:
        name = self._names.name("m", number)
        self._names.record(name)
        unlink_segment(name)
        segment = Segment.create(name, self.options.memtable_bytes)
        return Frozen(number, segment, MemtableWriter(segment.view, number, first_seq))

    def _set_log(self, synced_to: int) -> None:
        fd = self._wal.file.fileno() if self._background_sync else -1
        writer = self._active.table
        assert isinstance(writer, MemtableWriter)
        self.loop.set_log(
            writer,
            fd,
            salt=self._wal.salt,
            offset=self._wal.append_offset,
            synced_to=synced_to,
            capacity=self._wal.capacity,
            history=[m.table for m in self._frozen],
        )

    def _publish(self) -> None:
        newest_first = [self._active, *reversed(self._frozen)]
        self._publisher.publish([m.ref() for m in newest_first], self._version)

    # Running

    @property
    def exit_code(self) -> ExitCode | None:
        """The code to exit with, once that is decided."""
        return self._exit

    def ring(self) -> None:
        """Make the loop come back soon; any thread."""
        layout.add32(self._bell.view, layout.DOORBELL_ATTENTION, 1)
        layout.add32(self._bell.view, layout.DOORBELL_WORD, 1)
        layout.futex_wake(self._bell.view, layout.DOORBELL_WORD, 1)

    def request_exit(self, code: ExitCode = ExitCode.OK) -> None:
        """Have `run` return; signal handlers call it."""
        if self._exit is None:
            self._exit = code

    def run(self) -> ExitCode:
        """Serve until told to stop or no longer able to; returns the exit code."""
        while self._exit is None:
            self.turn(self._next_tick_ns)
        return self._exit

    def turn(self, deadline_ns: int) -> Reason:
        """Do what comes until the deadline, or until one reason has been dealt with."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._next_tick_ns:
            # Also where groups that need a sync come one behind the other.
            self._next_tick_ns = now_ns + TICK_NS
            self._tick()
        if self.control_state.is_stalled:
            self._serve_stall()
            return Reason.TICK
        reason = Reason(self.loop.run(deadline_ns))
        self._deal_with(reason)
        return reason

    def step(self) -> Reason:
        """Do one thing; for the simulation. IDLE when there is nothing to do."""
        self._take_answers()
        if self.control_state.is_stalled:
            return Reason.IDLE
        reason = Reason(self.loop.step())
        if reason is not Reason.IDLE:
            self._deal_with(reason)
        return reason

    def _deal_with(self, reason: Reason) -> None:
        match reason:
            case Reason.WRITE:
                self._write()
            case Reason.SYNC:
                self._sync()
            case Reason.ROTATE:
                self._handle(ctl.LogFull(self._clock.monotonic_ns()))
            case Reason.LARGE:
                self._ports.fetch_large()
            case Reason.FAILED:
                self._poison(StorageError(self.loop.error_number, "a write to the WAL failed"))
            case Reason.ATTENTION:
                self._ports.look()
                self._take_answers()
            case Reason.TICK:
                self._take_answers()

    def _write(self) -> None:
        try:
            self._wal.file.pwrite(self.loop.group_view(), self.loop.wal_offset)
        except StorageError as error:
            self._poison(error)
            return
        if Reason(self.loop.written()) is Reason.SYNC:
            self._sync()

    def _sync(self) -> None:
        try:
            self._wal.file.datasync()
        except StorageError as error:
            self._poison(error)
            return
        self.loop.synced()

    def _poison(self, error: StorageError) -> None:
        # Never retried: the kernel may have dropped the pages that it could not write. The next
        # start reads what the disk really has.
        _log.critical("stopping, to recover from the log: %s", error)
        self.page.state = layout.STATE_POISONED
        self.loop.poison()
        self.request_exit(ExitCode.STORAGE)

    def _tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._take_answers()
        self._ports.look()
        self._ports.reap()
        self._handle(ctl.Tick(now_ns, self._ports.count))
        if self._background_sync:
            self._sync_behind(now_ns)
        pins = Pins.collect(self._ports.slots())
        for index, slot, epoch in pins.too_old(now_ns, int(self.options.max_snapshot_age_s * 1e9)):
            _log.info("revoked a snapshot of client %d: older than max_snapshot_age", index)
            self._ports.revoke(index, slot, epoch)
        if self._publisher.has_waiting:
            self._publisher.reclaim(pins)

    def _serve_stall(self) -> None:
        """Wait for a memtable; answer Busy, or why there is none, to who can't wait longer."""
        now_ns = self._clock.monotonic_ns()
        full = self.control_state.refusal
        self.page.state = layout.STATE_DISK_FULL if full else layout.STATE_STALLED
        self.loop.serve_stalled(full, now_ns)
        word = layout.load32(self._bell.view, layout.DOORBELL_WORD)
        self._take_answers()
        if self.control_state.is_stalled:
            layout.futex_wait(self._bell.view, layout.DOORBELL_WORD, word, 5_000_000)
            self._tick()
        if not self.control_state.is_stalled:
            self.page.state = layout.STATE_RUNNING

    def _sync_behind(self, now_ns: int) -> None:
        """Make "os" data durable behind the commits, in a thread of its own."""
        loop, wal = self.loop, self._wal
        if self._sync_failed:
            self._poison(StorageError(5, "a background sync of the WAL failed"))
            return
        behind = loop.wal_offset - loop.wal_synced
        due = now_ns - self._synced_at_ns >= self.options.wal_sync_interval_s * 1e9
        busy = self._sync_thread is not None and self._sync_thread.is_alive()
        if busy or not behind or not (due or behind >= SYNC_BEHIND_BYTES):
            return
        self._synced_at_ns = now_ns
        upto = loop.wal_offset

        def sync() -> None:
            try:
                wal.file.datasync()
            except StorageError:
                self._sync_failed = True
                return
            self._inbox.put(_Synced(wal.number, upto))

        self._sync_thread = threading.Thread(target=sync, name="wal-sync", daemon=True)
        self._sync_thread.start()

    # What the compactor says, and what control decides

    def _take_answers(self) -> None:
        while not self._inbox.empty():
            answer = self._inbox.get()
            now_ns = self._clock.monotonic_ns()
            match answer:
                case _Synced():
                    if answer.number == self._wal.number:
                        self.loop.set_synced(answer.upto)
                case Prepared():
                    self._making = None
                    self._handle(ctl.Prepared(now_ns, answer.number))
                case Flushed():
                    self._install(answer.number, answer.table)
                    self._handle(ctl.Flushed(now_ns, answer.number))
                case Failed():
                    self._report_failure(answer)
                    failed = (
                        ctl.PrepareFailed
                        if isinstance(answer.request, PrepareMemtable)
                        else ctl.FlushFailed
                    )
                    self._handle(failed(now_ns, answer.wire_code))
                case Died():
                    code = self._compactor.bury() if self._compactor else None
                    self._compactor = None
                    _log.warning("the compactor died (exit code %s); starting another", code)
                    self._handle(ctl.CompactorDied(now_ns))

    def _report_failure(self, answer: Failed) -> None:
        kind = by_wire_code().get(answer.wire_code, StorageError).__name__
        _log.error(
            "the compactor could not %s: %s: %s; trying again in a second",
            "prepare a memtable" if isinstance(answer.request, PrepareMemtable) else "flush",
            kind,
            answer.text,
        )

    def _handle(self, event: ctl.Event) -> None:
        for action in self.control_state.handle(event):
            match action:
                case ctl.StartCompactor():
                    self._start_compactor()
                case ctl.Prepare():
                    self._prepare()
                case ctl.Flush():
                    self._flush(action.number)
                case ctl.Rotate():
                    self._rotate(action.number)
                case ctl.Exit():
                    if action.code is not ExitCode.OK:
                        _log.critical("giving up: the compactor dies again and again")
                    self.request_exit(action.code)

    def _start_compactor(self) -> None:
        self._compactor = self._make_compactor(
            self._dir.path,
            CompactorOptions(block_bytes=self.options.block_bytes),
            self.generation,
            self._inbox,
            self.ring,
        )
        self._handle(ctl.CompactorReady(self._clock.monotonic_ns()))

    def _send(self, request: Request) -> None:
        assert self._compactor is not None
        self._compactor.send(request)

    def _new_file_number(self) -> int:
        number = self._next_file_number
        self._next_file_number += 1
        return number

    def _prepare(self) -> None:
        nbytes = self.options.memtable_bytes
        # A number is asked for until it succeeds: a file half made is overwritten by the next try.
        if self._making is None:
            self._making = self._new_file_number()
            self._names.record(self._names.name("m", self._making))
        recycle = 0
        while self._recyclable and not recycle:
            candidate = self._recyclable.pop()
            path = self._dir.file(FileKind.WAL, candidate)
            if self._fs.exists(path) and self._fs.size(path) == nbytes + nbytes // 4:
                recycle = candidate
        self._send(
            PrepareMemtable(
                number=self._making,
                segment_bytes=nbytes,
                wal_bytes=nbytes + nbytes // 4,
                base_seq=self.loop.visible_seq,
                recycle_number=recycle,
            )
        )

    def _flush(self, number: int) -> None:
        floor = self._publisher.floor(self._ports.slots)
        self._send(FlushMemtable(number, self._new_file_number(), floor))

    def _rotate(self, number: int) -> None:
        """Freeze the active memtable and go on with the prepared one."""
        self.loop.link_all()
        if self._sync_thread is not None:
            self._sync_thread.join()
        try:
            # L2 of engine/wal_files.py: synced before its successor takes a record.
            self._wal.file.datasync()
        except StorageError as error:
            self._poison(error)
            return
        predecessor = (self._wal.number, self.loop.wal_offset)
        self._wal.file.close()
        first_seq = self.loop.visible_seq + 1
        try:
            segment = Segment.open(
                self._names.name("m", number),
                writable=True,
                bytes_expected=self.options.memtable_bytes,
            )
            if segment is None:
                raise StorageError(2, f"the prepared memtable {number} is gone")
            self._wal = activate(
                self._fs,
                self._dir,
                number=number,
                owner=self._owner,
                opening=Opening(first_seq, self.loop.last_time_us, *predecessor),
            )
        except StorageError as error:
            self._poison(error)
            return
        self._frozen.append(self._active)
        self._active = Frozen(number, segment, MemtableWriter(segment.view, number, first_seq))
        # C4: named by the current version before any commit in it is visible.
        self._publish()
        # Not even the opening record is durable yet.
        self._set_log(FIRST_RECORD_OFFSET)

    def _install(self, number: int, table: TableMeta | None) -> None:
        """Log that a memtable stands in a table now, and publish the version that says so."""
        flushed = next(m for m in self._frozen if m.number == number)
        rest = [m for m in self._frozen if m is not flushed]
        log_number = rest[0].number if rest else self._active.number
        edit = VersionEdit(
            next_file_number=self._next_file_number,
            last_seq=self.loop.visible_seq,
            log_number=log_number,
            added=() if table is None else (table,),
            outcomes=tuple(Outcome(*row) for row in self.loop.outcomes()),
        )
        try:
            self._version = self._log_edit(edit)
        except StorageError as error:
            self._poison(error)
            return
        self._frozen = rest
        self._publish()
        self.loop.set_history([m.table for m in rest])
        flushed.close()
        self._recyclable.append(number)
        # At most one is worth keeping: the next preparation takes it.
        for old in self._recyclable[:-1]:
            self._fs.unlink(self._dir.file(FileKind.WAL, old))
        del self._recyclable[:-1]

    def _log_edit(self, edit: VersionEdit) -> object:
        version = self._version.apply(edit)
        if self._manifest.size() > MANIFEST_ROTATE_BYTES:
            self._rotate_manifest(edit, version.as_edit())
        else:
            self._manifest.append(edit)
        return version

    def _rotate_manifest(self, edit: VersionEdit, tables: tuple[TableMeta, ...]) -> None:
        number = self._new_file_number()
        snapshot = VersionEdit(
            database_id=self._database_id,
            next_file_number=self._next_file_number,
            last_seq=edit.last_seq,
            log_number=edit.log_number,
            generation=self.generation,
            added=tables,
            outcomes=edit.outcomes,
        )
        self._manifest.rotate(number=number, snapshot=snapshot, clock=self._clock)

    # Stopping

    def stop(self) -> None:
        """Stop cleanly: serve what is in the rings, sync, flush a long log, remove every name."""
        deadline_ns = self._clock.monotonic_ns() + STOP_NS_MAX
        clean = self._exit is not None and self._exit is not ExitCode.STORAGE
        if clean:
            self._settle(deadline_ns)
        if self._compactor is not None:
            self._compactor.stop(2.0)
        self.page.state = layout.STATE_STOPPED
        if self._sync_thread is not None:
            self._sync_thread.join()
        if clean and not self._wal.file.poisoned:
            self._wal.file.datasync()
        self.close()

    def _settle(self, deadline_ns: int) -> None:
        # Requests that are in the rings now; later ones wait for the next service.
        while self.loop.has_requests() and self._clock.monotonic_ns() < deadline_ns:
            self._exit_aware_turn(deadline_ns)
        long_log = self.loop.wal_offset >= FLUSH_AT_STOP_BYTES
        if long_log and self.control_state.prepared is not None and not self._frozen:
            self._handle(ctl.LogFull(self._clock.monotonic_ns()))
            while self._frozen and self._clock.monotonic_ns() < deadline_ns:
                self._exit_aware_turn(deadline_ns)

    def _exit_aware_turn(self, deadline_ns: int) -> None:
        self.turn(min(deadline_ns, self._clock.monotonic_ns() + 10_000_000))

    def close(self) -> None:
        """Tell everyone to look for another service, and remove every name of this one.

        Durable: nothing more than before; `stop` has synced.
        """
        self.page.retire()
        layout.fence_full()
        # An idle process may map the memtables for long: it keeps addresses and no memory.
        self._publisher.retire_memtables(self._version.numbers(), self._ports.slots())
        self._ports.close()
        self._wal.file.close()
        self._manifest.close()
        self._names.sweep()
        self.abandon()

    def abandon(self) -> None:
        """Unmap everything and leave the names, as a process that is killed does."""
        del self.loop
        self._active.close()
        for memtable in self._frozen:
            memtable.close()
        self._frozen = []
        self.page.close()
        self._bell.close()


class _Synced:
    """The background sync of a WAL file ended."""

    __slots__ = ("number", "upto")

    def __init__(self, number: int, upto: int) -> None:
        self.number = number
        self.upto = upto
