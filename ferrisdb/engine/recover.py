"""Replay the WAL files into new memtables, and log that the old files are done with.

R1  Every WAL file but the newest with records is whole: a file is synced before its successor
    takes a record, and the successor's opening record says how long it was (format/wal.py, W2).
R2  Sequence numbers go on from file to file without a gap; all files are of one generation.
R3  What is replayed is written to new files, sealed anew, and synced, names included, before the
    edit that makes them the log is synced; only then are the old files unlinked. So a crash at
    any point leaves one set of files that the MANIFEST means, and copies that the next start
    recognises by their generation (open.py, O3).
R4  The records of a memtable's WAL file are exactly the records in the memtable.

Owner: the coordinator, under LOCK, before anything is published.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from ferrisdb.engine.open import DatabaseState
from ferrisdb.engine.wal_files import OpenWal
from ferrisdb.errors import CorruptionError, StorageError
from ferrisdb.format import wal
from ferrisdb.format.edit import Outcome, VersionEdit
from ferrisdb.format.filenames import FileKind
from ferrisdb.format.manifest import ManifestWriter
from ferrisdb.kernel.walscan import REPAIR_ADVICE, WalScan, outcomes, reseal
from ferrisdb.seams import Clock, File, FileSystem, Rng

RESEAL_BYTES: Final = 1 << 20
MANIFEST_ROTATE_BYTES: Final = 1 << 20


class ReplayTarget(Protocol):
    """A new memtable that takes records."""

    def apply_records(self, buffer: bytes, start: int, end: int) -> int:
        """Apply the whole records in buffer[start:end], in order, while there is room.

        Returns: the offset of the first record not applied for lack of room; `end` if none.
        """


Target = TypeVar("Target", bound=ReplayTarget)


@dataclass(frozen=True, slots=True)
class RecoveredLogs(Generic[Target]):
    """The memtables, the log and what the coordinator must know to go on.

    `memtables`: (number, memtable), oldest first; the last one is active, and `wal` is its file.
    `frozen_ends`: end of the records in the WAL files of the others, by number.
    `outcomes`: what is known of requests that their client has not seen answered.
    """

    memtables: tuple[tuple[int, Target], ...]
    frozen_ends: dict[int, int]
    wal: OpenWal
    manifest: ManifestWriter
    generation: int
    next_file_number: int
    last_seq: int
    last_time_us: int
    outcomes: dict[bytes, dict[int, Outcome]]
    record_count: int
    dropped_records: int
    dropped_bytes: int


def recover_logs(
    fs: FileSystem,
    state: DatabaseState,
    *,
    make_memtable: Callable[[int], Target],
    wal_bytes: int,
    clock: Clock,
    rng: Rng,
    generation: int = 0,
) -> RecoveredLogs[Target]:
    """Bring back what the WAL files hold, and start a new generation.

    Shape:   wal_bytes, capacity of each new file (more where the replayed records need it);
             generation, the least that the new one may be.
    Raises:  CorruptionError by R1, R2 and format/wal.py; StorageError, also where one record does
             not fit a new memtable. The directory then still holds what it held.
    Durable: yes; the new generation's edit is synced.
    Cost:    reads every WAL file once, one at a time in memory; writes as much, and zeros.
    """
    writer = _Rewriter(
        fs, state, make_memtable, wal_bytes, clock, rng, max(generation, state.generation + 1)
    )
    manifest: ManifestWriter | None = None
    try:
        replay = _Replay(state)
        for number in state.wal_numbers:
            replay.file(fs, number, writer)
        last_seq = replay.last_seq()
        writer.finish(last_seq + 1, replay.last_time_us)
        fs.sync_dir(state.directory.path)
        manifest = _log_edit(fs, state, writer, last_seq, clock)
        for number in state.wal_numbers:
            fs.unlink(state.directory.file(FileKind.WAL, number))
        active = writer.active()
    except BaseException:
        writer.close()
        if manifest is not None:
            manifest.close()
        raise
    return RecoveredLogs(
        memtables=tuple(writer.memtables),
        frozen_ends={number: end for number, end in writer.ends.items() if number != writer.number},
        wal=active,
        manifest=manifest,
        generation=writer.generation,
        next_file_number=writer.next_number,
        last_seq=last_seq,
        last_time_us=replay.last_time_us,
        outcomes=replay.outcomes(),
        record_count=replay.record_count,
        dropped_records=replay.dropped_records,
        dropped_bytes=replay.dropped_bytes,
    )


def check_logs(fs: FileSystem, state: DatabaseState) -> None:
    """Raise what recover_logs would raise of the WAL files; changes nothing."""
    replay = _Replay(state)
    for number in state.wal_numbers:
        replay.file(fs, number, _Nowhere())


class _Taker(Protocol):
    def add(self, buffer: bytes, start: int, found: WalScan, opening: wal.Opening) -> None: ...


class _Nowhere:
    """Takes records and does nothing with them."""

    def add(self, buffer: bytes, start: int, found: WalScan, opening: wal.Opening) -> None:
        del buffer, start, found, opening


class _Replay:
    """Walks the old files in order and holds what must agree between them."""

    def __init__(self, state: DatabaseState) -> None:
        self._state = state
        self._last: tuple[int, int, int] | None = None  # number, end, next sequence
        self._unanswered: dict[bytes, int] = {}
        self._rows: list[Outcome] = list(state.outcomes)
        for one in state.outcomes:
            self._note(one.client_id, one.unanswered_no)
        self.last_time_us = 0
        self.record_count = 0
        self.dropped_records = 0
        self.dropped_bytes = 0

    def file(self, fs: FileSystem, number: int, writer: _Taker) -> None:
        """Check one file against its predecessors and replay its records."""
        state = self._state
        path = state.directory.file(FileKind.WAL, number)
        buffer = fs.read_all(path)
        header = wal.decode_file_header(
            buffer, path, file_number=number, database_id=state.database_id
        )
        if header.generation != state.generation:
            raise CorruptionError(path, 88, f"generation {state.generation}", header.generation)
        found = wal.scan_file(buffer, header, path)
        self.dropped_records += found.dropped_records
        self.dropped_bytes += found.dropped_bytes
        opening = wal.read_opening(buffer, found, path)
        if opening is None:
            return
        self._check_opening(path, opening)
        start = found.offsets[0] + wal.OPENING_RECORD_BYTES
        writer.add(buffer, start, found, opening)
        self._last = (number, found.valid_end, found.next_seq)
        self.last_time_us = max(self.last_time_us, found.time_us_max)
        self.record_count += found.record_count - 1
        unanswered, rows = outcomes(buffer, found.offsets)
        for client_id, unanswered_no in unanswered.items():
            self._note(client_id, unanswered_no)
        self._rows += (Outcome(*row) for row in rows)

    def _check_opening(self, path: str, opening: wal.Opening) -> None:
        # R1 and R2: the file before this one is as long as it was when this one took over.
        at, state = wal.FIRST_RECORD_OFFSET, self._state
        before = (opening.predecessor_number, opening.predecessor_end, opening.next_seq)
        if self._last is None:
            if opening.predecessor_number >= max(state.log_number, 1):
                missing = state.directory.file(FileKind.WAL, opening.predecessor_number)
                raise CorruptionError(
                    missing,
                    0,
                    f"records up to byte {opening.predecessor_end}",
                    "none",
                    REPAIR_ADVICE,
                )
        elif self._last != before:
            number, end, _ = self._last
            if number != opening.predecessor_number:
                raise CorruptionError(
                    path, at, f"a file that follows {number}", f"one that follows {before[0]}"
                )
            older = state.directory.file(FileKind.WAL, number)
            raise CorruptionError(
                older, end, f"records up to byte {before[1]}", f"up to byte {end}", REPAIR_ADVICE
            )

    def _note(self, client_id: bytes, unanswered_no: int) -> None:
        self._unanswered[client_id] = max(self._unanswered.get(client_id, 0), unanswered_no)

    def last_seq(self) -> int:
        """Return the highest sequence number in use.

        Numbers of a torn tail were given out too, but in the old generation, and nothing that
        bears them is left.
        """
        if self._last is not None:
            return self._last[2] - 1
        tables = (table.max_seq for table in self._state.version.tables())
        return max(self._state.last_seq, *tables, 0)

    def outcomes(self) -> dict[bytes, dict[int, Outcome]]:
        """Return the outcomes that a client may still ask for."""
        table: dict[bytes, dict[int, Outcome]] = {}
        for one in self._rows:
            if one.request_no >= self._unanswered[one.client_id]:
                table.setdefault(one.client_id, {})[one.request_no] = one
        return table


class _Rewriter(Generic[Target]):
    """Fills new memtables and, beside each, its WAL file (R4)."""

    def __init__(
        self,
        fs: FileSystem,
        state: DatabaseState,
        make_memtable: Callable[[int], Target],
        wal_bytes: int,
        clock: Clock,
        rng: Rng,
        generation: int,
    ) -> None:
        self._fs = fs
        self._state = state
        self._make_memtable = make_memtable
        self._wal_bytes = wal_bytes
        self._clock = clock
        self._rng = rng
        self._file: File | None = None
        self._salt = 0
        self._base_seq = 0
        self._end = 0
        self.generation = generation
        self.next_number = state.next_file_number
        self.number = 0
        self.memtables: list[tuple[int, Target]] = []
        self.ends: dict[int, int] = {}

    def add(self, buffer: bytes, start: int, found: WalScan, opening: wal.Opening) -> None:
        """Take the records from start to the end of what the scan found."""
        end, next_seq = found.valid_end, opening.next_seq
        while start < end:
            if self._file is None:
                self._begin(next_seq, opening.time_us)
            number, target = self.memtables[-1]
            stop = target.apply_records(buffer, start, end)
            if stop == start:
                if self._end == wal.FIRST_RECORD_OFFSET + wal.OPENING_RECORD_BYTES:
                    raise StorageError(
                        errno.EFBIG,
                        "a logged batch does not fit a new memtable; raise memtable_bytes to what "
                        "it was when the batch was written",
                        self._state.directory.file(FileKind.WAL, number),
                    )
                self._seal()
                continue
            self._copy(buffer, start, stop, found.offsets)
            start = stop
            if start < end:
                next_seq = int.from_bytes(buffer[start + 8 : start + 16], "little")
                self._seal()

    def finish(self, next_seq: int, time_us: int) -> None:
        """Complete the last file; make one if there were no records at all."""
        if self._file is None:
            self._begin(next_seq, time_us)
        self._seal()

    def active(self) -> OpenWal:
        """Open the last file for the commit loop."""
        path = self._state.directory.file(FileKind.WAL, self.number)
        file = self._fs.open_rw(path)
        return OpenWal(file, self.number, self._salt, self._end, file.size())

    def close(self) -> None:
        """Give up; what was written is removed at the next start."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _header(self, synced_end: int) -> bytes:
        return wal.encode_file_header(
            file_number=self.number,
            database_id=self._state.database_id,
            created_us=self._clock.wall_us(),
            salt=self._salt,
            base_seq=self._base_seq,
            generation=self.generation,
            synced_end=synced_end,
        )

    def _begin(self, next_seq: int, time_us: int) -> None:
        predecessor, predecessor_end = self.number, self._end
        self.number, self.next_number = self.next_number, self.next_number + 1
        self._salt, self._base_seq = self._rng.u64(), next_seq
        opening = wal.Opening(next_seq, time_us, predecessor, predecessor_end)
        path = self._state.directory.temporary(FileKind.WAL, self.number)
        self._file = self._fs.create(path)
        self._file.append(self._header(wal.FIRST_RECORD_OFFSET))
        self._file.append(wal.encode_opening(opening, self._salt))
        self._end = self._file.size()
        self.memtables.append((self.number, self._make_memtable(self.number)))

    def _copy(self, buffer: bytes, start: int, stop: int, offsets: Sequence[int]) -> None:
        # In pieces, so that a log is in private memory once and not twice.
        if self._file is None:
            raise RuntimeError("no WAL file has been begun")
        while start < stop:
            piece_end = stop
            if stop - start > RESEAL_BYTES:
                # The last record that begins within the piece; a larger one goes whole.
                index = bisect_right(offsets, start + RESEAL_BYTES) - 1
                if offsets[index] <= start:
                    index += 1
                if index < len(offsets):
                    piece_end = min(stop, offsets[index])
            # Each record says that what stands before it is durable; the header says the rest.
            sealed = reseal(buffer, start, piece_end, self._end, self._salt, (1 << 63) - 1)
            self._file.append(sealed)
            self._end += len(sealed)
            start = piece_end

    def _seal(self) -> None:
        file = self._file
        if file is None:
            raise RuntimeError("no WAL file has been begun")
        directory = self._state.directory
        # Every byte up to here is synced before the file has its name, and the header says so.
        file.pwrite(self._header(self._end), 0)
        file.allocate_zeroed(max(self._wal_bytes, self._end))
        file.close()
        self._file = None
        self._fs.rename(
            directory.temporary(FileKind.WAL, self.number),
            directory.file(FileKind.WAL, self.number),
        )
        self.ends[self.number] = self._end


def _log_edit(
    fs: FileSystem,
    state: DatabaseState,
    writer: _Rewriter[Target],
    last_seq: int,
    clock: Clock,
) -> ManifestWriter:
    # The moment at which the new files become the log (R3).
    log_number = writer.memtables[0][0]
    rotate = bool(state.manifest.anomaly) or state.manifest.valid_end > MANIFEST_ROTATE_BYTES
    number = writer.next_number
    edit = VersionEdit(
        next_file_number=number + rotate,
        last_seq=last_seq,
        log_number=log_number,
        generation=writer.generation,
    )
    writer.next_number += rotate
    if not rotate:
        manifest = ManifestWriter.open(fs, state.directory, state.manifest)
        try:
            manifest.append(edit)
        except BaseException:
            manifest.close()
            raise
        return manifest
    manifest = ManifestWriter.create(
        fs,
        state.directory,
        number=number,
        database_id=state.database_id,
        snapshot=replace(
            edit,
            database_id=state.database_id,
            added=state.version.tables(),
            outcomes=state.outcomes,
        ),
        clock=clock,
    )
    try:
        fs.unlink(state.manifest.path)
    except BaseException:
        manifest.close()
        raise
    return manifest
