"""LMDB: a B-tree in one mapped file, read in place; one process writes at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ferrisdb.bench.engines.base import OS, Engine, Pairs

MAP_BYTES = 64 << 30


class Lmdb(Engine):
    """One environment of a process.

    While nobody writes, one read transaction is reused, which is LMDB at its fastest; otherwise
    each read has one of its own, for it would show what was there when the other began.
    """

    name = "lmdb"
    title = "LMDB"
    setup = (
        "one read transaction, reused where nobody writes; otherwise each read has one of its own"
    )
    package = "lmdb"

    def __init__(
        self, folder: str, settings: dict[str, Any] | None = None, *, durability: str = OS
    ) -> None:
        del settings
        lmdb = importlib.import_module("lmdb")
        self.env = lmdb.open(folder, map_size=MAP_BYTES, sync=durability != OS, max_readers=256)
        self.transaction: Any = None
        self.cursor: Any = None
        self.ready()

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return "the system has it (sync=False)" if durability == OS else "it is synced"

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row in a transaction of its own."""
        with self.env.begin(write=True) as transaction:
            transaction.put(key, value)

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.env.begin(write=True) as transaction:
            for key, value in rows:
                transaction.put(key, value)

    def delete(self, key: bytes) -> None:
        """Delete a row in a transaction of its own."""
        with self.env.begin(write=True) as transaction:
            transaction.delete(key)

    def ready(self, *, writers: bool = False) -> None:
        """Begin the read transaction anew."""
        self.stop()
        self.transaction = self.env.begin(buffers=False)
        self.cursor = self.transaction.cursor()
        self.get: Callable[[bytes], bytes | None] = (
            self._newest if writers else self.transaction.get
        )
        self._is_renewed = writers

    def stop(self) -> None:
        """End the read transaction."""
        if self.transaction is not None:
            self.transaction.abort()
            self.transaction = None

    def _newest(self, key: bytes) -> bytes | None:
        # py-lmdb keeps a spare read transaction and renews it here.
        with self.env.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def multi_get(self, keys: list[bytes]) -> Any:
        """Return the pairs found."""
        return self.cursor.getmulti(keys)

    def rows_from(self, key: bytes, count: int) -> Pairs:
        """Return `count` rows from `key` on."""
        if not self._is_renewed:
            self.cursor.set_range(key)
            return list(islice(self.cursor.iternext(), count))
        with self.env.begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(key)
            return list(islice(cursor.iternext(), count))

    def all_rows(self, *, reverse: bool = False) -> Iterable[tuple[bytes, bytes]]:
        """Return every row."""
        if reverse:
            self.cursor.last()
            rows: Iterable[tuple[bytes, bytes]] = self.cursor.iterprev()
        else:
            self.cursor.first()
            rows = self.cursor.iternext()
        return rows

    def row_count(self) -> int:
        """Count the rows."""
        self.ready()
        count: int = self.env.stat()["entries"]
        return count

    def replace(self, key: bytes, change: Callable[[bytes | None], bytes]) -> int:
        """Replace a value in a write transaction, of which there is one at a time."""
        with self.env.begin(write=True) as transaction:
            transaction.put(key, change(transaction.get(key)))
        return 1

    def close(self) -> None:
        """End it."""
        self.stop()
        self.env.close()
