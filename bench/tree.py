"""Measure a compacted tree beside its peers: fill, get, missing get, multi_get, scans.

    python -m bench.tree [--keys N] [--rounds N] [--json FILE]

Every engine takes the same random keys (16 bytes, values of 100) in batches of 1,000, is compacted
whole, and is then read, engines interleaved round by round so that the machine's drift cancels;
medians, with the range. Then `--more` further batches of keys are written, each flushed to a table
of its own where the engine has tables, and the reads are measured again. Everything is in page
cache. A sample of values and the count of rows are checked in every engine.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from typing import Any

from ferrisdb.bench.engines import ENGINES
from ferrisdb.bench.measuring import Seconds, each_call, each_row, keys_of, parts, table, write_json

VALUE = bytes(range(100))
BATCH_ROWS = 1000
MANY = 100
RANGE_ROWS = 50


def fill(engine: Any, rows: list[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Write the rows; returns seconds to the last acknowledgement, and until all is compacted."""
    begin = time.perf_counter()
    for part in parts(rows, BATCH_ROWS):
        engine.put_batch(part)
    written = time.perf_counter()
    engine.settle()
    return written - begin, time.perf_counter() - begin


def check(engine: Any, keys: list[bytes], count: int, rng: random.Random) -> None:
    """Refuse to time an engine that answers wrongly."""
    engine.ready()
    sample = rng.sample(keys, min(1000, len(keys)))
    if any(engine.get(key) != VALUE for key in sample):
        raise SystemExit(f"{engine.name} returned a wrong value")
    if sum(1 for _ in engine.all_rows()) != count:
        raise SystemExit(f"{engine.name} returned a wrong number of rows")
    missing = engine.get(b"not a key at all")
    if missing is not None:
        raise SystemExit(f"{engine.name} returned a value of a missing key")


def read_round(engine: Any, picked: list[bytes], absent: list[bytes]) -> dict[str, float]:
    """Return seconds of each kind of read, for a call or a row."""
    starts = picked[: max(1, len(picked) // RANGE_ROWS)]
    return {
        "get": each_call(engine.get, picked, len(picked)),
        "get missing": each_call(engine.get, absent, len(absent)),
        f"multi_get {MANY}": each_call(engine.multi_get, list(parts(picked, MANY)), len(picked)),
        f"range of {RANGE_ROWS}": each_call(
            lambda key: engine.rows_from(key, RANGE_ROWS), starts, len(starts)
        ),
        "scan": each_row(engine.all_rows()),
    }


def measure(folder: str, options: argparse.Namespace) -> dict[str, Seconds]:
    """Run it all; returns seconds by measurement and engine."""
    total = keys_of(options.keys * 2 + options.keys // 10, options.seed)
    keys, absent = total[: options.keys], total[options.keys : options.keys * 2]
    rng = random.Random(options.seed + 1)
    rows = [(key, VALUE) for key in keys]
    filled: Seconds = {"fill, acknowledged": {}, "fill, compacted": {}}
    reads: Seconds = {}
    engines = []
    for name in options.engines.split(","):
        engine = ENGINES[name](os.path.join(folder, name))
        written, settled = fill(engine, rows)
        filled["fill, acknowledged"][name] = [written / len(rows)]
        filled["fill, compacted"][name] = [settled / len(rows)]
        check(engine, keys, len(keys), rng)
        engines.append(engine)
    for _ in range(options.rounds):
        picked = rng.sample(keys, min(100_000, len(keys)))
        others = rng.sample(absent, min(100_000, len(keys)))
        for engine in engines:
            for what, value in read_round(engine, picked, others).items():
                reads.setdefault(what, {}).setdefault(engine.name, []).append(value)
    for engine in engines:
        engine.close()
    return {"fill": filled, "reads": reads}


def main() -> int:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", default="ferrisdb,lmdb,rocksdict,plyvel")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="ferrisdb-bench-")
    try:
        figures = measure(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for seconds in figures.values():
        print(*table(seconds), sep="\n")
    if options.json:
        write_json(options.json, tempfile.gettempdir(), vars(options), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
