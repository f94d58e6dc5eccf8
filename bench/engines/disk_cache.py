"""diskcache: a cache of Python objects in a SQLite database, used as a key-value store."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from ferrisdb.bench.engines.base import OS, Engine, Pairs

TIMEOUT_S: Final = 60.0
NO_SCAN: Final = "diskcache has no ranges of keys"


class DiskCache(Engine):
    """One cache object."""

    name = "diskcache"
    title = "diskcache"
    setup = "nothing is evicted; values lie in its SQLite database, mmap_size 4 GiB"
    package = "diskcache"
    scales = False
    lacks: ClassVar[Mapping[str, str]] = {"scan": NO_SCAN}

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        del settings
        diskcache = importlib.import_module("diskcache")
        self.cache = diskcache.Cache(
            folder,
            timeout=TIMEOUT_S,
            eviction_policy="none",
            size_limit=1 << 40,
            cull_limit=0,
            disk_min_file_size=1 << 20,
            sqlite_mmap_size=4 << 30,
            sqlite_synchronous=1 if durability == OS else 2,
        )
        self.get: Callable[[bytes], bytes | None] = self.cache.get
        self.put: Callable[[bytes, bytes], Any] = self.cache.set
        self.delete: Callable[[bytes], Any] = self.cache.delete

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

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.cache.transact():
            for key, value in rows:
                self.cache.set(key, value)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """Get them one by one: it has nothing else."""
        return [self.get(key) for key in keys]

    def row_count(self) -> int:
        """Count the rows."""
        return len(self.cache)

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value in a write transaction, of which there is one at a time."""
        with self.cache.transact():
            self.cache.set(key, change(self.cache.get(key)))
        return 1

    def close(self) -> None:
        """Close it."""
        self.cache.close()
