"""Keep the shape of the tree: pick compactions, number their outputs, know what was asked for.

What to pick is decided in engine/pick.py; here is the state between picks: the cursor of each
level, the compactions of a range that clients asked for, and the one that is under way.

T1  Output numbers are given out before a compaction begins. When its compactor dies, or it comes
    to nothing, the files of these numbers are removed: nobody else knows of them.
T2  Compactions of a range are done in the order in which they were asked for; the control page
    says up to which ticket. One begins when the memtables that it was asked behind are flushed.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ferrisdb.engine.compact import file_count_max
from ferrisdb.engine.pick import (
    Compaction,
    PickOptions,
    RangeJob,
    pick,
    pick_range,
    shape,
    wants_filter,
)
from ferrisdb.engine.version import Version
from ferrisdb.format.edit import Outcome, TableMeta
from ferrisdb.format.filenames import DIR
from ferrisdb.seams import FileSystem
from ferrisdb.workers.memtables import Memtables, remove_unneeded
from ferrisdb.workers.messages import CompactTables


@dataclass(slots=True)
class _Asked:
    """A range that a client wants compacted."""

    ticket: int
    start: bytes
    end: bytes | None
    #: Number of the memtable that took writes when it was asked for; 0: it was empty.
    behind: int
    job: RangeJob | None = None


class Tree:
    """The compactions of one service."""

    def __init__(
        self, directory: DIR, fs: FileSystem, memtables: Memtables, options: PickOptions
    ) -> None:
        self._dir, self._fs = directory, fs
        self._memtables = memtables
        self._options = options
        self._cursors: dict[int, bytes] = {}
        self._asked: deque[_Asked] = deque()
        self._tickets = 0
        self._running: CompactTables | None = None
        # The debt as of a version.
        self._weighed: tuple[Version | None, int] = (None, 0)
        #: Highest ticket whose range is compacted.
        self.done_ticket = 0
        #: Bytes of the tables that compactions read and wrote, moves not counted.
        self.read_bytes = self.written_bytes = 0

    @property
    def level0_count(self) -> int:
        """Tables of level 0."""
        return len(self._memtables.version.levels[0])

    def ask(self, start: bytes, end: bytes | None, behind: int) -> int:
        """Note that a range is to be compacted; returns its ticket."""
        self._tickets += 1
        self._asked.append(_Asked(self._tickets, start, end, behind))
        return self._tickets

    @property
    def debt_bytes(self) -> int:
        """Bytes that have to go down until no level is over its target."""
        version = self._memtables.version
        if version is not self._weighed[0]:
            self._weighed = version, shape(version, self._options).debt_bytes
        return self._weighed[1]

    def next(
        self,
        gc_floor: int,
        expired_us: int,
        retired: tuple[int, ...] = (),
        *,
        is_calm: bool = False,
    ) -> CompactTables | None:
        """Return the next compaction, None if there is nothing to do now.

        Shape:  retired, numbers of the tables that wait for their last pin; is_calm, nothing was
                flushed for a while.
        """
        compaction = self._next_of_range()
        if compaction is None:
            compaction = pick(
                self._memtables.version,
                self._options,
                cursors=self._cursors,
                gc_floor=gc_floor,
                expired_us=expired_us,
                is_calm=is_calm,
            )
            if compaction is None:
                return None
            self._cursors[compaction.start_level] = compaction.inputs[0].smallest
        count = 0
        if not compaction.is_move:
            count = file_count_max(compaction, self._options.table_bytes)
        first = self._memtables.take_numbers(count)
        self._running = CompactTables(
            compaction,
            first,
            count,
            gc_floor,
            expired_us,
            self._memtables.origin(retired),
            wants_filter(self._memtables.version, compaction, self._options),
        )
        return self._running

    def _next_of_range(self) -> Compaction | None:
        memtables = self._memtables
        while self._asked:
            asked = self._asked[0]
            if asked.job is None:
                if asked.behind in (*memtables.frozen_numbers, memtables.active_number):
                    return None
                asked.job = RangeJob(asked.start, asked.end, memtables.next_file_number)
            step = pick_range(memtables.version, self._options, asked.job)
            if step is not None:
                compaction, asked.job = step
                return compaction
            self.done_ticket = self._asked.popleft().ticket
        return None

    def install(
        self,
        request: CompactTables,
        tables: tuple[TableMeta, ...],
        outcomes: tuple[Outcome, ...],
    ) -> None:
        """Log what became of the compaction under way and publish it.

        Shape:  outcomes of commits that clients may ask for (Memtables.install_edit).
        Raises: DiskFullError: may be called again; StorageError.
        """
        # A move that was under way when the compactor died was forgotten with everything else.
        if request == self._running:
            self._memtables.install_edit(request.compaction.edit(tables), outcomes)
            self._running = None
            if not request.compaction.is_move:
                self.read_bytes += request.compaction.input_bytes
                self.written_bytes += sum(table.file_bytes for table in tables)

    def give_up(self) -> None:
        """Forget the compaction under way, whose compactor is dead or has failed (T1)."""
        running, self._running = self._running, None
        if running is None:
            return
        first = running.first_file_number
        for number in range(first, first + running.file_count):
            remove_unneeded(self._fs, self._dir.table_paths(number))
