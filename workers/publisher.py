"""Publish versions, and remove what no version that anyone holds names.

The order of a publication: the version page is written whole, the epoch is stored (release), and
only then is anything that the new version lacks a candidate for removal. The order of a removal:
the slots are scanned after the epoch moved, what no pin holds is unlinked, then punched, so that
a process which still maps it keeps addresses and no memory.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ferrisdb.engine.retire import Pins, Resource, ResourceKind, Retirement
from ferrisdb.engine.version import Version
from ferrisdb.errors import StorageError
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.kernel.mapping import Mapping
from ferrisdb.seams import FileSystem, storage_error
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.shm.version_page import MemtableRef, TableRef, VersionPage, encode

_log = logging.getLogger("ferrisdb.coordinator")
Slots = Iterable[tuple[int, npt.NDArray[np.void]]]
_LETTERS = {ResourceKind.MEMTABLE: "m", ResourceKind.VERSION_PAGE: "v"}


class Publisher:
    """The versions of one service."""

    def __init__(
        self, directory: DIR, fs: FileSystem, names: SegmentNames, control: ControlPage
    ) -> None:
        self._directory = directory
        self._fs = fs
        self._names = names
        self._control = control
        self._retirement = Retirement()
        #: Segments of an earlier generation; they go when its epochs are pinned no more.
        self._leftovers: list[str] = []
        self._leftover_epoch = 0

    def inherit(self, recorded: Iterable[str]) -> None:
        """Keep what an earlier coordinator left until no reader holds its versions."""
        self._leftovers = list(recorded)
        self._leftover_epoch = self._control.epoch

    def claim(self, name: str) -> None:
        """Record a name whose segment is to be made now.

        An earlier coordinator may have died over the same one, a number that it had not logged or
        an epoch that it had not published: then it is ours from here on, and no leftover.

        Raises: StorageError: nothing may be made under the name yet.
        """
        if name in self._leftovers:
            self._leftovers.remove(name)
        try:
            self._names.record(name)
        except OSError as error:
            raise storage_error(error, self._directory.path) from error

    def publish(self, memtables: Sequence[MemtableRef], version: Version) -> None:
        """Make a version current.

        Shape:  memtables newest first.
        Raises: SharedMemoryFullError, StorageError: the former version stays.
        """
        epoch = self._control.epoch + 1
        page = encode(
            VersionPage(epoch, self._control.generation, tuple(memtables), table_refs(version))
        )
        name = self._names.name("v", epoch)
        self.claim(name)
        unlink_segment(name)
        segment = Segment.create(name, len(page))
        with segment.view as view:
            view[:] = page
        segment.close()
        self._control.epoch = epoch
        layout.fence_full()
        self._retirement.publish(epoch, (m.number for m in memtables), version.numbers())

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits for its last pin."""
        return bool(self._retirement.waiting or self._leftovers)

    def retired_tables(self) -> tuple[int, ...]:
        """Return the numbers of the tables that wait for their last pin."""
        return tuple(
            one.resource.number
            for one in self._retirement.waiting
            if one.resource.kind is ResourceKind.TABLE
        )

    def reclaim(self, pins: Pins) -> None:
        """Remove what no pin of a scan behind the last publication holds."""
        for resource in self._retirement.reclaim(pins):
            self._remove(resource)
        if self._leftovers:
            epochs = pins.epochs()
            if not len(epochs) or int(epochs[0]) > self._leftover_epoch:
                for name in self._leftovers:
                    self._remove_segment(name)
                self._leftovers = []

    def floor(self, slots: Callable[[], Slots]) -> int:
        """Raise the control page's floor as far as the snapshots allow; return a merge's.

        A flush or compaction drops what is shadowed by what everyone sees now, whatever old
        snapshots there are: these read the version that they pin, and whoever will read the
        merge's output loads its epoch first and then a sequence at or above this one
        (docs/adr/0006-merges-keep-nothing-for-old-snapshots.md).
        """
        visible = self._control.visible_seq
        self._control.gc_floor = Pins.collect(slots()).gc_floor(visible, self._control.gc_floor)
        return visible

    def retire_memtables(self, table_numbers: Iterable[int], slots: Slots) -> None:
        """Free every memtable that no pin holds; the epoch has been retired, nobody pins anew."""
        self._retirement.publish(self._control.epoch + 1, (), table_numbers)
        self.reclaim(Pins.collect(slots))

    def _remove(self, resource: Resource) -> None:
        if resource.kind is ResourceKind.TABLE:
            self._remove_table(resource.number)
        else:
            self._remove_segment(self._names.name(_LETTERS[resource.kind], resource.number))

    def _remove_segment(self, name: str) -> None:
        segment = Segment.open(name, writable=True)
        unlink_segment(name)
        # What can't be taken off the list, for want of space, does no harm on it.
        with contextlib.suppress(OSError):
            self._names.forget([name])
        if segment is not None:
            with contextlib.suppress(StorageError):
                segment.punch()
            segment.close()

    def _remove_table(self, number: int) -> None:
        # Punched only if its link count is zero after the unlink: a checkpoint may share it.
        path = self._directory.file(FileKind.TABLE, number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENOENT:
                _log.warning("table %d stays: %s", number, error)
            return
        try:
            try:
                self._fs.unlink(path)
            except StorageError as error:
                _log.warning("table %d stays until the next start: %s", number, error)
                return
            status = os.fstat(fd)
            if status.st_nlink == 0 and status.st_size:
                mapping = Mapping(fd, status.st_size, True)
                with contextlib.suppress(OSError):
                    mapping.punch()
                mapping.close()
        finally:
            os.close(fd)


def table_refs(version: Version) -> tuple[TableRef, ...]:
    """Return a version's tables as a version page names them."""
    return tuple(
        TableRef(
            number=t.number,
            file_bytes=t.file_bytes,
            level=t.level,
            min_seq=t.min_seq,
            max_seq=t.max_seq,
            smallest=t.smallest,
            largest=t.largest,
            unbounded=t.unbounded,
            has_ranges=t.range_delete_count > 0,
        )
        for t in version.tables()
    )
