"""RocksDB through rocksdict: a log-structured merge tree within one process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Final, Self

from ferrisdb.bench.engines.base import CACHE_BYTES, FILTER_BITS, OS, Engine, Pairs, wait_until

BACKGROUND: Final = (
    "rocksdb.mem-table-flush-pending",
    "rocksdb.num-running-flushes",
    "rocksdb.compaction-pending",
    "rocksdb.num-running-compactions",
)


class Rocks(Engine):
    """One database, open in this process."""

    name = "rocksdict"
    title = "RocksDB"
    setup = (
        "in the client's process, of which several clients are threads; write buffer 64 MiB, block"
        f" cache {CACHE_BYTES >> 20} MiB, Bloom filters of {FILTER_BITS} bits, else its defaults"
    )
    shared = False
    package = "rocksdict"
    lacks: ClassVar[Mapping[str, str]] = {"transactions": "rocksdict has no transactions"}

    def __init__(
        self,
        folder: str,
        settings: dict[str, Any] | None = None,
        *,
        durability: str = OS,
        of: Rocks | None = None,
    ) -> None:
        """Open it; with `of`, make another handle of the one that is open."""
        self._rocksdict = rocksdict = importlib.import_module("rocksdict")
        self._owns = of is None
        self.db: Any = of.db if of else rocksdict.Rdict(folder, self._options(settings or {}))
        self.get: Callable[[bytes], bytes | None] = self.db.get
        # A list of keys is looked up by RocksDB's MultiGet.
        self.multi_get: Callable[[list[bytes]], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        self.delete: Callable[[bytes], Any] = self.db.delete
        self._write: Callable[[Any], Any] = self.db.write
        if durability != OS:
            synced = rocksdict.WriteOptions()
            synced.sync = True
            self.put = partial(self.db.put, write_opt=synced)
            self.delete = partial(self.db.delete, write_opt=synced)
            self._write = partial(self.db.write, write_opt=synced)

    def _options(self, settings: dict[str, Any]) -> Any:
        options = self._rocksdict.Options(raw_mode=True)
        if "memtable_bytes" in settings:
            options.set_write_buffer_size(settings["memtable_bytes"])
        if "cache_bytes" in settings or "filter_bits" in settings:
            blocks = self._rocksdict.BlockBasedOptions()
            if "cache_bytes" in settings:
                blocks.set_block_cache(self._rocksdict.Cache(settings["cache_bytes"]))
            if "filter_bits" in settings:
                blocks.set_bloom_filter(settings["filter_bits"], False)
            options.set_block_based_table_factory(blocks)
        return options

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return "the system has it" if durability == OS else "its WAL is synced (sync=true)"

    def another(self, durability: str) -> Self:
        """Return a handle for another thread."""
        return type(self)("", durability=durability, of=self)

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        batch = self._rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, value)
        self._write(batch)

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        return list(islice(self.db.items(from_key=key), count))

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        rows: Iterable[tuple[bytes, bytes]] = self.db.items(backwards=reverse)
        return rows

    def settle(self) -> None:
        """Compact everything."""
        self.db.flush()
        self.db.compact_range(None, None)

    def rest(self, seconds: float) -> None:
        """Wait for flushes and compactions."""

        def is_done() -> bool:
            return not any(self.db.property_int_value(name) for name in BACKGROUND)

        wait_until(is_done, seconds)

    def close(self) -> None:
        """Close it, by the handle that opened it."""
        if self._owns:
            self.db.close()
