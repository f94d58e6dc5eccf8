"""Single puts by one process: not synced beside RocksDB, synced beside LevelDB.

Each engine gets new keys in random order, those of the warm-up first, which are not counted; what
was written is read back and compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import close, opened
from ferrisdb.bench.budget.workload import keys_from, values
from ferrisdb.bench.engines import OS, SYNC


def put_os(run: Run) -> list[Figure]:
    """One put after the other; ours with "os", which every process sees when it returns."""
    return [_puts(run, ("rocksdict",), run.settings.puts, OS)]


def put_sync(run: Run) -> list[Figure]:
    """One put after the other, each on the disk when it returns."""
    return [_puts(run, ("plyvel",), run.settings.synced_puts, SYNC)]


def _puts(run: Run, peers: tuple[str, ...], count: int, durability: str) -> Figure:
    rounds = run.settings.rounds
    keys = keys_from(0, count * (rounds + 1))
    value = values()[0]
    place = run.place("puts")
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        engines = []
        for name in (OURS, *peers):
            engine = opened(name, os.path.join(place, name), run.say, durability=durability)
            if engine is not None:
                stack.callback(close, engine)
                engines.append(engine)
        for turn in range(rounds + 1):
            run.say(f"{count:,} puts, round {turn} of {rounds}")
            part = keys[turn * count : (turn + 1) * count]
            for engine in engines:
                taken = _each_put(engine.put, part, value)
                if turn:
                    seconds.setdefault(engine.name, []).append(taken * 1e6)
        for engine in engines:
            engine.ready()
            if any(engine.get(key) != value for key in keys):
                raise BudgetError(f"{engine.name} has lost a put")
    return Figure("put", "µs", seconds)


def _each_put(put: Callable[[bytes, bytes], Any], keys: list[bytes], value: bytes) -> float:
    """Return seconds a put."""
    begin = time.perf_counter()
    for key in keys:
        put(key, value)
    return (time.perf_counter() - begin) / len(keys)
