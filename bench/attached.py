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
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ferrisdb.bench.engines import Ferris, Lmdb, Rocks
from ferrisdb.bench.measuring import Seconds, each_call, keys_of, parts, table, write_json

VALUE_BYTES = 100
BATCH_ROWS = 1000


def timed_puts(put: Callable[[bytes, bytes], Any], keys: list[bytes], value: bytes) -> float:
    """Return seconds a put."""
    begin = time.perf_counter()
    for key in keys:
        put(key, value)
    return (time.perf_counter() - begin) / len(keys)


def measure(folder: str, key_count: int, rounds: int, seed: int) -> Seconds:
    """Run every measurement; returns seconds by measurement and engine, one a round."""
    value = bytes(range(VALUE_BYTES))
    total = keys_of(key_count * 3, seed)
    loaded, single, batched = (total[i * key_count : (i + 1) * key_count] for i in range(3))
    rng = random.Random(seed + 1)
    # One memtable for everything: a warm one is what is measured.
    settings = {"memtable_bytes": max(64 << 20, key_count * 3 * 300)}
    engines: list[Any] = [
        kind(os.path.join(folder, kind.name), settings) for kind in (Ferris, Lmdb, Rocks)
    ]
    for engine in engines:
        for rows in parts([(key, value) for key in loaded], BATCH_ROWS):
            engine.put_batch(rows)
        engine.ready()
        if any(engine.get(key) != value for key in rng.sample(loaded, min(1000, key_count))):
            raise SystemExit(f"{engine.name} returned a wrong value")
    seconds: Seconds = {"get": {}, "put": {}, "batch": {}}

    def note(what: str, engine: Any, value_s: float) -> None:
        seconds[what].setdefault(engine.name, []).append(value_s)

    share = key_count // rounds
    for turn in range(rounds):
        picked = rng.sample(loaded, min(100_000, key_count))
        part = slice(turn * share, (turn + 1) * share)
        for engine in engines:
            note("get", engine, each_call(engine.get, picked, len(picked)))
        writers = [engine for engine in engines if engine.name != "lmdb"]
        for engine in writers:
            note("put", engine, timed_puts(engine.put, single[part], value))
        for engine in writers:
            pairs = [(key, value) for key in batched[part]]
            batches = list(parts(pairs, BATCH_ROWS))
            note("batch", engine, each_call(engine.put_batch, batches, len(pairs)))
    for engine in engines:
        engine.close()
    return seconds


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
    print(*table(seconds), sep="\n")
    if arguments.json:
        write_json(arguments.json, tempfile.gettempdir(), vars(arguments), {"seconds": seconds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
