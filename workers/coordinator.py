"""Run one database: recover it, commit for everyone, rotate, install flushes, publish versions.

`Coordinator` carries out what `engine/control.py` decides and what the commit loop asks for. It
gets its files, clock and randomness from outside, and its compactor through a factory, so that
the same class runs in one process under the simulation.

Order at the start: LOCK, recovery into new synced files, the new generation on the control page,
the first version, then clients. Order at a clean stop: rings served, WAL synced, epoch retired,
names removed, LOCK let go.

Long because each action and reason has its few lines here; what they do lies in memtables, ports,
publisher and children.

Owner: the main thread of the coordinator process.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

from ferrisdb.engine import control as ctl
from ferrisdb.engine.open import DatabaseState, create_database, open_state
from ferrisdb.engine.pick import PickOptions
from ferrisdb.engine.recover import RecoveredLogs, recover_logs
from ferrisdb.engine.retire import Pins
from ferrisdb.engine.version import Version
from ferrisdb.errors import Error, ProtocolError, StorageError, by_wire_code
from ferrisdb.exit_codes import ExitCode
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.filenames import DIR
from ferrisdb.kernel import layout
from ferrisdb.kernel.commit import CommitLoop, Reason
from ferrisdb.options import Options
from ferrisdb.seams import Clock, FileSystem, Rng
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.control_request import decode_control
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.workers.children import CompactorFactory, CompactorPort, Died, Inbox, Synced
from ferrisdb.workers.memtables import MappedMemtable, Memtables
from ferrisdb.workers.messages import (
    Compacted,
    CompactorOptions,
    CompactTables,
    Failed,
    Flushed,
    FlushMemtable,
    Prepared,
    PrepareMemtable,
    Request,
)
from ferrisdb.workers.ports import Ports
from ferrisdb.workers.publisher import Publisher
from ferrisdb.workers.tree import Tree

_log = logging.getLogger("ferrisdb.coordinator")

TICK_NS = 200_000_000
SYNC_BEHIND_BYTES = 8 << 20
FLUSH_AT_STOP_BYTES = 8 << 20
STOP_NS_MAX = 8_000_000_000
SLOW_NS = 2_000_000


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
        is_gone: Callable[[], bool] = lambda: False,
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
        self._is_gone = is_gone
        self._inbox: Inbox = queue.SimpleQueue()
        self._compactor: CompactorPort | None = None
        self._exit: ExitCode | None = None
        self._sync_thread: threading.Thread | None = None
        self._sync_failed = False
        self._synced_at_ns = 0
        self._next_tick_ns = 0
        self._commits_rested_for = 0
        create_database(fs, directory, clock, rng)
        state = open_state(fs, directory)
        for name in state.moved_aside:
            _log.warning("moved aside to %s/lost: %s", directory, name)
        self._database_id = state.database_id
        self._names = SegmentNames.load_or_create(directory, state.database_id)
        self._open_control()
        self._start(self._recover(state), state.version)

    # Starting

    def _open_control(self) -> None:
        # The control page outlives generations: attached processes keep reading through it.
        names, nbytes = self._names, self.options.memtable_bytes
        self._doorbell_name, control_name = names.name("d", 0), names.name("k", 0)
        page = Segment.open(control_name, writable=True)
        bell = Segment.open(self._doorbell_name, writable=True)
        control: ControlPage | None = None
        if page is not None and bell is not None:
            try:
                found = ControlPage(page)
                if found.database_id == self._database_id and not found.is_retired:
                    control = found
            except Error:
                _log.warning("the control page of an earlier run is damaged: making a new one")
        fresh = control is None
        if control is None:
            names.sweep()
            names.record(control_name)
            names.record(self._doorbell_name)
            unlink_segment(control_name)
            unlink_segment(self._doorbell_name)
            bell = Segment.create(self._doorbell_name, layout.DOORBELL_BYTES)
            control = ControlPage.format(
                Segment.create(control_name, layout.CONTROL_BYTES),
                database_id=self._database_id,
                memtable_bytes=nbytes,
                batch_bytes_max=nbytes // 2,
            )
        assert bell is not None
        self._bell = bell
        self.page = control
        self.page.state = layout.STATE_STARTING
        self.page.memtable_bytes = nbytes
        self.page.batch_bytes_max = nbytes // 2
        self.page.coordinator_pid = os.getpid()
        self._publisher = Publisher(self._dir, self._fs, names, self.page)
        keep = {control_name, self._doorbell_name}
        self._publisher.inherit([] if fresh else [n for n in names.recorded if n not in keep])

    def _make_memtable(self, number: int) -> MappedMemtable:
        name = self._names.name("m", number)
        self._publisher.claim(name)
        return MappedMemtable.create(name, number, self.options.memtable_bytes)

    def _recover(self, state: DatabaseState) -> RecoveredLogs[MappedMemtable]:
        nbytes = self.options.memtable_bytes
        recovered = recover_logs(
            self._fs,
            state,
            make_memtable=self._make_memtable,
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

    def _start(self, recovered: RecoveredLogs[MappedMemtable], version: Version) -> None:
        self.generation = recovered.generation
        self._memtables = Memtables(
            self._dir,
            recovered,
            fs=self._fs,
            clock=self._clock,
            names=self._names,
            publisher=self._publisher,
            memtable_bytes=self.options.memtable_bytes,
            database_id=self._database_id,
            version=version,
        )
        self._tree = Tree(
            self._dir,
            self._fs,
            self._memtables,
            PickOptions(
                base_bytes=self.options.level_base_bytes, table_bytes=self.options.table_bytes
            ),
        )
        self.page.compacted_ticket = 0
        # C2: the new generation before its first commit; every snapshot of the old one is over.
        self.page.generation = self.generation
        # The version before its sequence: the old memtables may hold a part of the last group, and
        # who still reads them must not be shown up to its end.
        self._memtables.publish()
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
        self._memtables.serve(self.loop, loop_writes=self._background_sync)
        self._ports = Ports(
            self._dir.path, self._names, self.loop, self.generation, recovered.outcomes
        )
        idle_exit_s = self.options.idle_exit_s
        self.control_state = ctl.Control(
            frozen_count_max=self.options.frozen_memtable_count_max,
            idle_exit_ns=None if idle_exit_s is None else int(idle_exit_s * 1e9),
        )
        self.page.state = layout.STATE_RUNNING
        self._ports.look()
        memtables = self._memtables
        self._handle(
            ctl.Started(
                self._clock.monotonic_ns(),
                memtables.frozen_numbers,
                memtables.active_number,
                self._tree.level0_count,
            )
        )

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
        self._tick_if_due()
        if self.control_state.is_stalled:
            self._serve_stall()
            return Reason.TICK
        slowdown = self.control_state.slowdown
        if slowdown:
            self._rest(slowdown)
            deadline_ns = min(deadline_ns, self._clock.monotonic_ns() + SLOW_NS)
        reason = Reason(self.loop.run(deadline_ns))
        self._deal_with(reason)
        return reason

    def _rest(self, part: float) -> None:
        """Let compaction catch up: after each SLOW_NS of commits rest so that `part` is rest."""
        if self.loop.commits == self._commits_rested_for:
            return
        self._commits_rested_for = self.loop.commits
        # Nobody wakes this word: a sleep, of at most 18 ms.
        word = layout.load32(self._bell.view, layout.DOORBELL_ATTENTION)
        rest_ns = int(SLOW_NS * part / (1 - part))
        layout.futex_wait(self._bell.view, layout.DOORBELL_ATTENTION, word, rest_ns)

    def step(self) -> Reason:
        """Do one thing, and never wait; for the simulation. IDLE when there is nothing to do."""
        self._tick_if_due()
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
            case Reason.CONTROL:
                self._answer_control()
            case Reason.FAILED:
                self._poison(StorageError(self.loop.error_number, "a write to the WAL failed"))
            case Reason.ATTENTION:
                self._ports.look()
                self._take_answers()
            case Reason.TICK:
                self._take_answers()

    def _answer_control(self) -> None:
        try:
            request = decode_control(self.loop.control_ops or b"")
        except ProtocolError as error:
            self.loop.answer_control(error.wire_code, 0)
            return
        if request is None:
            self.loop.answer_control(0, 0)
            return
        behind = self._memtables.active_number if self._memtables.has_writes else 0
        ticket = self._tree.ask(request.start, request.end, behind)
        self.loop.answer_control(0, ticket)
        now_ns = self._clock.monotonic_ns()
        if behind:
            # What lies in memory is to go down, too.
            self._handle(ctl.LogFull(now_ns))
        self._handle(ctl.CompactWanted(now_ns))

    def _write(self) -> None:
        try:
            self._memtables.wal.file.pwrite(self.loop.group_view(), self.loop.wal_offset)
        except StorageError as error:
            self._poison(error)
            return
        if Reason(self.loop.written()) is Reason.SYNC:
            self._sync()

    def _sync(self) -> None:
        try:
            self._memtables.wal.file.datasync()
        except StorageError as error:
            self._poison(error)
            return
        self.loop.synced()

    def _poison(self, error: Error) -> None:
        # Never retried: the kernel may have dropped the pages that it could not write. The next
        # start reads what the disk really has.
        _log.critical("stopping, to recover from the log: %s", error)
        self.page.state = layout.STATE_POISONED
        self.loop.poison()
        self._exit = ExitCode.STORAGE

    def _tick_if_due(self) -> None:
        # Also where groups that need a sync come one behind the other.
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._next_tick_ns:
            self._next_tick_ns = now_ns + TICK_NS
            self._tick()

    def _tick(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if self._is_gone():
            _log.critical("%s was removed or replaced under the service: leaving", self._dir.path)
            self.request_exit(ExitCode.STORAGE)
            return
        self._take_answers()
        self._ports.look()
        self._ports.reap()
        self._handle(ctl.Tick(now_ns, self._ports.count))
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
        """Make "os" data durable behind the commits, in a thread of its own if we have threads."""
        loop, wal = self.loop, self._memtables.wal
        if self._sync_failed:
            self._poison(StorageError(5, "a background sync of the WAL failed"))
            return
        try:
            if self._memtables.close_quiet_log():
                return
        except StorageError as error:
            self._poison(error)
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
            self._inbox.put(Synced(wal.number, upto))

        if not self._background_sync:
            sync()
            return
        self._sync_thread = threading.Thread(target=sync, name="wal-sync", daemon=True)
        self._sync_thread.start()

    # What the compactor says, and what control decides

    def _take_answers(self) -> None:
        while not self._inbox.empty():
            answer = self._inbox.get()
            now_ns = self._clock.monotonic_ns()
            match answer:
                case Synced():
                    if answer.number == self._memtables.wal.number:
                        self.loop.set_synced(answer.upto)
                case Prepared():
                    self._memtables.prepared()
                    self._handle(ctl.Prepared(now_ns, answer.number))
                case Flushed():
                    self._install(answer.number, answer.table)
                    self._handle(ctl.Flushed(now_ns, answer.number, self._tree.level0_count))
                case Compacted():
                    self._install_compaction(answer)
                    self._handle(ctl.Compacted(now_ns, self._tree.level0_count))
                case Failed():
                    self._report_failure(answer)
                    self._handle(self._failure_event(answer, now_ns))
                case Died():
                    code = self._compactor.bury() if self._compactor else None
                    self._compactor = None
                    self._tree.give_up()
                    _log.warning("the compactor died (exit code %s); starting another", code)
                    self._handle(ctl.CompactorDied(now_ns))

    def _failure_event(self, answer: Failed, now_ns: int) -> ctl.Event:
        match answer.request:
            case PrepareMemtable():
                return ctl.PrepareFailed(now_ns, answer.wire_code)
            case FlushMemtable():
                return ctl.FlushFailed(now_ns, answer.wire_code)
            case CompactTables():
                self._tree.give_up()
                return ctl.CompactFailed(now_ns, answer.wire_code)

    def _report_failure(self, answer: Failed) -> None:
        kind = by_wire_code().get(answer.wire_code, StorageError).__name__
        match answer.request:
            case PrepareMemtable():
                what = "prepare a memtable"
            case FlushMemtable():
                what = "flush"
            case CompactTables():
                what = "compact"
        _log.error("the compactor could not %s: %s: %s; trying again", what, kind, answer.text)

    def _handle(self, event: ctl.Event) -> None:
        for action in self.control_state.handle(event):
            match action:
                case ctl.StartCompactor():
                    self._start_compactor()
                case ctl.Prepare():
                    self._send(self._memtables.preparation())
                case ctl.Flush():
                    self._flush(action.number)
                case ctl.Compact():
                    self._compact()
                case ctl.Rotate():
                    self._rotate(action.number)
                case ctl.Exit():
                    if action.code is not ExitCode.OK:
                        _log.critical("giving up: the compactor dies again and again")
                    self.request_exit(action.code)

    def _start_compactor(self) -> None:
        self._compactor = self._make_compactor(
            self._dir.path,
            CompactorOptions(
                block_bytes=self.options.block_bytes,
                table_bytes=self.options.table_bytes,
                compaction_bytes_per_s=self.options.compaction_bytes_per_s,
            ),
            self.generation,
            self._inbox,
            self.ring,
        )
        self._handle(ctl.CompactorReady(self._clock.monotonic_ns()))

    def _send(self, request: Request) -> None:
        assert self._compactor is not None
        self._compactor.send(request)

    def _flush(self, number: int) -> None:
        floor = self._publisher.floor(self._ports.slots)
        self._send(self._memtables.flush_of(number, floor))

    def _compact(self) -> None:
        floor = self._publisher.floor(self._ports.slots)
        now_us = max(self.loop.last_time_us, self._clock.wall_us())
        expired_us = Pins.collect(self._ports.slots()).now_us_floor(now_us)
        request = self._tree.next(floor, expired_us)
        self.page.compacted_ticket = self._tree.done_ticket
        if request is None:
            self._handle(ctl.Settled(self._clock.monotonic_ns()))
        elif request.compaction.is_move:
            # Through the inbox like any other, so that a thousand of them don't nest.
            self._inbox.put(Compacted(request, request.compaction.moved()))
            self.ring()
        else:
            self._send(request)

    def _install_compaction(self, answer: Compacted) -> None:
        compaction = answer.request.compaction
        _log.debug(
            "level %d to %d: %d tables of %d bytes became %d of %d",
            compaction.start_level,
            compaction.output_level,
            len(compaction.inputs),
            compaction.input_bytes,
            len(answer.tables),
            sum(table.file_bytes for table in answer.tables),
        )
        try:
            self._tree.install(answer.request, answer.tables, self._ports.outcomes())
        except Error as error:
            self._poison(error)

    def _rotate(self, number: int) -> None:
        if self._sync_thread is not None:
            self._sync_thread.join()
        try:
            self._memtables.rotate(number)
        except Error as error:
            self._poison(error)

    def _install(self, number: int, table: TableMeta | None) -> None:
        try:
            self._memtables.install(number, table, self._ports.outcomes())
        except Error as error:
            self._poison(error)
            return
        # At once and not at the next tick: its memory is what the next memtable will need.
        self._publisher.reclaim(Pins.collect(self._ports.slots()))

    # Stopping

    def stop(self) -> None:
        """Stop cleanly: serve what is in the rings, sync, flush a long log, remove every name."""
        deadline_ns = self._clock.monotonic_ns() + STOP_NS_MAX
        clean = self._exit is not None and self._exit is not ExitCode.STORAGE
        try:
            if clean:
                self._settle(deadline_ns)
        finally:
            # Whatever failed, the compactor must not outlive us, nor the names.
            if self._compactor is not None:
                self._compactor.stop(2.0)
            # Who has the page mapped reads on, and scans wait for the order.
            self.loop.link_all()
            self.page.state = layout.STATE_STOPPED
            if self._sync_thread is not None:
                self._sync_thread.join()
            try:
                if self._exit is not ExitCode.STORAGE:
                    self._memtables.wal.file.datasync()
                    if clean:
                        self.loop.set_synced(self.loop.wal_offset)
                        self._memtables.close_log()
            finally:
                self.close()

    def _settle(self, deadline_ns: int) -> None:
        # Requests that are in the rings now; later ones wait for the next service.
        while self.loop.has_requests() and self._may_go_on(deadline_ns):
            self._exit_aware_turn(deadline_ns)
        memtables = self._memtables
        long_log = self.loop.wal_offset >= FLUSH_AT_STOP_BYTES
        if long_log and self.control_state.prepared is not None and not memtables.frozen_numbers:
            self._handle(ctl.LogFull(self._clock.monotonic_ns()))
            while memtables.frozen_numbers and self._may_go_on(deadline_ns):
                self._exit_aware_turn(deadline_ns)

    def _may_go_on(self, deadline_ns: int) -> bool:
        # A poisoned loop takes no further turn.
        return self._exit is not ExitCode.STORAGE and self._clock.monotonic_ns() < deadline_ns

    def _exit_aware_turn(self, deadline_ns: int) -> None:
        self.turn(min(deadline_ns, self._clock.monotonic_ns() + 10_000_000))

    def close(self) -> None:
        """Tell everyone to look for another service, and remove every name of this one.

        Durable: nothing more than before; `stop` has synced.
        """
        # Who died since the last tick leaves its segment to us; no later coordinator may come.
        self._ports.reap()
        self.page.retire()
        layout.fence_full()
        # An idle process may map the memtables for long: it keeps addresses and no memory.
        self._publisher.retire_memtables(self._memtables.table_numbers(), self._ports.slots())
        for name in self._names.recorded:
            unlink_segment(name)
        # The list is rewritten only where it is ours: another directory may have our path now.
        if not self._is_gone():
            self._names.sweep()
        self.abandon()

    def abandon(self) -> None:
        """Close and unmap everything and leave the names, as a process that is killed does."""
        self._ports.close()
        self._memtables.close_files()
        del self.loop
        self._memtables.unmap()
        self.page.close()
        self._bell.close()
