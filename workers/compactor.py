"""Be the compactor: prepare memtables and WAL files ahead, flush frozen memtables, merge tables.

One thread, one job at a time, the more urgent ones inside the others: between two chunks (about
1 MiB) the pipe is looked at, and a PrepareMemtable is done there and then, so that a rotation
never waits for a flush; a flush that comes during a compaction is done between two of its chunks.
Errors of the system are answers (Failed); retrying is the coordinator's.

P1  The process dies with its coordinator (parent.py).
P2  Before every rename the control page must still show the generation that the process was
    started for; otherwise it leaves with ExitCode.ORPHANED. So an orphan in its last moments
    does not write beside a new coordinator.
P3  SIGTERM and SIGINT are the coordinator's business, for a terminal or a supervisor sends them
    to every process of the service: ignored here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
from collections import deque
from dataclasses import replace
from typing import Protocol

from ferrisdb.engine.compact import CompactSettings, compact_tables
from ferrisdb.engine.flush import flush_memtable
from ferrisdb.engine.wal_files import WalOwner, prepare_wal, recycle_wal
from ferrisdb.errors import Error, StorageError
from ferrisdb.exit_codes import ExitCode
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.kernel.memtable import Memtable
from ferrisdb.seams import Clock, FileSystem, RealClock, RealFileSystem, RealRng, Rng
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.workers.messages import (
    Answer,
    Compacted,
    CompactorOptions,
    CompactTables,
    Failed,
    Flushed,
    FlushMemtable,
    Job,
    Prepared,
    PrepareMemtable,
    Request,
    Stop,
)
from ferrisdb.workers.parent import OrphanedError, die_with_parent

_log = logging.getLogger("ferrisdb.compactor")


class Pipe(Protocol):
    """The end of the pipe that we need (multiprocess.connection.Connection)."""

    def send(self, message: Answer, /) -> None:
        """Send one answer."""

    def recv(self) -> Request:
        """Wait for one request; EOFError if the coordinator is gone."""

    def poll(self, timeout: float = 0.0, /) -> bool:
        """Tell whether `recv` would return at once."""


class StopRequested(Exception):
    """The coordinator said Stop: not an error, but what unwinds a flush."""


class GuardedFileSystem:
    """A file system on which nothing is renamed under another generation (P2).

    All else is the given one's own methods, so that a call's place is its caller's for whoever
    watches the calls.
    """

    def __init__(self, fs: FileSystem, control: ControlPage, generation: int) -> None:
        self._fs = fs
        self._control = control
        self._generation = generation
        self.open_read, self.open_rw, self.create = fs.open_read, fs.open_rw, fs.create
        self.unlink, self.link, self.mkdir = fs.unlink, fs.link, fs.mkdir
        self.sync_dir, self.list_dir, self.exists = fs.sync_dir, fs.list_dir, fs.exists
        self.size, self.read_all = fs.size, fs.read_all

    def check(self) -> None:
        """Raise OrphanedError unless our coordinator's generation stands."""
        if self._control.is_retired or self._control.generation != self._generation:
            raise OrphanedError(f"generation {self._generation} is over")

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, unless we are orphaned."""
        self.check()
        self._fs.rename(source, target)


class Compactor:
    """The jobs of one compactor process.

    Owner: the process's main thread.
    """

    def __init__(
        self,
        directory: str,
        pipe: Pipe,
        options: CompactorOptions,
        generation: int,
        *,
        fs: FileSystem,
        clock: Clock,
        rng: Rng,
    ) -> None:
        """Attach to the coordinator's segments.

        Raises: OrphanedError, there is no control page of our generation.
        """
        names = SegmentNames.read(directory)
        if names is None:
            raise OrphanedError(f"no coordinator has named its segments in {directory}")
        page = Segment.open(names.name("k", 0), writable=False, bytes_expected=layout.CONTROL_BYTES)
        if page is None:
            raise OrphanedError(f"there is no control page {names.name('k', 0)}")
        self._names = names
        self._control = ControlPage(page)
        self._fs = GuardedFileSystem(fs, self._control, generation)
        self._fs.check()
        self._directory = DIR(directory)
        self._pipe = pipe
        self._options = options
        self._owner = WalOwner(self._control.database_id, generation)
        self._clock, self._rng = clock, rng
        self._flushes: deque[FlushMemtable] = deque()
        self._compactions: deque[CompactTables] = deque()
        #: When the next chunk of a compaction may be written.
        self._write_at_ns = 0

    def run(self) -> None:
        """Serve until Stop.

        Raises: OrphanedError, EOFError: the coordinator is gone.
        """
        try:
            while True:
                self.step()
        except StopRequested:
            return
        finally:
            self.close()

    @property
    def has_flushes(self) -> bool:
        """Whether flushes wait that were asked for before."""
        return bool(self._flushes)

    @property
    def has_compactions(self) -> bool:
        """Whether compactions wait that were asked for before."""
        return bool(self._compactions)

    def step(self) -> None:
        """Take a request, or do a flush or a compaction; `run` and the simulation call it.

        Raises: StopRequested; OrphanedError, EOFError: the coordinator is gone.
        """
        # A request that waits goes before the next job; without jobs, wait for one.
        if not (self._flushes or self._compactions) or self._pipe.poll():
            self._take_request()
        elif self._flushes:
            self._flush(self._flushes.popleft())
        else:
            self._compact(self._compactions.popleft())

    def close(self) -> None:
        """Unmap the control page."""
        self._control.close()

    def _take_request(self) -> None:
        request = self._pipe.recv()
        if isinstance(request, Stop):
            raise StopRequested
        if isinstance(request, PrepareMemtable):
            self._prepare(request)
        elif isinstance(request, FlushMemtable):
            self._flushes.append(request)
        else:
            self._compactions.append(request)

    def _between_chunks(self) -> None:
        while self._pipe.poll():
            self._take_request()
        self._fs.check()

    def _between_merge_chunks(self, nbytes: int) -> None:
        self._do_urgent()
        rate = self._options.compaction_bytes_per_s
        if not rate:
            return
        now_ns = self._clock.monotonic_ns()
        self._write_at_ns = max(self._write_at_ns, now_ns)
        while now_ns < self._write_at_ns:
            # Waiting at the pipe, a request is served at once.
            if self._pipe.poll((self._write_at_ns - now_ns) / 1e9):
                self._do_urgent()
            now_ns = self._clock.monotonic_ns()
        self._write_at_ns += nbytes * 1_000_000_000 // rate

    def _do_urgent(self) -> None:
        self._between_chunks()
        while self._flushes:
            self._flush(self._flushes.popleft())

    def _compact(self, request: CompactTables) -> None:
        first = request.first_file_number
        try:
            tables = compact_tables(
                request.compaction,
                self._fs,
                self._directory,
                CompactSettings(
                    database_id=self._control.database_id,
                    created_us=self._clock.wall_us(),
                    gc_floor=request.gc_floor,
                    expired_us=request.expired_us,
                    block_bytes=self._options.block_bytes,
                    table_bytes=self._options.table_bytes,
                    origin=request.origin,
                    is_filtered=request.is_filtered,
                ),
                file_numbers=range(first, first + request.file_count),
                on_chunk=self._between_merge_chunks,
            )
        except (Error, OSError) as reason:
            self._pipe.send(failure(request, reason))
        else:
            self._pipe.send(Compacted(request, tables))

    def _prepare(self, request: PrepareMemtable) -> None:
        name = self._names.name("m", request.number)
        try:
            # A compactor that died over this very request may have left the one or the other.
            unlink_segment(name)
            self._remove_leftover(FileKind.WAL, request.number)
            segment = Segment.create(name, request.segment_bytes)
            try:
                segment.prefault()
                self._make_wal(request)
            except BaseException:
                segment.unlink()
                raise
            finally:
                segment.close()
        except (Error, OSError) as reason:
            self._pipe.send(failure(request, reason))
        else:
            self._pipe.send(Prepared(request.number))

    def _make_wal(self, request: PrepareMemtable) -> None:
        if request.recycle_number:
            recycle_wal(
                self._fs,
                self._directory,
                old_number=request.recycle_number,
                number=request.number,
                owner=self._owner,
                base_seq=request.base_seq,
                clock=self._clock,
                rng=self._rng,
            )
        else:
            prepare_wal(
                self._fs,
                self._directory,
                number=request.number,
                file_bytes=request.wal_bytes,
                owner=self._owner,
                base_seq=request.base_seq,
                clock=self._clock,
                rng=self._rng,
            )

    def _flush(self, request: FlushMemtable) -> None:
        try:
            segment = Segment.open(self._names.name("m", request.number), writable=False)
            if segment is None:
                raise StorageError(errno.ENOENT, f"memtable {request.number} has no segment")
            try:
                table = flush_memtable(
                    Memtable(segment.view),
                    self._fs,
                    self._directory,
                    file_number=request.file_number,
                    database_id=self._control.database_id,
                    created_us=self._clock.wall_us(),
                    gc_floor=request.gc_floor,
                    block_bytes=self._options.block_bytes,
                    origin=replace(request.origin, inputs=(request.number,)),
                    on_chunk=self._between_chunks,
                )
            finally:
                segment.close()
        except (Error, OSError) as reason:
            self._pipe.send(failure(request, reason))
        else:
            self._pipe.send(Flushed(request.number, table))

    def _remove_leftover(self, kind: FileKind, number: int) -> None:
        temporary = self._directory.temporary(kind, number)
        if self._fs.exists(temporary):
            self._fs.unlink(temporary)


def failure(request: Job, reason: Error | OSError) -> Failed:
    """Return the answer for a request that failed."""
    return Failed(
        request=request,
        wire_code=reason.wire_code if isinstance(reason, Error) else StorageError.wire_code,
        errno=getattr(reason, "errno", None) or 0,
        text=str(reason),
    )


def lower_io_priority() -> None:
    """Have the disk serve everyone else first, where it can be asked for that (Linux).

    Not the idle class: a busy disk would starve flushes, for which writers wait.
    """
    if sys.platform == "linux":
        import psutil

        with contextlib.suppress(OSError, psutil.Error):
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, value=7)


def main(
    directory: str,
    connection: Pipe,
    options: CompactorOptions,
    generation: int,
    parent_pid: int,
) -> None:
    """Run the process: the spawn target of the coordinator, and does not return.

    Shape: connection, our end of a duplex pipe; parent_pid, the coordinator's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        die_with_parent(parent_pid)
        os.nice(options.nice)
        lower_io_priority()
        Compactor(
            directory,
            connection,
            options,
            generation,
            fs=RealFileSystem(),
            clock=RealClock(),
            rng=RealRng(),
        ).run()
        code = ExitCode.OK
    except (OrphanedError, EOFError, BrokenPipeError, ConnectionResetError) as reason:
        _log.info("leaving: %s", reason or "the coordinator closed the pipe")
        code = ExitCode.ORPHANED
    except Exception:
        _log.exception("the compactor failed")
        code = ExitCode.INTERNAL
    sys.exit(code)
