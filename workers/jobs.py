"""Carry out what engine/control.py decides, and tell it what became of it.

The compactor's answers and deaths come through a queue (children.py). Each becomes an event; the
actions that follow are carried out here: memtables prepared, rotated and flushed, compactions
begun and installed, a compactor started again.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ferrisdb.engine import control as ctl
from ferrisdb.engine.retire import Pins
from ferrisdb.errors import Error, StorageError, by_wire_code
from ferrisdb.exit_codes import ExitCode
from ferrisdb.format.edit import TableMeta
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
        self._directory = host.directory.path
        self._options = options
        self._clock = host.clock
        self._parts = parts
        self._memtables, self._tree = parts.memtables, parts.tree
        self._ports, self._publisher = parts.ports, parts.pages.publisher
        self._inbox, self._log_sync = inbox, log_sync
        self._make_compactor = compactor
        self._ring, self._poison, self._leave = ring, poison, leave

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
                case Flushed():
                    self._install(answer.number, answer.table)
                    self.handle(ctl.Flushed(now_ns, answer.number, self._tree.level0_count))
                case Compacted():
                    self._install_compaction(answer)
                    self.handle(ctl.Compacted(now_ns, self._tree.level0_count))
                case Failed():
                    self._report_failure(answer)
                    self.handle(self._failure_event(answer, now_ns))
                case Died():
                    code = self.compactor.bury() if self.compactor else None
                    self.compactor = None
                    self._memtables.give_up_flush()
                    self._tree.give_up()
                    _log.warning("the compactor died (exit code %s); starting another", code)
                    self.handle(ctl.CompactorDied(now_ns))

    def _failure_event(self, answer: Failed, now_ns: int) -> ctl.Event:
        match answer.request:
            case PrepareMemtable():
                return ctl.PrepareFailed(now_ns, answer.wire_code)
            case FlushMemtable():
                self._memtables.give_up_flush()
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

    # What control decides

    def handle(self, event: ctl.Event) -> None:
        """Tell control of an event, and do what it says."""
        for action in self.control.handle(event):
            match action:
                case ctl.StartCompactor():
                    self._start_compactor()
                case ctl.Prepare():
                    self._send(self._memtables.preparation())
                case ctl.Flush():
                    self._flush(action.number)
                case ctl.Compact():
                    self._compact(is_calm=action.is_calm)
                case ctl.Rotate():
                    self._rotate(action.number)
                case ctl.Exit():
                    if action.code is not ExitCode.OK:
                        _log.critical("giving up: the compactor dies again and again")
                    self._leave(action.code)
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
            self._directory,
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
