"""Carry out what engine/control.py decides, and tell it what became of it.

The compactor's answers and deaths come through a queue (children.py). Each becomes an event; the
actions that follow are carried out here: memtables prepared, rotated and flushed, compactions
begun and installed, a compactor started again.

What lacks space is tried again here until there is some: a finished table that the MANIFEST could
not take is kept, and a version that could not be published is published later.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ferrisdb.engine import control as ctl
from ferrisdb.engine.retire import Pins
from ferrisdb.errors import (
    DiskFullError,
    Error,
    SharedMemoryFullError,
    StorageError,
    by_wire_code,
)
from ferrisdb.exit_codes import ExitCode
from ferrisdb.kernel import layout
from ferrisdb.shm.control import TreeFigures
from ferrisdb.workers.children import CompactorFactory, CompactorPort, Died, Inbox, Synced
from ferrisdb.workers.log_sync import LogSync
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
from ferrisdb.workers.reader_messages import (
    ConnectionWaits,
    ExitWanted,
    HubNote,
    ReaderGone,
    ReaderUp,
)
from ferrisdb.workers.readers import ReadersFactory, ReadersPort
from ferrisdb.workers.start import Host, Parts

_log = logging.getLogger("ferrisdb.coordinator")


class Jobs:
    """The work behind the commits of one service."""

    def __init__(
        self,
        host: Host,
        parts: Parts,
        *,
        inbox: Inbox,
        log_sync: LogSync,
        compactor: CompactorFactory,
        readers: ReadersFactory | None,
        ring: Callable[[], None],
        poison: Callable[[Error], None],
        leave: Callable[[ExitCode], None],
    ) -> None:
        """Shape: ring, makes the loop come back soon, from any thread; poison, stops the service
        because its files can't be relied on; leave, stops it for another reason."""
        options = host.options
        idle_exit_s = options.idle_exit_s
        self.control = ctl.Control(
            frozen_count_max=options.frozen_memtable_count_max,
            idle_exit_ns=None if idle_exit_s is None else int(idle_exit_s * 1e9),
        )
        self.compactor: CompactorPort | None = None
        #: None: there are no sockets.
        self.readers: ReadersPort | None = None
        if readers is not None:
            self.readers = readers(host.directory.path, options, parts.generation, inbox, ring)
        self._host = host
        self._options = options
        self._clock = host.clock
        self._parts = parts
        self._memtables, self._tree = parts.memtables, parts.tree
        self._ports, self._publisher = parts.ports, parts.pages.publisher
        self._inbox, self._log_sync = inbox, log_sync
        self._make_compactor = compactor
        self._ring, self._poison, self._leave = ring, poison, leave
        #: Tables that are there and could not be logged for want of space.
        self._uninstalled: list[Flushed | Compacted] = []
        self._retry_at_ns = 0
        self._is_short = False
        self._shortage_text = ""

    def begin(self) -> None:
        """Start the compactor, and what recovery has left to do."""
        memtables = self._memtables
        self.handle(
            ctl.Started(
                self._clock.monotonic_ns(),
                memtables.frozen_numbers,
                memtables.active_number,
                self._tree.level0_count,
            )
        )

    # What the compactor says

    def take_answers(self) -> None:
        """Deal with what has come from the compactor and from the background syncs."""
        while not self._inbox.empty():
            answer = self._inbox.get()
            now_ns = self._clock.monotonic_ns()
            match answer:
                case Synced():
                    if answer.number == self._memtables.wal.number:
                        self._parts.loop.set_synced(answer.upto)
                case Prepared():
                    self._memtables.prepared()
                    self.handle(ctl.Prepared(now_ns, answer.number))
                case Flushed() | Compacted():
                    self._install(answer)
                case Failed():
                    self._take_failure(answer)
                case Died():
                    code = self.compactor.bury() if self.compactor else None
                    self.compactor = None
                    # What waits to be logged goes with it, and is made again (K5).
                    self._uninstalled = []
                    self._memtables.give_up_flush()
                    self._tree.give_up()
                    _log.warning("the compactor died (exit code %s); starting another", code)
                    self.handle(ctl.CompactorDied(now_ns))
                case _:
                    self._take_note(answer)

    def _take_note(self, note: HubNote) -> None:
        """Deal with what the hub of the reader workers says."""
        assert self.readers is not None
        now_ns = self._clock.monotonic_ns()
        match note:
            case ConnectionWaits():
                self.handle(ctl.ReadersWanted(now_ns, self._options.worker_count))
            case ReaderUp():
                wake_fd = self.readers.wake_fd(note.number)
                self._ports.add_reader(note.index, note.client_id, wake_fd)
                _log.info("reader worker %d serves", note.number)
            case ReaderGone():
                _log.warning("reader worker %d died (exit code %s)", note.number, note.exit_code)
                self.handle(ctl.ReaderDied(now_ns, note.number))
            case ExitWanted():
                self._leave(note.code)

    def _take_failure(self, answer: Failed) -> None:
        match answer.request:
            case PrepareMemtable():
                job = ctl.Job.PREPARE
            case FlushMemtable():
                job = ctl.Job.FLUSH
                self._memtables.give_up_flush()
            case CompactTables():
                job = ctl.Job.COMPACT
                self._tree.give_up()
        self.fail(job, answer.wire_code, answer.text)

    def fail(self, job: ctl.Job, wire_code: int, text: str) -> None:
        """Tell control of a job that is to be tried again, and people of one that begins to fail.

        A lack of space is told once, when it begins and when it ends.
        """
        if wire_code not in ctl.SPACE_CODES and self.control.failed.get(job) != wire_code:
            kind = by_wire_code().get(wire_code, StorageError).__name__
            _log.error("could not %s: %s: %s; trying again", job.value, kind, text)
        self._shortage_text = text
        self.handle(ctl.JobFailed(self._clock.monotonic_ns(), job, wire_code))

    def _install(self, answer: Flushed | Compacted) -> None:
        outcomes = self._ports.outcomes()
        try:
            if isinstance(answer, Flushed):
                self._memtables.install(answer.number, answer.table, outcomes)
            else:
                self._tree.install(answer.request, answer.tables, outcomes)
        except DiskFullError as error:
            self._uninstalled.append(answer)
            self._retry_at_ns = self._clock.monotonic_ns() + ctl.RETRY_NS
            self.fail(ctl.Job.INSTALL, error.wire_code, str(error))
            return
        except Error as error:
            self._poison(error)
            return
        now_ns, level0_count = self._clock.monotonic_ns(), self._tree.level0_count
        self._done(ctl.Job.INSTALL)
        if isinstance(answer, Flushed):
            # At once and not at the next tick: its memory is what the next memtable will need.
            self._publisher.reclaim(Pins.collect(self._ports.slots()))
            self.handle(ctl.Flushed(now_ns, answer.number, level0_count))
        else:
            _log_compaction(answer)
            self.handle(ctl.Compacted(now_ns, level0_count))

    def tick(self) -> None:
        """Try again what is done here, and tell control that time has passed."""
        now_ns = self._clock.monotonic_ns()
        # The backlog first: who is taken from it meanwhile counts as a connection.
        waiting = self.readers is not None and self.readers.has_waiting()
        client_count = self._ports.count + waiting
        if now_ns >= self._retry_at_ns:
            self._retry_at_ns = now_ns + ctl.RETRY_NS
            answers, self._uninstalled = self._uninstalled, []
            for answer in answers:
                self._install(answer)
            self._publish_again()
        self.handle(ctl.Tick(now_ns, client_count))

    def _publish_again(self) -> None:
        if not self._memtables.is_unpublished:
            self._done(ctl.Job.PUBLISH)
            return
        try:
            self._memtables.publish()
        except (DiskFullError, SharedMemoryFullError) as error:
            self.fail(ctl.Job.PUBLISH, error.wire_code, str(error))
        except Error as error:
            self._poison(error)

    def _done(self, job: ctl.Job) -> None:
        if job in self.control.failed:
            self.handle(ctl.JobDone(self._clock.monotonic_ns(), job))

    def committed(self) -> None:
        """Note that commits reach the log."""
        self._done(ctl.Job.LOG)

    # What is shown of it

    def show_state(self) -> None:
        """Show on the control page how the service is, and tell people when space is short."""
        page, shortage = self._parts.pages.page, self.control.shortage
        if page.state == layout.STATE_POISONED:
            return
        if bool(shortage) != self._is_short:
            self._is_short = bool(shortage)
            if shortage:
                _log.error(
                    "no space: %s; writers are refused where they need it, reads go on,"
                    " and all goes on when there is space",
                    self._shortage_text,
                )
            else:
                _log.warning("there is space again: all goes on")
        if shortage == SharedMemoryFullError.wire_code:
            page.state = layout.STATE_MEMORY_FULL
        elif shortage:
            page.state = layout.STATE_DISK_FULL
        else:
            stalled = self.control.is_stalled
            page.state = layout.STATE_STALLED if stalled else layout.STATE_RUNNING

    # What control decides

    def handle(self, event: ctl.Event) -> None:
        """Tell control of an event, and do what it says."""
        for action in self.control.handle(event):
            match action:
                case ctl.StartCompactor():
                    self._start_compactor()
                case ctl.StartReader():
                    if self.readers is not None:
                        self.readers.start(action.number)
                case ctl.Prepare():
                    self._prepare()
                case ctl.Flush():
                    self._flush(action.number)
                case ctl.Compact():
                    self._compact(is_calm=action.is_calm)
                case ctl.Rotate():
                    self._rotate(action.number)
                case ctl.Exit():
                    if action.code is not ExitCode.OK:
                        _log.critical("giving up: a worker dies again and again")
                    self._leave(action.code)
        self.show_state()
        self._parts.pages.page.is_at_rest = self.control.at_rest

    def show_figures(self) -> None:
        """Put the tree's figures on the control page."""
        tree, memtables = self._tree, self._memtables
        self._parts.pages.page.figures = TreeFigures(
            debt_bytes=tree.debt_bytes,
            log_bytes=memtables.log_bytes,
            flushed_bytes=memtables.flushed_bytes,
            compaction_read_bytes=tree.read_bytes,
            compaction_written_bytes=tree.written_bytes,
        )

    def _start_compactor(self) -> None:
        self.compactor = self._make_compactor(
            self._host.directory.path,
            CompactorOptions(
                block_bytes=self._options.block_bytes,
                table_bytes=self._options.table_bytes,
                compaction_bytes_per_s=self._options.compaction_bytes_per_s,
            ),
            self._parts.generation,
            self._inbox,
            self._ring,
        )
        self.handle(ctl.CompactorReady(self._clock.monotonic_ns()))

    def _prepare(self) -> None:
        try:
            request = self._memtables.preparation()
        except StorageError as error:
            self.fail(ctl.Job.PREPARE, error.wire_code, str(error))
        else:
            self._send(request)

    def _send(self, request: Request) -> None:
        assert self.compactor is not None
        self.compactor.send(request)

    def _flush(self, number: int) -> None:
        floor = self._publisher.floor(self._ports.slots)
        self._send(self._memtables.flush_of(number, floor, self._publisher.retired_tables()))

    def _compact(self, *, is_calm: bool) -> None:
        floor = self._publisher.floor(self._ports.slots)
        now_us = max(self._parts.loop.last_time_us, self._clock.wall_us())
        expired_us = Pins.collect(self._ports.slots()).now_us_floor(now_us)
        retired = self._publisher.retired_tables()
        request = self._tree.next(floor, expired_us, retired, is_calm=is_calm)
        self._parts.pages.page.compacted_ticket = self._tree.done_ticket
        if request is None:
            self.handle(ctl.Settled(self._clock.monotonic_ns()))
        elif request.compaction.is_move:
            # Through the inbox like any other, so that a thousand of them don't nest.
            self._inbox.put(Compacted(request, request.compaction.moved()))
            self._ring()
        else:
            self._send(request)

    def _rotate(self, number: int) -> None:
        self._log_sync.join()
        try:
            self._memtables.rotate(number)
        except (DiskFullError, SharedMemoryFullError) as error:
            self.fail(ctl.Job.ROTATE, error.wire_code, str(error))
        except Error as error:
            self._poison(error)
        else:
            self.handle(ctl.Rotated(self._clock.monotonic_ns()))


def _log_compaction(answer: Compacted) -> None:
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
