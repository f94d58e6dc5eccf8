"""Collect the figures that `Database.stats` shows, from shared memory alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ferrisdb.errors import Error
from ferrisdb.kernel import layout
from ferrisdb.service import Service
from ferrisdb.shm import version_page
from ferrisdb.shm.client import (
    METRIC_CONNECTIONS_NOW,
    METRIC_READER,
    SEQ_PLAIN_READ,
    copy_slots,
    metrics_of,
)
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.registry import RegistryReader
from ferrisdb.shm.segment import Segment
from ferrisdb.shm.version_page import VersionPage
from ferrisdb.socket_path import connect_path

if TYPE_CHECKING:
    from ferrisdb.attached import Attached

_STATES = {
    layout.STATE_STARTING: "starting",
    layout.STATE_RUNNING: "running",
    layout.STATE_STALLED: "stalled",
    layout.STATE_DISK_FULL: "disk full",
    layout.STATE_STOPPED: "stopped",
    layout.STATE_POISONED: "poisoned",
    layout.STATE_MEMORY_FULL: "shared memory full",
}


def collect(db: Attached, version: VersionPage) -> dict[str, Any]:
    """Return the figures of a database: service, memtables, tables, clients and their pins.

    Shape: version, the current one or one that was current a moment ago.
    """
    service = db.service
    page = service.control
    handles = {m.number: m for m in db.view.memtables} if db.view is not None else {}
    memtables = []
    for ref in version.memtables:
        row: dict[str, Any] = {"number": ref.number, "bytes": ref.nbytes}
        handle = handles.get(ref.number)
        if handle is not None:
            row |= {"used_bytes": handle.used_bytes, "keys": handle.key_count}
            row |= {"versions": handle.version_count}
        memtables.append(row)
    levels: dict[str, dict[str, int]] = {}
    for table in version.tables:
        level = levels.setdefault(str(table.level), {"tables": 0, "bytes": 0})
        level["tables"] += 1
        level["bytes"] += table.file_bytes
    held_by = _Held(service, version)
    clients = _clients(db, service, held_by)
    return {
        "path": db.path,
        "state": _state(db.path, page.state),
        "coordinator_pid": page.coordinator_pid,
        "generation": page.generation,
        "epoch": page.epoch,
        "visible_seq": page.visible_seq,
        "gc_floor": page.gc_floor,
        "memtable_bytes": page.memtable_bytes,
        "shared_memory_bytes": sum(m.nbytes for m in version.memtables),
        "memtables": memtables,
        "table_count": len(version.tables),
        "table_bytes": sum(t.file_bytes for t in version.tables),
        "levels": levels,
        "at_rest": page.is_at_rest,
        "tree": asdict(page.figures),
        **held_by.totals(held_by.epochs),
        "socket": connect_path(db.path),
        "readers": sum("reader" in row for row in clients),
        "connections": sum(row.get("connections", 0) for row in clients),
        "clients": clients,
        "this_handle": db.counters(),
    }


def _state(path: str, state: int) -> str:
    # What a dead coordinator said last stands on its page; readers don't need it, and don't notice.
    if not DirectoryLock.is_held(path):
        return "no service runs"
    return _STATES.get(state, str(state))


def _clients(db: Attached, service: Service, held_by: _Held) -> list[dict[str, Any]]:
    """Return who is attached, what each pins, and what that keeps from being freed.

    A reader worker has its number as `reader`, and the count of its socket connections.
    """
    rows = []
    registry = RegistryReader(db.path, service.names)
    try:
        for entry in registry.entries():
            try:
                segment = Segment.open(entry.segment_name, writable=False)
            except Error:
                continue
            if segment is None:
                continue
            slots = copy_slots(segment)
            metrics = metrics_of(segment)
            row: dict[str, Any] = {
                "index": entry.index,
                "pid": entry.pid,
                "this_process": entry.pid == os.getpid(),
                "requests": int(metrics[1]),
            }
            if metrics[METRIC_READER]:
                row["reader"] = int(metrics[METRIC_READER]) - 1
                row["connections"] = int(metrics[METRIC_CONNECTIONS_NOW])
            del metrics
            segment.close()
            rows.append(row | _pins(slots, held_by, time.monotonic_ns()))
    finally:
        registry.close()
    return rows


def _pins(slots: npt.NDArray[np.void], held_by: _Held, now_ns: int) -> dict[str, Any]:
    """Return what stands in a client's slots, and what it costs."""
    # A revoked pin holds nothing; its reader has yet to notice.
    held = slots[(slots["epoch"] != 0) & (slots["revoked"] != slots["epoch"])]
    snapshots = [
        {
            "seq": int(slot["seq"]),
            "epoch": int(slot["epoch"]),
            "age_s": _age_s(slot, now_ns),
            **held_by.totals([int(slot["epoch"])]),
        }
        for slot in held
        if slot["seq"] != SEQ_PLAIN_READ
    ]
    epochs = sorted({int(epoch) for epoch in held["epoch"]})
    return {
        "pins": len(held),
        "oldest_pin_s": max((_age_s(slot, now_ns) for slot in held), default=0.0),
        "oldest_epoch": epochs[0] if epochs else None,
        "oldest_snapshot_seq": min((one["seq"] for one in snapshots), default=None),
        **held_by.totals(epochs),
        "snapshots": sorted(snapshots, key=lambda one: -one["age_s"]),
    }


def _age_s(slot: np.void, now_ns: int) -> float:
    return max(0.0, (now_ns - int(slot["born_ns"])) / 1e9)


class _Held:
    """What pinned epochs name and the current version does not: it is kept for them alone.

    A pinned epoch's version page stays as long as the pin, so all of it stands in shared memory.
    """

    def __init__(self, service: Service, current: VersionPage) -> None:
        self._names = service.names
        self._current = current
        self._pages: dict[int, VersionPage | None] = {current.epoch: current}

    @property
    def epochs(self) -> list[int]:
        """Every epoch that was asked for."""
        return list(self._pages)

    def totals(self, epochs: Sequence[int]) -> dict[str, int]:
        """Return how much these epochs hold together."""
        tables: dict[int, int] = {}
        memtables: dict[int, int] = {}
        for page in map(self._page, epochs):
            # One that was published since holds nothing yet.
            if page is not None and page.epoch < self._current.epoch:
                tables |= {table.number: table.file_bytes for table in page.tables}
                memtables |= {memtable.number: memtable.nbytes for memtable in page.memtables}
        for table in self._current.tables:
            tables.pop(table.number, None)
        for memtable in self._current.memtables:
            memtables.pop(memtable.number, None)
        return {
            "pinned_bytes": sum(tables.values()) + sum(memtables.values()),
            "pinned_tables": len(tables),
            "pinned_table_bytes": sum(tables.values()),
            "pinned_memtables": len(memtables),
            "pinned_memtable_bytes": sum(memtables.values()),
        }

    def _page(self, epoch: int) -> VersionPage | None:
        if epoch not in self._pages:
            page = None
            # Gone or punched meanwhile: then nobody pins it any more.
            with contextlib.suppress(Error):
                segment = Segment.open(self._names.name("v", epoch), writable=False)
                if segment is not None:
                    with segment.view as view:
                        page = version_page.decode(view)
                    segment.close()
            self._pages[epoch] = page
        return self._pages[epoch]
