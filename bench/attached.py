"""Measure an attached process beside LMDB and RocksDB: warm reads, single writes, batches.

    python -m bench.attached [--keys N] [--rounds N] [--json FILE]

One run, engines interleaved round by round so that the machine's drift cancels; medians, with
the range. 16-byte keys in random order, 100-byte values, everything in memory or page cache.
FerrisDB: one memtable that holds all keys, durability "os". LMDB: one read transaction, reused.
RocksDB (rocksdict): in-process, its WAL on and not synced. A sample of values is checked in every
engine before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ferrisdb

VALUE_BYTES = 100
BATCH_ROWS = 1000

Pairs = list[tuple[bytes, bytes]]


class Ferris:
    """The attached handle."""

    name = "ferrisdb"

    def __init__(self, folder: str, keys: int) -> None:
        # One memtable for everything: a warm one is what is measured.
        os.makedirs(folder)
        with open(os.path.join(folder, "ferrisdb.toml"), "w", encoding="ascii") as settings:
            settings.write(f"memtable_bytes = {max(64 << 20, keys * 300)}\n")
        self.db = ferrisdb.open(folder, timeout=60, durability="os")
        self.get: Callable[[bytes], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put
        self.put_batch: Callable[[Pairs], Any] = self.db.put_many

    def ready(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Detach."""
        self.db.close()


class Lmdb:
    """LMDB with one read transaction."""

    name = "lmdb"

    def __init__(self, folder: str, keys: int) -> None:
        import lmdb

        del keys
        self.env = lmdb.open(folder, map_size=8 << 30, sync=False)
        self.transaction: Any = None
        self.get: Any = None

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        with self.env.begin(write=True) as transaction:
            for key, value in rows:
                transaction.put(key, value)

    def ready(self) -> None:
        """Begin the read transaction."""
        self.transaction = self.env.begin(buffers=False)
        self.get = self.transaction.get

    def close(self) -> None:
        """End it."""
        if self.transaction is not None:
            self.transaction.abort()
        self.env.close()


class Rocks:
    """RocksDB in this process."""

    name = "rocksdict"

    def __init__(self, folder: str, keys: int) -> None:
        import rocksdict

        options = rocksdict.Options(raw_mode=True)
        options.set_write_buffer_size(max(64 << 20, keys * 300))
        self._rocksdict = rocksdict
        self.db = rocksdict.Rdict(folder, options)
        self.get: Callable[[bytes], Any] = self.db.get
        self.put: Callable[[bytes, bytes], Any] = self.db.put

    def put_batch(self, rows: Pairs) -> None:
        """Write a batch."""
        batch = self._rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, value)
        self.db.write(batch)

    def ready(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Close it."""
        self.db.close()


def keys_of(count: int, seed: int) -> list[bytes]:
    """Return `count` distinct 16-byte keys in random order."""
    rng = random.Random(seed)
    found: dict[bytes, None] = {}
    while len(found) < count:
        found[b"%016x" % rng.getrandbits(64)] = None
    return list(found)


def timed_gets(get: Callable[[bytes], Any], keys: list[bytes]) -> float:
    """Return seconds a get."""
    begin = time.perf_counter()
    for key in keys:
        get(key)
    return (time.perf_counter() - begin) / len(keys)


def timed_puts(put: Callable[[bytes, bytes], Any], keys: list[bytes], value: bytes) -> float:
    """Return seconds a put."""
    begin = time.perf_counter()
    for key in keys:
        put(key, value)
    return (time.perf_counter() - begin) / len(keys)


def timed_batches(put_batch: Callable[[Pairs], Any], rows: Pairs) -> float:
    """Return seconds a row, in batches of BATCH_ROWS."""
    begin = time.perf_counter()
    for at in range(0, len(rows), BATCH_ROWS):
        put_batch(rows[at : at + BATCH_ROWS])
    return (time.perf_counter() - begin) / len(rows)


def measure(folder: str, key_count: int, rounds: int, seed: int) -> dict[str, dict[str, Any]]:
    """Run every measurement; returns seconds by measurement and engine, one a round."""
    value = bytes(range(VALUE_BYTES))
    total = keys_of(key_count * 3, seed)
    loaded, single, batched = (total[i * key_count : (i + 1) * key_count] for i in range(3))
    rng = random.Random(seed + 1)
    engines: list[Any] = [
        kind(os.path.join(folder, kind.name), key_count * 3) for kind in (Ferris, Lmdb, Rocks)
    ]
    for engine in engines:
        timed_batches(engine.put_batch, [(key, value) for key in loaded])
        engine.ready()
        if any(engine.get(key) != value for key in rng.sample(loaded, min(1000, key_count))):
            raise SystemExit(f"{engine.name} returned a wrong value")
    seconds: dict[str, dict[str, Any]] = {"get": {}, "put": {}, "batch": {}}

    def note(what: str, engine: Any, value_s: float) -> None:
        seconds[what].setdefault(engine.name, []).append(value_s)

    share = key_count // rounds
    for turn in range(rounds):
        picked = rng.sample(loaded, min(100_000, key_count))
        part = slice(turn * share, (turn + 1) * share)
        for engine in engines:
            note("get", engine, timed_gets(engine.get, picked))
        writers = [engine for engine in engines if engine.name != "lmdb"]
        for engine in writers:
            note("put", engine, timed_puts(engine.put, single[part], value))
        for engine in writers:
            pairs = [(key, value) for key in batched[part]]
            note("batch", engine, timed_batches(engine.put_batch, pairs))
    for engine in engines:
        engine.close()
    return seconds


def report(seconds: dict[str, dict[str, Any]]) -> None:
    """Print medians, ranges and ratios."""
    for what, engines in seconds.items():
        ours = statistics.median(engines["ferrisdb"])
        for name, values in engines.items():
            middle = statistics.median(values)
            line = f"{what:6} {name:10} {middle * 1e6:8.3f} µs"
            line += f"  [{min(values) * 1e6:.3f} .. {max(values) * 1e6:.3f}]"
            if name != "ferrisdb":
                line += f"  ferrisdb takes {ours / middle:.2f} times this"
            print(line)


def main() -> int:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="ferrisdb-bench-")
    try:
        seconds = measure(folder, arguments.keys, arguments.rounds, arguments.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(seconds)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"arguments": vars(arguments), "seconds": seconds}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
