"""A database that grows from size to size, and what its operations cost at each.

Key number n is 16 hex digits of a mix of n, so that keys come in random order, and its value of
100 bytes begins with the key. The first `key_count` numbers are there; how many that are stands in
the database itself, in the batch that wrote the last of them: whoever was interrupted goes on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

import ferrisdb
from ferrisdb.bench import rewriting
from ferrisdb.bench.measuring import each_call, each_row, parts

TAIL: Final = b".123456789" * 8 + b"...."
COUNT_KEY: Final = b"!key count"
"""Before every other key."""

BATCH_ROWS: Final = 1_000
MANY: Final = 100
RANGE_ROWS: Final = 50
TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Calls:
    """How much is measured of each operation at each size."""

    rounds: int = 5
    reads: int = 100_000
    scanned_rows: int = 1_000_000
    puts: int = 20_000


def keys_of(begin: int, end: int) -> list[bytes]:
    """Return the keys of a range of numbers."""
    return rewriting.keys_of(np.arange(begin, end, dtype=np.uint64))


def value_of(key: bytes) -> bytes:
    """Return a key's value."""
    return key + TAIL


def right(key: bytes, value: bytes | None) -> bool:
    """Tell whether this is what was written."""
    return value == key + TAIL


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


class Growing:
    """The database, seen through one handle."""

    def __init__(self, db: ferrisdb.Database) -> None:
        self.db = db

    @property
    def key_count(self) -> int:
        """How many keys there are, without the one that says so."""
        return int(self.db.get(COUNT_KEY, b"0"))

    def grow(self, key_count: int, say: Callable[[int], None]) -> float | None:
        """Write keys until there are so many; returns seconds a row, None if they were there.

        Shape:   say, called now and then with the number of keys.
        """
        had = self.key_count
        waited = 0.0
        for begin in range(had, key_count, BATCH_ROWS):
            end = min(begin + BATCH_ROWS, key_count)
            rows = [(key, value_of(key)) for key in keys_of(begin, end)]
            rows.append((COUNT_KEY, b"%d" % end))
            # The making of the rows is not what is measured.
            start = time.perf_counter()
            self.db.put_many(rows, durability="os")
            waited += time.perf_counter() - start
            say(end)
        return waited / (key_count - had) if key_count > had else None

    def settle(self) -> float:
        """Compact everything; returns seconds."""
        begin = time.perf_counter()
        self.db.compact(timeout=TIMEOUT_S)
        return time.perf_counter() - begin

    def check(self) -> None:
        """Read every row once, so that this process has seen each block, and count them.

        Raises:  SystemExit, a row is wrong, or their number.
        """
        count = 0
        for key, value in self.db.scan(start=COUNT_KEY + b"\0"):
            if not right(key, value):
                raise SystemExit(f"{key!r} has a wrong value")
            count += 1
        if count != self.key_count:
            raise SystemExit(f"there are {count} rows where {self.key_count} were written")

    def costs(self, calls: Calls) -> dict[str, dict[str, float]]:
        """Return for each operation the µs of a call or row: median, least and most of the rounds.

        The operations take turns round by round. Puts come last: they leave a memtable behind.
        """
        seconds: dict[str, list[float]] = {}
        rng = np.random.default_rng(self.key_count)
        for _ in range(calls.rounds):
            for what, took in self._reads(calls, rng):
                seconds.setdefault(what, []).append(took)
        for _ in range(calls.rounds):
            seconds.setdefault("put", []).append(self._puts(calls, rng))
        return {what: spread([took * 1e6 for took in each]) for what, each in seconds.items()}

    def _picked(self, count: int, rng: np.random.Generator, first: int = 0) -> list[bytes]:
        numbers = rng.integers(first, first + self.key_count, count, dtype=np.uint64)
        return rewriting.keys_of(numbers)

    def _reads(self, calls: Calls, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
        db, count = self.db, calls.reads
        keys, absent = self._picked(count, rng), self._picked(count, rng, self.key_count)
        starts = keys[: max(count // RANGE_ROWS, 1)]
        if not all(right(key, db.get(key)) for key in keys[:1000]):
            raise SystemExit("a key has a wrong value")
        yield "get", each_call(db.get, keys, count)
        yield "get, missing", each_call(db.get, absent, count)
        yield f"multi_get of {MANY}, a key", each_call(db.multi_get, parts(keys, MANY), count)
        yield f"range of {RANGE_ROWS}", each_call(self._range, starts, len(starts))
        yield "scan, a row", each_row(islice(db.scan(), calls.scanned_rows))

    def _range(self, start: bytes) -> list[tuple[bytes, bytes]]:
        return list(self.db.scan(start=start, limit=RANGE_ROWS))

    def _puts(self, calls: Calls, rng: np.random.Generator) -> float:
        rows = [(key, value_of(key)) for key in self._picked(calls.puts, rng)]
        put = self.db.put
        begin = time.perf_counter()
        for key, value in rows:
            put(key, value, durability="os")
        return (time.perf_counter() - begin) / len(rows)

    def shape(self) -> dict[str, Any]:
        """Return what the tree looks like."""
        stats = self.db.stats()
        return {key: stats[key] for key in ("table_count", "table_bytes", "levels")}
