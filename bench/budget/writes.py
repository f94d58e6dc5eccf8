"""Single puts by one process: not synced beside RocksDB, synced beside LevelDB.

Each engine gets new keys in random order, those of the warm-up first, which are not counted; what
was written is read back and compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import ferrisdb
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import close
from ferrisdb.bench.budget.workload import keys_from, values
from ferrisdb.bench.engines import ENGINES

Put = Callable[[bytes, bytes], Any]


def put_os(run: Run) -> list[Figure]:
    """One put after the other; ours with "os", which every process sees when it returns."""
    return [_puts(run, ("rocksdict",), run.settings.puts, synced=False)]


def put_sync(run: Run) -> list[Figure]:
    """One put after the other, each on the disk when it returns."""
    return [_puts(run, ("plyvel",), run.settings.synced_puts, synced=True)]


def _puts(run: Run, peers: tuple[str, ...], count: int, *, synced: bool) -> Figure:
    rounds = run.settings.rounds
    keys = keys_from(0, count * (rounds + 1))
    value = values()[0]
    place = run.place("puts")
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        engines: list[tuple[Any, Put]] = []
        for name in (OURS, *peers):
            try:
                engine = ENGINES[name](os.path.join(place, name))
            except ModuleNotFoundError as error:
                run.say(f"{name} is left out: {error}; pip install {error.name}")
                continue
            stack.callback(close, engine)
            engines.append((engine, _synced_put(stack, engine) if synced else engine.put))
        for turn in range(rounds + 1):
            run.say(f"{count:,} puts, round {turn} of {rounds}")
            part = keys[turn * count : (turn + 1) * count]
            for engine, put in engines:
                taken = _each_put(put, part, value)
                if turn:
                    seconds.setdefault(engine.name, []).append(taken * 1e6)
        for engine, _ in engines:
            engine.ready()
            if any(engine.get(key) != value for key in keys):
                raise BudgetError(f"{engine.name} has lost a put")
    return Figure("put", "µs", seconds)


def _each_put(put: Put, keys: list[bytes], value: bytes) -> float:
    """Return seconds a put."""
    begin = time.perf_counter()
    for key in keys:
        put(key, value)
    return (time.perf_counter() - begin) / len(keys)


def _synced_put(stack: ExitStack, engine: Any) -> Put:
    """Return an engine's put that returns when it is on the disk."""
    if engine.name == OURS:
        db = stack.enter_context(ferrisdb.open(engine.db.path, timeout=60, durability="sync"))
        return db.put
    put: Put = partial(engine.db.put, sync=True)
    return put
