"""Several processes that write at once, each of their puts on the disk when it returns.

FerrisDB: "sync". SQLite: WAL, synchronous=FULL, one statement a put. LMDB: as it is by default, a
transaction a put.
"""

from __future__ import annotations

import importlib
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import ferrisdb
from ferrisdb.bench.budget.crew import Crew
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import end_service
from ferrisdb.bench.budget.workload import keys_from, values

#: Loaded before, with the second value, which is replaced by the first one.
KEYS_MAX: Final = 100_000
PEERS: Final = ("sqlite", "lmdb")
LMDB_BYTES: Final = 64 << 30


class FerrisStore:
    """A handle whose writes are synced."""

    def __init__(self, folder: str) -> None:
        self._db = ferrisdb.open(folder, timeout=60, durability="sync")
        self.put: Callable[[bytes, bytes], Any] = self._db.put
        self.get, self.close = self._db.get, self._db.close

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write keys without a sync for each."""
        self._db.put_many(((key, value) for key in keys), durability="os")


class SqliteStore:
    """A connection of its own."""

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, "db")
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.close = self._connection.close
        self._execute = self._connection.execute
        self._execute("PRAGMA journal_mode=WAL")
        self._execute("PRAGMA synchronous=FULL")
        self._execute(
            "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )

    def put(self, key: bytes, value: bytes) -> None:
        """Write one key."""
        self._execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (key, value))

    def get(self, key: bytes) -> bytes | None:
        """Return its value."""
        row = self._execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write keys in one transaction."""
        self._execute("BEGIN IMMEDIATE")
        rows = [(key, value) for key in keys]
        self._connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        self._execute("COMMIT")


class LmdbStore:
    """An environment of its own."""

    def __init__(self, folder: str) -> None:
        self._env = importlib.import_module("lmdb").open(folder, map_size=LMDB_BYTES)
        self.close = self._env.close

    def put(self, key: bytes, value: bytes) -> None:
        """Write one key."""
        with self._env.begin(write=True) as transaction:
            transaction.put(key, value)

    def get(self, key: bytes) -> bytes | None:
        """Return its value."""
        with self._env.begin() as transaction:
            found: bytes | None = transaction.get(key)
            return found

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write keys in one transaction."""
        with self._env.begin(write=True) as transaction:
            for key in keys:
                transaction.put(key, value)


STORES: Final[dict[str, Callable[[str], Any]]] = {
    OURS: FerrisStore,
    "sqlite": SqliteStore,
    "lmdb": LmdbStore,
}


class Writer:
    """One process that replaces values of random keys."""

    def __init__(self, engine: str, folder: str, key_count: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._keys = keys_from(0, key_count)
        self._store = STORES[engine](folder)

    def run(self, seconds: float) -> float:
        """Put for so long; return puts a second."""
        put, choice, keys = self._store.put, self._rng.choice, self._keys
        value, done, key = values()[0], 0, keys[0]
        begin = time.perf_counter()
        end = begin + seconds
        while time.perf_counter() < end:
            key = choice(keys)
            put(key, value)
            done += 1
        rate = done / (time.perf_counter() - begin)
        if done and self._store.get(key) != value:
            raise BudgetError("a put is lost")
        return rate

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def writers(run: Run) -> list[Figure]:
    """Synced puts of several processes at once, a second of all together."""
    settings = run.settings
    key_count = min(settings.keys, KEYS_MAX)
    place = run.place("writers")
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        crews = []
        for name in (OURS, *PEERS):
            folder = os.path.join(place, name)
            os.makedirs(folder)
            try:
                store = STORES[name](folder)
            except ModuleNotFoundError as error:
                run.say(f"{name} is left out: {error}; pip install {error.name}")
                continue
            if name == OURS:
                stack.callback(end_service, folder)
            store.load(keys_from(0, key_count), values()[1])
            store.close()
            arguments = [(name, folder, key_count, seed) for seed in range(settings.writers)]
            crews.append(stack.enter_context(Crew(name, Writer, arguments)))
        # The first round starts everything up.
        for turn in range(settings.rounds + 1):
            run.say(f"{settings.writers} writers, round {turn} of {settings.rounds}")
            for crew in crews:
                rate = sum(crew.run(settings.seconds if turn else settings.seconds / 4))
                if turn:
                    rates.setdefault(crew.name, []).append(rate)
    return [Figure("put", "/s", rates, more_is_better=True)]
