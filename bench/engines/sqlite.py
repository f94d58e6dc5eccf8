"""SQLite through the standard library: one table in WAL mode; one process writes at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ferrisdb.bench.engines.base import OS, Engine, Pairs

TIMEOUT_S: Final = 60.0
MAP_BYTES: Final = 4 << 30
CACHE_KIB: Final = 64 << 10

TABLE: Final = "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB)"
ROW_BYTES_WITHOUT_ROWID: Final = 200
"""Above it a table WITHOUT ROWID is slower: SQLite's documentation names a twentieth of a page."""
GET: Final = "SELECT value FROM rows WHERE key = ?"
PUT: Final = "INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class Sqlite(Engine):
    """One connection."""

    name = "sqlite3"
    title = "SQLite"
    setup = (
        "one table, WITHOUT ROWID for values below 200 bytes; WAL mode, mmap_size 4 GiB, cache_size"
        " 64 MiB"
    )

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        value_bytes = (settings or {}).get("value_bytes", 0)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "rows.sqlite")
        self.connection = sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None)
        self._execute = execute = self.connection.execute
        execute("PRAGMA journal_mode=WAL")
        execute(f"PRAGMA synchronous={'NORMAL' if durability == OS else 'FULL'}")
        execute(f"PRAGMA mmap_size={MAP_BYTES}")
        execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        execute(TABLE + " WITHOUT ROWID" * (value_bytes < ROW_BYTES_WITHOUT_ROWID))

    @classmethod
    @contextmanager
    def served(cls, folder: str, settings: dict[str, Any] | None = None) -> Iterator[None]:
        """Make the database: several clients that do so at once get in each other's way."""
        cls(folder, settings).close()
        yield

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return f"it is committed: synchronous={'NORMAL' if durability == OS else 'FULL'}"

    @classmethod
    def version(cls) -> str:
        """Return the library's version."""
        return sqlite3.sqlite_version

    def get(self, key: bytes) -> bytes | None:
        """Return a value."""
        row = self._execute(GET, (key,)).fetchone()
        return None if row is None else row[0]

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        self._execute(PUT, (key, value))

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        self._execute("BEGIN IMMEDIATE")
        try:
            self.connection.executemany(PUT, rows)
        except sqlite3.Error:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    def delete(self, key: bytes) -> None:
        """Delete a row."""
        self._execute("DELETE FROM rows WHERE key = ?", (key,))

    def multi_get(self, keys: list[bytes]) -> Pairs:
        """Return the pairs found."""
        marks = ",".join("?" * len(keys))
        return self._execute(f"SELECT key, value FROM rows WHERE key IN ({marks})", keys).fetchall()

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        found = self._execute(
            "SELECT key, value FROM rows WHERE key >= ? ORDER BY key LIMIT ?", (key, count)
        )
        return found.fetchall()

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        way = "DESC" if reverse else "ASC"
        return self._execute(f"SELECT key, value FROM rows ORDER BY key {way}")

    def row_count(self) -> int:
        """Count the rows."""
        (count,) = self._execute("SELECT count(*) FROM rows").fetchone()
        return int(count)

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value in a write transaction, of which there is one at a time."""
        self._execute("BEGIN IMMEDIATE")
        try:
            self._execute(PUT, (key, change(self.get(key))))
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")
        return 1

    def settle(self) -> None:
        """Move the WAL into the table."""
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close it."""
        self.connection.close()
