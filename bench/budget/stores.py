"""Stores that are loaded, compacted and checked, ready to be read beside each other.

"Further tables" are what flushes leave before a compaction takes them up: each holds other keys, a
tenth as many, and a last part stays in the memtable, so that every source but one misses. Ours is
kept from merging them by holding compaction back (compaction_bytes_per_s); LMDB and RocksDB hold
the same keys in their own ways, RocksDB after it has merged what it wants to.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import ferrisdb
from ferrisdb import service
from ferrisdb.bench.budget.figures import OURS, BudgetError
from ferrisdb.bench.budget.workload import keys_from, pairs_of, value_of
from ferrisdb.bench.engines import ENGINES, OS, Engine, Ferris, Rocks
from ferrisdb.bench.engines.rocksdb import BACKGROUND
from ferrisdb.bench.measuring import parts
from ferrisdb.shm.locks import DirectoryLock

BATCH_ROWS: Final = 1000
READ_PEERS: Final = ("lmdb", "rocksdict")
#: Compaction writes so little that one that begins doesn't end.
HELD_BACK: Final = {"compaction_bytes_per_s": 64}
LEAVE_S: Final = 30.0
FLUSH_S: Final = 120.0
CHECKED: Final = 1000


class Stores:
    """FerrisDB and its peers, with the same keys."""

    def __init__(self, folder: str, key_count: int, seed: int, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        #: Keys that are there (the first compacted ones), and ones that are in none of them.
        self.keys = keys_from(0, key_count)
        self.absent = keys_from(key_count, key_count)
        self._further = 2 * key_count
        self.rng = random.Random(seed)
        self.engines: list[Engine] = []

    def load(self) -> None:
        """Write every key, compact, and check.

        Raises: BudgetError, an engine answers wrongly.
        """
        for name in (OURS, *READ_PEERS):
            self._say(f"loading {len(self.keys):,} keys into {name}")
            engine = opened(name, self.folder_of(name), self._say)
            if engine is None:
                continue
            self.engines.append(engine)
            for rows in parts(pairs_of(0, self.keys), BATCH_ROWS):
                engine.put_batch(rows)
            engine.settle()
        self.check(len(self.keys))

    def add_tables(self, count: int) -> None:
        """Write `count` further tables and a memtable.

        Raises: BudgetError, they were not kept.
        """
        each = max(len(self.keys) // 10, 1)
        total = len(self.keys) + count * each + each // 10
        # Another service: settings are read when one starts.
        close(self.engines[0])
        self.engines[0] = Ferris(self.folder_of(OURS), HELD_BACK)
        for engine in self.engines:
            self._say(f"adding {count} tables of {each:,} keys to {engine.name}")
            first = self._further
            for number in range(count + 1):
                size = each if number < count else each // 10
                for rows in parts(pairs_of(first, keys_from(first, size)), BATCH_ROWS):
                    engine.put_batch(rows)
                first += size
                if number < count:
                    _flush(engine)
        self.check(total)

    def check(self, row_count: int) -> None:
        """Refuse to time an engine that answers wrongly."""
        numbers = self.rng.sample(range(len(self.keys)), min(CHECKED, len(self.keys)))
        picked = [self.keys[number] for number in numbers]
        expected = [value_of(number) for number in numbers]
        for engine in self.engines:
            engine.ready()
            if [engine.get(key) for key in picked] != expected:
                raise BudgetError(f"{engine.name} returned a wrong value")
            if [found_value(row) for row in engine.multi_get(picked)] != expected:
                raise BudgetError(f"{engine.name} returned a wrong value of several")
            if any(engine.get(key) is not None for key in self.absent[:CHECKED]):
                raise BudgetError(f"{engine.name} returned a value of an absent key")
            found = sum(1 for _ in engine.all_rows())
            if found != row_count:
                raise BudgetError(f"{engine.name} has {found} rows, and not {row_count}")

    def folder_of(self, engine: str) -> str:
        """Return where an engine's files are."""
        return os.path.join(self._folder, engine)

    def table_counts(self) -> dict[str, int]:
        """Return how many tables ours has, by level."""
        ours = self.engines[0]
        assert isinstance(ours, Ferris)
        levels = ours.db.stats()["levels"]
        return {level: row["tables"] for level, row in levels.items()}

    def close(self) -> None:
        """Close every engine and end our service."""
        while self.engines:
            close(self.engines.pop())


def opened(
    name: str, folder: str, say: Callable[[str], None], *, durability: str = OS
) -> Engine | None:
    """Open an engine; None, having said so: it is missing here."""
    kind = ENGINES[name]
    why = kind.missing()
    if why is not None:
        say(f"{name} is left out: {why}")
        return None
    return kind(folder, durability=durability)


def found_value(row: Any) -> bytes | None:
    """Return the value of what a multi_get has for a key: LMDB's has the key beside it."""
    value: bytes | None = row[1] if isinstance(row, tuple) else row
    return value


def close(engine: Engine) -> None:
    """Close an engine; where it is ours, have its service end, too."""
    path = engine.db.path if isinstance(engine, Ferris) else None
    engine.close()
    if path is not None:
        end_service(path)


def end_service(path: str) -> None:
    """Have the service that `open` started leave at once, as it would by itself soon.

    Raises: BudgetError, it stays.
    """
    give_up = time.monotonic() + LEAVE_S
    running = service.find(path)
    if running is not None:
        os.kill(running.control.coordinator_pid, signal.SIGTERM)
    while DirectoryLock.is_held(path):
        if time.monotonic() > give_up:
            raise BudgetError(f"the service for {path} did not leave")
        time.sleep(0.005)


def _flush(engine: Engine) -> None:
    """Have what the memtable holds written to a table of its own, where the engine has tables."""
    if isinstance(engine, Rocks):
        engine.db.flush()
        wait_for_rocksdb(engine.db)
    elif isinstance(engine, Ferris):
        flush_memtable(engine.db)


def flush_memtable(db: ferrisdb.Database) -> None:
    """Have our memtable written to a table: a compaction of an empty range asks for no more."""
    before = db.stats()["table_count"]
    db.attached.ask_compaction(b"\xff" * 40, b"\xff" * 41)
    give_up = time.monotonic() + FLUSH_S
    while True:
        db.get(b"")  # maps the newest version
        stats = db.stats()
        if len(stats["memtables"]) == 1 and stats["table_count"] > before:
            return
        if time.monotonic() > give_up:
            raise BudgetError(f"no table came of the memtable: {stats['levels']}")
        time.sleep(0.01)


def wait_for_rocksdb(db: Any) -> None:
    """Wait until RocksDB neither flushes nor compacts, nor wants to."""
    names = (*BACKGROUND, "rocksdb.num-immutable-mem-table")
    while any(db.property_int_value(name) for name in names):
        time.sleep(0.002)
