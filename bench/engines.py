"""The stores that are measured, behind one small interface, each with settings that are fair.

An engine has `get`, `multi_get`, `put_batch`, `rows_from`, `all_rows`, `settle` and `close`. Reads
are bound to the engine's own callables where they have the right shape, so that nothing of ours
is timed beside a peer.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import ferrisdb

Pairs = list[tuple[bytes, bytes]]


class Ferris:
    """FerrisDB, attached: the service runs in processes of its own; durability "os"."""

    name = "ferrisdb"
    shared = True

    def __init__(self, folder: str, settings: dict[str, Any] | None = None) -> None:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "ferrisdb.toml"), "w", encoding="ascii") as file:
            file.writelines(f"{name} = {value}\n" for name, value in (settings or {}).items())
        self.db = ferrisdb.open(folder, timeout=60, durability="os")
        self.get: Callable[[bytes], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        self.put_batch: Callable[[Pairs], Any] = self.db.put_many
        self.multi_get: Callable[[list[bytes]], Any] = self.db.multi_get

    def rows_from(self, key: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return `count` rows from `key` on."""
        return list(self.db.scan(start=key, limit=count))

    def all_rows(self) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        return self.db.scan()

    def settle(self) -> None:
        """Compact everything."""
        self.db.compact()

    def ready(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Detach."""
        self.db.close()


class Lmdb:
    """LMDB, not synced; one read transaction, reused."""

    name = "lmdb"
    shared = True

    def __init__(self, folder: str, settings: dict[str, Any] | None = None) -> None:
        del settings
        lmdb = importlib.import_module("lmdb")
        self.env = lmdb.open(folder, map_size=64 << 30, sync=False)
        self.transaction: Any = None
        self.cursor: Any = None
        self.get: Any = None

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.env.begin(write=True) as transaction:
            for key, value in rows:
                transaction.put(key, value)

    def ready(self) -> None:
        """Begin the read transaction anew."""
        self.stop()
        self.transaction = self.env.begin(buffers=False)
        self.cursor = self.transaction.cursor()
        self.get = self.transaction.get

    def stop(self) -> None:
        """End the read transaction."""
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None

    def multi_get(self, keys: list[bytes]) -> Any:
        """Return the pairs found."""
        return self.cursor.getmulti(keys)

    def rows_from(self, key: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return `count` rows from `key` on."""
        self.cursor.set_range(key)
        return list(islice(self.cursor.iternext(), count))

    def all_rows(self) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        self.cursor.first()
        rows: Iterator[tuple[bytes, bytes]] = self.cursor.iternext()
        return rows

    def settle(self) -> None:
        """Nothing to do: a B-tree has no debt."""

    def close(self) -> None:
        """End it."""
        self.stop()
        self.env.close()


class Rocks:
    """RocksDB in this process through rocksdict: WAL on, not synced; its own defaults."""

    name = "rocksdict"
    shared = False

    def __init__(self, folder: str, settings: dict[str, Any] | None = None) -> None:
        self._rocksdict = importlib.import_module("rocksdict")
        options = self._rocksdict.Options(raw_mode=True)
        if settings and "memtable_bytes" in settings:
            options.set_write_buffer_size(settings["memtable_bytes"])
        self.db = self._rocksdict.Rdict(folder, options)
        self.get: Callable[[bytes], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        # A list of keys is looked up by RocksDB's MultiGet.
        self.multi_get: Callable[[list[bytes]], Any] = self.db.get

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        batch = self._rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, value)
        self.db.write(batch)

    def rows_from(self, key: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return `count` rows from `key` on."""
        return list(islice(self.db.items(from_key=key), count))

    def all_rows(self) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        rows: Iterable[tuple[bytes, bytes]] = self.db.items()
        return rows

    def settle(self) -> None:
        """Compact everything."""
        self.db.flush()
        self.db.compact_range(None, None)

    def ready(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Close it."""
        self.db.close()


class Level:
    """LevelDB in this process through plyvel: not synced; its own defaults."""

    name = "plyvel"
    shared = False

    def __init__(self, folder: str, settings: dict[str, Any] | None = None) -> None:
        plyvel = importlib.import_module("plyvel")
        bytes_max = (settings or {}).get("memtable_bytes", 64 << 20)
        self.db = plyvel.DB(folder, create_if_missing=True, write_buffer_size=bytes_max)
        self.get: Callable[[bytes], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.db.write_batch() as batch:
            for key, value in rows:
                batch.put(key, value)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """LevelDB has none: one by one."""
        return [self.get(key) for key in keys]

    def rows_from(self, key: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return `count` rows from `key` on."""
        return list(islice(self.db.iterator(start=key), count))

    def all_rows(self) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        rows: Iterable[tuple[bytes, bytes]] = self.db.iterator()
        return rows

    def settle(self) -> None:
        """Compact everything."""
        self.db.compact_range()

    def ready(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Close it."""
        self.db.close()


ENGINES: dict[str, Any] = {kind.name: kind for kind in (Ferris, Lmdb, Rocks, Level)}
