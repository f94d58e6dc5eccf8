"""Run one database: commit for everyone, serve stalls, stop cleanly.

`Coordinator` turns the commit loop's reasons into deeds. How a service comes up lies in start.py,
the work behind the commits in jobs.py; who is attached in ports.py. It gets its files, clock and
randomness from outside, and its workers through factories, so that the same class runs in one
process under the simulation.

Order at a clean stop: what socket clients had asked for answered and their workers gone, rings
served, WAL synced, epoch retired, names removed, LOCK let go.

Owner: the main thread of the coordinator process.
"""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable

from ferrisdb.engine import control as ctl
from ferrisdb.engine.retire import Pins
from ferrisdb.errors import DiskFullError, Error, ProtocolError, StorageError
from ferrisdb.exit_codes import ExitCode
from ferrisdb.format.filenames import DIR
from ferrisdb.kernel import layout
from ferrisdb.kernel.commit import Reason
from ferrisdb.options import Options
from ferrisdb.seams import Clock, FileSystem, Rng, storage_error
from ferrisdb.shm.control_request import decode_control
from ferrisdb.shm.segment import unlink_segment
from ferrisdb.workers.children import CompactorFactory, Inbox
from ferrisdb.workers.jobs import Jobs
from ferrisdb.workers.log_sync import LogSync
from ferrisdb.workers.readers import ReadersFactory
from ferrisdb.workers.start import Host, start

_log = logging.getLogger("ferrisdb.coordinator")

TICK_NS = 200_000_000
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
        readers: ReadersFactory | None = None,
        background_sync: bool = True,
        is_gone: Callable[[], bool] = lambda: False,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Recover the database and publish it; the caller holds LOCK.

        Shape:  readers, None: there are no sockets; is_gone, whether the directory is another
                one than it was; on_tick, called several times a second.
        Raises: NotADatabaseError, FormatTooNewError, CorruptionError, StorageError,
                SharedMemoryFullError: nothing was lost or published.
        """
        self.options = options
        self._dir = DIR(directory)
        self._clock = clock
        self._is_gone, self._on_tick = is_gone, on_tick
        self._exit: ExitCode | None = None
        self._next_tick_ns = 0
        self._commits_rested_for = 0
        self._commits_at_refusal = 0
        host = Host(self._dir, options, fs, clock, rng)
        parts = start(host, loop_writes=background_sync)
        self.generation = parts.generation
        self.page, self._bell = parts.pages.page, parts.pages.bell
        self._names, self._publisher = parts.pages.names, parts.pages.publisher
        self._memtables, self._tree = parts.memtables, parts.tree
        self.loop, self._ports = parts.loop, parts.ports
        inbox: Inbox = queue.SimpleQueue()
        self._log_sync = LogSync(
            self.loop, inbox, interval_s=options.wal_sync_interval_s, threaded=background_sync
        )
        self.jobs = Jobs(
            host,
            parts,
            inbox=inbox,
            log_sync=self._log_sync,
            compactor=compactor,
            readers=readers,
            ring=self.ring,
            poison=self._poison,
            leave=self.request_exit,
        )
        self._readers = self.jobs.readers
        self.page.state = layout.STATE_RUNNING
        self._ports.look()
        self.jobs.begin()

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

    def reload(self, options: Options) -> None:
        """Have the workers read again what can change while they run; signal handlers call it."""
        if self._readers is not None:
            self._readers.reload(options)

    def run(self) -> ExitCode:
        """Serve until told to stop or no longer able to; returns the exit code."""
        if self._readers is not None:
            self._readers.begin()
        while self._exit is None:
            self.turn(self._next_tick_ns)
        return self._exit

    def turn(self, deadline_ns: int) -> Reason:
        """Do what comes until the deadline, or until one reason has been dealt with."""
        self._tick_if_due()
        if self.jobs.control.is_stalled:
            self._serve_stall()
            return Reason.TICK
        slowdown = self.jobs.control.slowdown
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
        self.jobs.take_answers()
        if self.jobs.control.is_stalled:
            self.loop.serve_stalled(self.jobs.control.refusal, 0)
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
                self.jobs.handle(ctl.LogFull(self._clock.monotonic_ns()))
            case Reason.LARGE:
                self._ports.fetch_large()
            case Reason.CONTROL:
                self._answer_control()
            case Reason.FAILED:
                error = OSError(self.loop.error_number, "")
                self._refuse(storage_error(error, self._memtables.wal.file.path))
            case Reason.UNSYNCED:
                error = OSError(self.loop.error_number, "")
                self._poison(storage_error(error, self._memtables.wal.file.path, in_doubt=True))
            case Reason.ATTENTION:
                self._ports.look()
                self.jobs.take_answers()
            case Reason.TICK:
                self.jobs.take_answers()

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
            self.jobs.handle(ctl.LogFull(now_ns))
        self.jobs.handle(ctl.CompactWanted(now_ns))

    def _write(self) -> None:
        try:
            self._memtables.wal.file.pwrite(self.loop.group_view(), self.loop.wal_offset)
        except StorageError as error:
            self._refuse(error, torn_bytes=len(self.loop.group_view()))
            return
        if Reason(self.loop.written()) is Reason.SYNC:
            self._sync()

    def _refuse(self, error: StorageError, torn_bytes: int | None = None) -> None:
        """Answer a group that could not be written; without space, go on behind it.

        A part of the group may stand in the file. It is overwritten and synced before anyone is
        told that nothing was written: the next start would find its records.
        """
        torn_bytes = self.loop.torn_bytes if torn_bytes is None else torn_bytes
        if not isinstance(error, DiskFullError):
            self._poison(error)
            return
        try:
            if torn_bytes:
                file = self._memtables.wal.file
                file.pwrite(bytes(torn_bytes), self.loop.wal_offset)
                file.datasync()
        except StorageError as reason:
            self._poison(reason)
            return
        self.loop.refuse(error.wire_code)
        self._commits_at_refusal = self.loop.commits
        self.jobs.fail(ctl.Job.LOG, error.wire_code, str(error))

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
        self._on_tick()
        if self._is_gone():
            _log.critical("%s was removed or replaced under the service: leaving", self._dir.path)
            self.request_exit(ExitCode.STORAGE)
            return
        self.jobs.take_answers()
        self._ports.look()
        self._ports.reap()
        if self.loop.commits != self._commits_at_refusal:
            self.jobs.committed()
        self.jobs.tick()
        self._look_at_log(now_ns)
        pins = Pins.collect(self._ports.slots())
        for index, slot, epoch in pins.too_old(now_ns, int(self.options.max_snapshot_age_s * 1e9)):
            _log.info("revoked a snapshot of client %d: older than max_snapshot_age", index)
            self._ports.revoke(index, slot, epoch)
        if self._publisher.has_waiting:
            self._publisher.reclaim(pins)
        self.jobs.show_figures()

    def _look_at_log(self, now_ns: int) -> None:
        try:
            self._log_sync.check()
            if not self._memtables.close_quiet_log():
                self._log_sync.begin(self._memtables.wal, now_ns)
        except StorageError as error:
            self._poison(error)

    def _serve_stall(self) -> None:
        """Wait for a memtable; answer Busy, or why there is none, to who can't wait longer."""
        now_ns = self._clock.monotonic_ns()
        self.loop.serve_stalled(self.jobs.control.refusal, now_ns)
        word = layout.load32(self._bell.view, layout.DOORBELL_WORD)
        self.jobs.take_answers()
        if self.jobs.control.is_stalled:
            layout.futex_wait(self._bell.view, layout.DOORBELL_WORD, word, 5_000_000)
            self._tick()

    # Stopping

    def stop(self) -> None:
        """Stop cleanly: serve what is in the rings, sync, flush a long log, remove every name."""
        deadline_ns = self._clock.monotonic_ns() + STOP_NS_MAX
        clean = self._exit is not None and self._exit is not ExitCode.STORAGE
        try:
            if clean:
                self._settle(deadline_ns)
        finally:
            # Whatever failed, no worker must outlive us, nor the names.
            if self._readers is not None:
                self._readers.begin_stop(quick=True)
                self._readers.close()
            if self.jobs.compactor is not None:
                self.jobs.compactor.stop(2.0)
            # Who has the page mapped reads on, and scans wait for the order.
            self.loop.link_all()
            self.page.state = layout.STATE_STOPPED
            self._log_sync.join()
            try:
                if self._exit is not ExitCode.STORAGE:
                    self._memtables.wal.file.datasync()
                    if clean:
                        self.loop.set_synced(self.loop.wal_offset)
                        self._memtables.close_log()
            finally:
                self.close()

    def _settle(self, deadline_ns: int) -> None:
        readers = self._readers
        if readers is not None:
            # What their clients had asked for is answered, by this loop.
            readers.begin_stop(quick=False)
            while not readers.is_gone and self._may_go_on(deadline_ns):
                self._exit_aware_turn(deadline_ns)
        # Requests that are in the rings now; later ones wait for the next service.
        while self.loop.has_requests() and self._may_go_on(deadline_ns):
            self._exit_aware_turn(deadline_ns)
        memtables = self._memtables
        long_log = self.loop.wal_offset >= FLUSH_AT_STOP_BYTES
        if long_log and self.jobs.control.prepared is not None and not memtables.frozen_numbers:
            self.jobs.handle(ctl.LogFull(self._clock.monotonic_ns()))
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
            with contextlib.suppress(OSError):
                self._names.sweep()
        self.abandon()

    def abandon(self) -> None:
        """Close and unmap everything and leave the names, as a process that is killed does."""
        self._ports.close()
        self._memtables.close_files()
        # Whoever has the loop keeps the segments mapped; the jobs refer back to us, so that only
        # the collector of cycles would find them.
        del self.loop, self.jobs, self._log_sync, self._ports
        self._memtables.unmap()
        self.page.close()
        self._bell.close()
