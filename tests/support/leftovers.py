"""See that a database directory holds no file that nothing needs."""

from __future__ import annotations

import time
from pathlib import Path

import ferrisdb

WAIT_S = 30.0


def table_numbers(db: ferrisdb.Database) -> set[int]:
    """Return the numbers of the tables of the version that is current now."""
    with db.snapshot() as snapshot:
        return {table.number for table in snapshot.version.tables}


def leftovers(db: ferrisdb.Database) -> list[str]:
    """Return the files that stay though nothing names them; waits for those that are to go.

    Nobody writes and nobody holds a snapshot meanwhile. Named are: the version's tables, the WAL
    files of its memtables, one WAL file that is prepared and one that waits to be used again.
    """
    folder = Path(db.path)
    give_up = time.monotonic() + WAIT_S
    while True:
        found = _unnamed(folder, db)
        if not found or time.monotonic() > give_up:
            return found
        time.sleep(0.005)


def _unnamed(folder: Path, db: ferrisdb.Database) -> list[str]:
    with db.snapshot() as snapshot:
        tables = {f"{table.number:06}.sst" for table in snapshot.version.tables}
        memtables = {f"{memtable.number:06}.wal" for memtable in snapshot.version.memtables}
    names = {path.name for path in folder.iterdir()}
    found = {name for name in names if name.endswith(".tmp")}
    found |= {name for name in names if name.endswith(".sst")} - tables
    logs = {name for name in names if name.endswith(".wal")} - memtables
    prepared = {name for name in logs if name > max(memtables)}
    if len(prepared) > 1:
        found |= prepared
    if len(logs - prepared) > 1:
        found |= logs - prepared
    if len([name for name in names if name.startswith("MANIFEST-")]) != 1:
        found |= {name for name in names if name.startswith("MANIFEST-")}
    return sorted(found)
