"""Collect the figures that `Database.stats` shows, from shared memory alone."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ferrisdb.errors import Error
from ferrisdb.kernel import layout
from ferrisdb.service import Service
from ferrisdb.shm.client import SEQ_PLAIN_READ, copy_slots, metrics_of
from ferrisdb.shm.registry import RegistryReader
from ferrisdb.shm.segment import Segment
from ferrisdb.shm.version_page import VersionPage

if TYPE_CHECKING:
    from ferrisdb.database import Database

_STATES = {
    layout.STATE_STARTING: "starting",
    layout.STATE_RUNNING: "running",
    layout.STATE_STALLED: "stalled",
    layout.STATE_DISK_FULL: "disk full",
    layout.STATE_STOPPED: "stopped",
    layout.STATE_POISONED: "poisoned",
}


def collect(db: Database, service: Service, version: VersionPage) -> dict[str, Any]:
    """Return the figures of a database: service, memtables, tables, clients and their pins."""
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
    return {
        "path": db.path,
        "state": _STATES.get(page.state, str(page.state)),
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
        "clients": _clients(db, service),
        "this_handle": db.counters(),
    }


def _clients(db: Database, service: Service) -> list[dict[str, Any]]:
    """Return who is attached and what each pins."""
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
            held = slots[slots["epoch"] != 0]
            snapshots = held[held["seq"] != SEQ_PLAIN_READ]
            now_ns = time.monotonic_ns()
            rows.append(
                {
                    "index": entry.index,
                    "pid": entry.pid,
                    "this_process": entry.pid == os.getpid(),
                    "requests": int(metrics_of(segment)[1]),
                    "pins": len(held),
                    "oldest_pin_s": max(
                        (float(now_ns - int(born)) / 1e9 for born in held["born_ns"]), default=0.0
                    ),
                    "oldest_epoch": int(held["epoch"].min()) if len(held) else None,
                    "oldest_snapshot_seq": int(snapshots["seq"].min()) if len(snapshots) else None,
                }
            )
            segment.close()
    finally:
        registry.close()
    return rows
