"""LevelDB through plyvel: a log-structured merge tree within one process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Final, Self

from ferrisdb.bench.engines.base import CACHE_BYTES, FILTER_BITS, OS, Engine, Pairs, wait_until

MEMTABLE_BYTES: Final = 64 << 20
LEVEL0_FILES: Final = 4
"""From so many on it compacts level 0."""


class Level(Engine):
    """One database, open in this process."""

    name = "plyvel"
    title = "LevelDB"
    setup = (
        "in the client's process, of which several clients are threads; write buffer 64 MiB, block"
        f" cache {CACHE_BYTES >> 20} MiB, Bloom filters of {FILTER_BITS} bits, else its defaults"
    )
    shared = False
    package = "plyvel"
    lacks: ClassVar[Mapping[str, str]] = {"transactions": "LevelDB has no transactions"}

    def __init__(
        self,
        folder: str,
        settings: dict[str, Any] | None = None,
        *,
        durability: str = OS,
        of: Level | None = None,
    ) -> None:
        """Open it; with `of`, make another handle of the one that is open."""
        self._owns = of is None
        self.db: Any = of.db if of else _opened(folder, settings or {})
        self._is_synced = durability != OS
        self.get: Callable[[bytes], bytes | None] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        self.delete: Callable[[bytes], Any] = self.db.delete
        if self._is_synced:
            self.put = partial(self.db.put, sync=True)
            self.delete = partial(self.db.delete, sync=True)

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return "the system has it" if durability == OS else "its log is synced (sync=true)"

    def another(self, durability: str) -> Self:
        """Return a handle for another thread."""
        return type(self)("", durability=durability, of=self)

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.db.write_batch(sync=self._is_synced) as batch:
            for key, value in rows:
                batch.put(key, value)

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        """LevelDB has none: one by one."""
        return [self.get(key) for key in keys]

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        return list(islice(self.db.iterator(start=key), count))

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        rows: Iterable[tuple[bytes, bytes]] = self.db.iterator(reverse=reverse)
        return rows

    def settle(self) -> None:
        """Compact everything."""
        self.db.compact_range()

    def rest(self, seconds: float) -> None:
        """Wait for compactions."""
        wait_until(lambda: not owes(self.db.get_property(b"leveldb.stats").decode()), seconds)

    def close(self) -> None:
        """Close it, by the handle that opened it."""
        if self._owns:
            self.db.close()


def _opened(folder: str, settings: dict[str, Any]) -> Any:
    plyvel = importlib.import_module("plyvel")
    return plyvel.DB(
        folder,
        create_if_missing=True,
        write_buffer_size=settings.get("memtable_bytes", MEMTABLE_BYTES),
        lru_cache_size=settings.get("cache_bytes"),
        bloom_filter_bits=settings.get("filter_bits", 0),
    )


def owes(stats: str) -> bool:
    """Tell from its statistics whether a level of LevelDB's is over its target."""
    for line in stats.splitlines():
        words = line.split()
        if not words or not words[0].isdigit():
            continue
        level, files, megabytes = (int(word) for word in words[:3])
        if files >= LEVEL0_FILES if level == 0 else megabytes > 10**level:
            return True
    return False
