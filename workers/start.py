"""Start a service: shared pages, recovery, the first version, the commit loop.

The order matters: names and control page, recovery into new synced files, the new generation on
the control page, the first version, and only then clients. Whatever fails on the way, nothing was
lost or published.

Owner: the main thread of the coordinator process, which holds LOCK.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from ferrisdb.engine.open import DatabaseState, create_database, open_state
from ferrisdb.engine.pick import PickOptions
from ferrisdb.engine.recover import RecoveredLogs, recover_logs
from ferrisdb.errors import Error
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.kernel.commit import CommitLoop
from ferrisdb.kernel.readview import ReadView
from ferrisdb.kernel.table import Table
from ferrisdb.keys import CATALOGUE_IDS, prefix_end
from ferrisdb.options import Options
from ferrisdb.seams import Clock, FileSystem, Rng
from ferrisdb.shm.control import ControlPage
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from ferrisdb.shm.version_page import TableRef, VersionPage
from ferrisdb.workers.memtables import MappedMemtable, Memtables
from ferrisdb.workers.ports import Ports
from ferrisdb.workers.publisher import Publisher, table_refs
from ferrisdb.workers.tree import Tree

_log = logging.getLogger("ferrisdb.coordinator")


@dataclass(frozen=True, slots=True)
class Host:
    """What a service is given: its directory, its settings, its door to the system."""

    directory: DIR
    options: Options
    fs: FileSystem
    clock: Clock
    rng: Rng


@dataclass(frozen=True, slots=True)
class Pages:
    """The shared pages that outlive a generation, and the names of all segments."""

    names: SegmentNames
    page: ControlPage
    bell: Segment
    publisher: Publisher
    #: Made by this start: nobody has ever read through them.
    is_fresh: bool


@dataclass(slots=True)
class Parts:
    """A service that is ready to serve.

    Owner: the coordinator, which takes them apart again.
    """

    pages: Pages
    generation: int
    memtables: Memtables
    tree: Tree
    loop: CommitLoop
    ports: Ports


def start(host: Host, *, loop_writes: bool) -> Parts:
    """Recover the database and publish it under a new generation; the caller holds LOCK.

    Shape:  loop_writes, whether the commit loop writes and syncs the WAL itself.
    Raises: NotADatabaseError, FormatTooNewError, CorruptionError, StorageError,
            SharedMemoryFullError: nothing was lost or published.
    """
    directory = host.directory.path
    create_database(host.fs, directory, host.clock, host.rng)
    state = open_state(host.fs, directory)
    for name in state.moved_aside:
        _log.warning("moved aside to %s/lost: %s", directory, name)
    pages = _open_pages(host, state.database_id)
    try:
        return _publish(host, state, pages, _recover(host, state, pages), loop_writes=loop_writes)
    except Error:
        if pages.is_fresh:
            # Nobody reads through them, and a start that is refused may be the last for long.
            pages.names.sweep()
        raise


def _open_pages(host: Host, database_id: bytes) -> Pages:
    # The control page outlives generations: attached processes keep reading through it.
    names = SegmentNames.load_or_create(host.directory.path, database_id)
    nbytes = host.options.memtable_bytes
    bell_name, control_name = names.name("d", 0), names.name("k", 0)
    segment = Segment.open(control_name, writable=True)
    bell = Segment.open(bell_name, writable=True)
    page: ControlPage | None = None
    if segment is not None and bell is not None:
        try:
            found = ControlPage(segment)
            if found.database_id == database_id and not found.is_retired:
                page = found
        except Error:
            _log.warning("the control page of an earlier run is damaged: making a new one")
    fresh = page is None
    if page is None:
        names.sweep()
        names.record(control_name)
        names.record(bell_name)
        unlink_segment(control_name)
        unlink_segment(bell_name)
        bell = Segment.create(bell_name, layout.DOORBELL_BYTES)
        page = ControlPage.format(
            Segment.create(control_name, layout.CONTROL_BYTES),
            database_id=database_id,
            memtable_bytes=nbytes,
            batch_bytes_max=nbytes // 2,
        )
    assert bell is not None
    page.state = layout.STATE_STARTING
    page.memtable_bytes = nbytes
    page.batch_bytes_max = nbytes // 2
    page.coordinator_pid = os.getpid()
    publisher = Publisher(host.directory, host.fs, names, page)
    keep = {control_name, bell_name}
    publisher.inherit([] if fresh else [n for n in names.recorded if n not in keep])
    return Pages(names, page, bell, publisher, fresh)


def _recover(host: Host, state: DatabaseState, pages: Pages) -> RecoveredLogs[MappedMemtable]:
    nbytes = host.options.memtable_bytes

    def make_memtable(number: int) -> MappedMemtable:
        name = pages.names.name("m", number)
        pages.publisher.claim(name)
        return MappedMemtable.create(name, number, nbytes)

    recovered = recover_logs(
        host.fs,
        state,
        make_memtable=make_memtable,
        wal_bytes=nbytes + nbytes // 4,
        clock=host.clock,
        rng=host.rng,
        generation=pages.page.generation + 1,
    )
    if recovered.dropped_bytes:
        _log.info(
            "torn tail: %d bytes behind the last whole group dropped", recovered.dropped_bytes
        )
    return recovered


def _publish(
    host: Host,
    state: DatabaseState,
    pages: Pages,
    recovered: RecoveredLogs[MappedMemtable],
    *,
    loop_writes: bool,
) -> Parts:
    page, options = pages.page, host.options
    memtables = Memtables(
        host.directory,
        recovered,
        fs=host.fs,
        clock=host.clock,
        names=pages.names,
        publisher=pages.publisher,
        memtable_bytes=options.memtable_bytes,
        database_id=state.database_id,
        version=state.version,
    )
    tree = Tree(
        host.directory,
        host.fs,
        memtables,
        PickOptions(
            base_bytes=options.level_base_bytes,
            table_bytes=options.table_bytes,
            index_bytes=options.hash_index_bytes,
        ),
    )
    page.compacted_ticket = 0
    # C2: the new generation before its first commit; every snapshot of the old one is over.
    page.generation = recovered.generation
    # The version before its sequence: the old memtables may hold a part of the last group, and
    # who still reads them must not be shown up to its end.
    memtables.publish()
    page.visible_seq = recovered.last_seq
    page.ordered_seq = recovered.last_seq
    loop = CommitLoop(
        page.segment.view,
        pages.bell.view,
        generation=recovered.generation,
        visible_seq=recovered.last_seq,
        last_time_us=recovered.last_time_us,
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
    )
    loop.set_keyspaces(_live_keyspaces(host, state, recovered))
    memtables.serve(loop, loop_writes=loop_writes)
    ports = Ports(host.directory.path, pages.names, loop, recovered.generation, recovered.outcomes)
    return Parts(pages, recovered.generation, memtables, tree, loop, ports)


def _live_keyspaces(
    host: Host, state: DatabaseState, recovered: RecoveredLogs[MappedMemtable]
) -> list[int]:
    """Return the ids that the catalogue of key spaces holds, as of what was recovered."""

    def open_table(ref: TableRef) -> Table:
        path = host.directory.file(FileKind.TABLE, ref.number)
        return Table(path, path=path, file_number=ref.number)

    newest_first = [memtable.table for _, memtable in reversed(recovered.memtables)]
    page = VersionPage(0, recovered.generation, (), table_refs(state.version))
    view = ReadView(0, page, newest_first, open_table)
    found = view.keys(CATALOGUE_IDS, prefix_end(CATALOGUE_IDS), recovered.last_seq, 0)
    return [int.from_bytes(key[len(CATALOGUE_IDS) :], "big") for key in found]
