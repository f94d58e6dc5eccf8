"""Keep the memtables of a running service, each with its WAL file, and what the MANIFEST says.

One memtable is active: the commit loop adds to it and to the WAL file of the same number. The
others are frozen and wait for their flush, oldest first. Rotation and installation move the
borders; each ends with the publication of a version.

DiskFullError and SharedMemoryFullError leave all as it was before the call, which may be made
again when there is space. Any other StorageError that leaves a method here means that the log
can't be relied on any more: the coordinator stops and recovers.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from dataclasses import replace

from ferrisdb.engine.recover import RecoveredLogs
from ferrisdb.engine.version import Version
from ferrisdb.engine.wal_files import OpenWal, WalOwner, activate
from ferrisdb.errors import DiskFullError, SharedMemoryFullError, StorageError
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.format.sstable import TableOrigin
from ferrisdb.format.wal import (
    CLOSING_RECORD_BYTES,
    FIRST_RECORD_OFFSET,
    Opening,
    encode_closing,
)
from ferrisdb.kernel.commit import CommitLoop
from ferrisdb.kernel.memtable import Memtable, MemtableWriter
from ferrisdb.seams import Clock, FileSystem
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.shm.version_page import MemtableRef
from ferrisdb.workers.messages import FlushMemtable, PrepareMemtable
from ferrisdb.workers.publisher import Publisher

MANIFEST_ROTATE_BYTES = 1 << 20


def remove_unneeded(fs: FileSystem, paths: Iterable[str]) -> None:
    """Remove files that nothing names, those of them that are there."""
    for path in paths:
        try:
            if fs.exists(path):
                fs.unlink(path)
        except StorageError:
            continue  # the next start removes it


class MappedMemtable:
    """A memtable's segment and kernel handle."""

    __slots__ = ("number", "segment", "table")

    def __init__(self, number: int, segment: Segment, table: Memtable) -> None:
        self.number = number
        self.segment = segment
        self.table = table

    @classmethod
    def create(cls, name: str, number: int, nbytes: int) -> MappedMemtable:
        """Make an empty one for recovery, under a name that has been claimed.

        Raises: SharedMemoryFullError, StorageError: there is none.
        """
        unlink_segment(name)
        segment = Segment.create(name, nbytes)
        # Snapshots of an earlier generation are refused, so no judgement asks how far back a
        # recovered memtable's history reaches.
        return cls(number, segment, MemtableWriter(segment.view, number, 1))

    def apply_records(self, buffer: bytes, start: int, end: int) -> int:
        """Replay, for recovery (engine.recover.ReplayTarget)."""
        if not isinstance(self.table, MemtableWriter):
            raise TypeError("only a writer takes records")
        return self.table.apply_records(buffer, start, end)

    def ref(self) -> MemtableRef:
        """Return how a version page names it."""
        return MemtableRef(self.number, self.segment.nbytes, self.table.first_seq)

    def close(self) -> None:
        """Unmap it."""
        self.table.close()
        self.segment.close()


class Memtables:
    """The active memtable, the frozen ones, their WAL files and the MANIFEST."""

    def __init__(
        self,
        directory: DIR,
        recovered: RecoveredLogs[MappedMemtable],
        *,
        fs: FileSystem,
        clock: Clock,
        names: SegmentNames,
        publisher: Publisher,
        memtable_bytes: int,
        database_id: bytes,
        version: Version,
    ) -> None:
        """Take over what recovery has made; `publish` and `serve` come next."""
        self._dir = directory
        self._fs, self._clock, self._names = fs, clock, names
        self._publisher = publisher
        self._memtable_bytes = memtable_bytes
        self._wal_bytes = memtable_bytes + memtable_bytes // 4
        self._database_id = database_id
        self._owner = WalOwner(database_id, recovered.generation)
        self._manifest = recovered.manifest
        self._version = version
        self._next_file_number = recovered.next_file_number
        self._frozen = [memtable for _, memtable in recovered.memtables[:-1]]
        self._active = recovered.memtables[-1][1]
        self._recyclable: list[int] = []
        #: Given to the preparation under way, to be used again.
        self._recycling: int | None = None
        self._making: int | None = None
        #: Number of the table that the flush under way writes.
        self._flushing: int | None = None
        #: The next active memtable while a rotation to it has been begun and not succeeded.
        self._incoming: MappedMemtable | None = None
        #: Whether the published version lacks what the MANIFEST says.
        self.is_unpublished = False
        #: The file that takes records.
        self.wal: OpenWal = recovered.wal
        #: Bytes of the tables that flushes wrote.
        self.flushed_bytes = 0
        # Records of this service in earlier WAL files, less what was in the first before it.
        self._earlier_log_bytes = -recovered.wal.append_offset
        # Places in the log, as (file number, offset): where it was at the last look, and where
        # nothing is left to prove. What recovery has put there is proved by the file's header.
        self._looked_at = (0, 0)
        self._closed_at = (recovered.wal.number, recovered.wal.append_offset)

    @property
    def active_number(self) -> int:
        """Number of the memtable that takes writes."""
        return self._active.number

    @property
    def frozen_numbers(self) -> tuple[int, ...]:
        """Numbers of those that wait for their flush, oldest first."""
        return tuple(memtable.number for memtable in self._frozen)

    @property
    def version(self) -> Version:
        """The tables, as the MANIFEST says."""
        return self._version

    @property
    def next_file_number(self) -> int:
        """No file has this number or a higher one."""
        return self._next_file_number

    @property
    def has_writes(self) -> bool:
        """Whether the active memtable holds anything."""
        return self._loop.visible_seq >= self._active.table.first_seq

    @property
    def log_bytes(self) -> int:
        """Bytes of records that this service has written to WAL files."""
        return self._earlier_log_bytes + self._loop.wal_offset

    def publish(self) -> None:
        """Publish memtables and tables as they are now.

        Raises: SharedMemoryFullError, StorageError: the former version stays.
        """
        newest_first = [self._active, *reversed(self._frozen)]
        if self._incoming is not None:
            newest_first.insert(0, self._incoming)
        self._publisher.publish([m.ref() for m in newest_first], self._version)
        self.is_unpublished = False

    def _publish_soon(self) -> None:
        # The former version is as right, and what it names is still there.
        try:
            self.publish()
        except (DiskFullError, SharedMemoryFullError):
            self.is_unpublished = True

    def table_numbers(self) -> frozenset[int]:
        """Return the file numbers of the current version's tables."""
        return self._version.numbers()

    def serve(self, loop: CommitLoop, *, loop_writes: bool) -> None:
        """Have the loop append to the active memtable and its WAL file, which recovery has synced.

        Shape:  loop_writes, whether it writes and syncs the file itself, or its caller does.
        """
        self._loop, self._loop_writes = loop, loop_writes
        self._set_log(self.wal.append_offset)

    def _set_log(self, synced_to: int) -> None:
        writer = self._active.table
        assert isinstance(writer, MemtableWriter)
        self._loop.set_log(
            writer,
            self.wal.file.fileno() if self._loop_writes else -1,
            salt=self.wal.salt,
            offset=self.wal.append_offset,
            synced_to=synced_to,
            capacity=self.wal.capacity,
            history=[m.table for m in self._frozen],
        )

    # The log's end

    def close_quiet_log(self) -> bool:
        """Close the log once all of it is durable and nobody has written since the last call.

        Returns: whether it is closed, so that there is nothing to sync.
        Raises:  StorageError.
        """
        place = (self.wal.number, self._loop.wal_offset)
        if place == self._closed_at:
            return True
        is_quiet, self._looked_at = place == self._looked_at, place
        if not is_quiet or self._loop.wal_synced < self._loop.wal_offset:
            return False
        self.close_log()
        return True

    def close_log(self) -> None:
        """Say at the log's end that all before it is durable, which it is (format/wal.py, W5).

        Raises: StorageError.
        """
        loop, wal = self._loop, self.wal
        here = (wal.number, loop.wal_offset)
        if here != self._closed_at and loop.wal_offset + CLOSING_RECORD_BYTES <= wal.capacity:
            record = encode_closing(
                loop.wal_offset, loop.visible_seq + 1, loop.last_time_us, wal.salt
            )
            try:
                wal.file.pwrite(record, loop.wal_offset)
            except DiskFullError:
                return  # without it the log is as good as before; the next group goes over it
            loop.closed(len(record))
        self._closed_at = (wal.number, loop.wal_offset)

    # For the compactor

    def preparation(self) -> PrepareMemtable:
        """Return the request for the next memtable and its WAL file.

        A number is asked for until it succeeds: a file half made is overwritten by the next try.

        Raises: StorageError.
        """
        if self._making is None:
            number = self._new_file_number()
            self._publisher.claim(self._names.name("m", number))
            self._making = number
        recycle = self._take_recyclable()
        return PrepareMemtable(
            number=self._making,
            segment_bytes=self._memtable_bytes,
            wal_bytes=self._wal_bytes,
            base_seq=self._loop.visible_seq + 1,
            recycle_number=recycle,
        )

    def _take_recyclable(self) -> int:
        """Return the number of an old WAL file that can be used again, 0 if there is none."""
        unused, self._recycling = self._recycling, None
        if unused is not None and self._fs.exists(self._dir.file(FileKind.WAL, unused)):
            # Whoever was to use it died or failed before.
            self._recyclable.insert(0, unused)
        while self._recyclable:
            candidate = self._recyclable.pop()
            path = self._dir.file(FileKind.WAL, candidate)
            if not self._fs.exists(path):
                continue
            if self._fs.size(path) == self._wal_bytes:
                self._recycling = candidate
                return candidate
            remove_unneeded(self._fs, [path])
        return 0

    def prepared(self) -> None:
        """Note that the preparation succeeded."""
        self._making = self._recycling = None

    def flush_of(self, number: int, gc_floor: int, retired: tuple[int, ...] = ()) -> FlushMemtable:
        """Return the request to flush a frozen memtable."""
        self._flushing = self._new_file_number()
        return FlushMemtable(number, self._flushing, gc_floor, self.origin(retired))

    def give_up_flush(self) -> None:
        """Remove what a flush has left whose compactor is dead or has failed: no one names it."""
        number, self._flushing = self._flushing, None
        if number is not None:
            remove_unneeded(self._fs, self._dir.table_paths(number))

    def origin(self, retired: tuple[int, ...]) -> TableOrigin:
        """Return what a table that is to be written now says of the files that are done with."""
        log_number = (*self.frozen_numbers, self.active_number)[0]
        return TableOrigin(retired=retired, log_number=log_number)

    def take_numbers(self, count: int) -> int:
        """Give out that many file numbers; returns the first."""
        first = self._next_file_number
        self._next_file_number += count
        return first

    def _new_file_number(self) -> int:
        number = self._next_file_number
        self._next_file_number += 1
        return number

    # What moves the borders

    def rotate(self, number: int) -> None:
        """Freeze the active memtable and go on with the prepared one.

        Raises: DiskFullError, SharedMemoryFullError: to be called again with the same number, and
                no commit in between; StorageError. No background sync may be under way.
        """
        self._loop.link_all()
        # L2 of engine/wal_files.py: synced before its successor takes a record.
        self.wal.file.datasync()
        first_seq = self._loop.visible_seq + 1
        if self._incoming is None:
            self._incoming = self._open_prepared(number, first_seq)
        # C4: named by the current version before any commit in it is visible.
        self.publish()
        wal = activate(
            self._fs,
            self._dir,
            number=number,
            owner=self._owner,
            opening=Opening(
                first_seq, self._loop.last_time_us, self.wal.number, self._loop.wal_offset
            ),
        )
        self.wal.file.close()
        self._earlier_log_bytes += self._loop.wal_offset
        self.wal = wal
        self._frozen.append(self._active)
        self._active, self._incoming = self._incoming, None
        # Not even the opening record is durable yet.
        self._set_log(FIRST_RECORD_OFFSET)
        self._earlier_log_bytes -= self.wal.append_offset

    def _open_prepared(self, number: int, first_seq: int) -> MappedMemtable:
        segment = Segment.open(
            self._names.name("m", number), writable=True, bytes_expected=self._memtable_bytes
        )
        if segment is None:
            raise StorageError(errno.ENOENT, f"the prepared memtable {number} is gone")
        return MappedMemtable(number, segment, MemtableWriter(segment.view, number, first_seq))

    def install(self, number: int, table: TableMeta | None, outcomes: tuple[Outcome, ...]) -> None:
        """Log that a memtable stands in a table now, and publish the version that says so.

        Shape:  outcomes, all that may be asked for: the log that tells them is given up here.
        Raises: DiskFullError, nothing is logged; StorageError.
        """
        flushed = next(m for m in self._frozen if m.number == number)
        rest = [m for m in self._frozen if m is not flushed]
        edit = VersionEdit(
            next_file_number=self._next_file_number,
            last_seq=self._loop.visible_seq,
            log_number=rest[0].number if rest else self._active.number,
            added=() if table is None else (table,),
            outcomes=outcomes,
        )
        self._version = self._log_edit(edit, outcomes)
        self._flushing = None
        self._frozen = rest
        self.flushed_bytes += 0 if table is None else table.file_bytes
        self._publish_soon()
        self._loop.set_history([m.table for m in rest])
        flushed.close()
        self._recyclable.append(number)
        # At most one is worth keeping: the next preparation takes it.
        for old in self._recyclable[:-1]:
            # The next start removes what can't be removed now.
            with contextlib.suppress(DiskFullError):
                self._fs.unlink(self._dir.file(FileKind.WAL, old))
        del self._recyclable[:-1]

    def install_edit(self, change: VersionEdit, outcomes: tuple[Outcome, ...]) -> None:
        """Log that tables take the place of others, and publish the version that says so.

        Shape:  outcomes, all that may be asked for, in case that a new MANIFEST is begun.
        Raises: DiskFullError, nothing is logged; StorageError.
        """
        edit = replace(
            change,
            next_file_number=self._next_file_number,
            last_seq=self._loop.visible_seq,
            log_number=(*self.frozen_numbers, self.active_number)[0],
        )
        self._version = self._log_edit(edit, outcomes)
        self._publish_soon()

    def _log_edit(self, edit: VersionEdit, outcomes: tuple[Outcome, ...]) -> Version:
        version = self._version.apply(edit)
        if self._manifest.size() > MANIFEST_ROTATE_BYTES:
            try:
                self._rotate_manifest(edit, version.as_edit(), outcomes)
            except DiskFullError:
                pass  # the old one may grow a little further
            else:
                return version
        self._manifest.append(edit)
        return version

    def _rotate_manifest(
        self, edit: VersionEdit, tables: tuple[TableMeta, ...], outcomes: tuple[Outcome, ...]
    ) -> None:
        number = self._new_file_number()
        snapshot = VersionEdit(
            database_id=self._database_id,
            next_file_number=self._next_file_number,
            last_seq=edit.last_seq,
            log_number=edit.log_number,
            generation=self._owner.generation,
            added=tables,
            outcomes=outcomes,
        )
        self._manifest.rotate(number=number, snapshot=snapshot, clock=self._clock)

    # Leaving

    def close_files(self) -> None:
        """Close WAL file and MANIFEST; durable: nothing more than before."""
        self.wal.file.close()
        self._manifest.close()

    def unmap(self) -> None:
        """Unmap every memtable and leave the names."""
        del self._loop
        incoming = [] if self._incoming is None else [self._incoming]
        for memtable in [*incoming, self._active, *self._frozen]:
            memtable.close()
        self._frozen = []
