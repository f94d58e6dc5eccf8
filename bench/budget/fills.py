"""Random fill in batches of 1,000, not synced: to the last answer, and until no debt is left.

The keys are made before the clock starts; pairs of key and value are put together within it, for
each engine alike (0.03 µs a row). Every fill starts with an empty directory. "No debt" is when an
engine has nothing more that it wants to flush or compact, without being asked: ours, when no level
is over its target and one memtable is left; RocksDB, when nothing runs or is pending; LevelDB, when
no level is over its target. "At rest" is further: what ours does behind that, once nobody writes.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from typing import Final

from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import close, opened, wait_for_rocksdb
from ferrisdb.bench.budget.workload import VALUE_COUNT, keys_from, value_of, values
from ferrisdb.bench.engines import Engine, Ferris, Level, Rocks
from ferrisdb.bench.engines.leveldb import owes
from ferrisdb.bench.rewrite import wait_until

BATCH_ROWS: Final = 1000
PEERS: Final = ("rocksdict", "plyvel")
CHECKED: Final = 1000


def fill(run: Run) -> list[Figure]:
    """Fill each engine anew in every round."""
    count = run.settings.fill_keys
    keys = keys_from(0, count)
    names: dict[str, dict[str, list[float]]] = {
        what: {} for what in ("acknowledged", "no debt", "at rest")
    }
    for turn in range(run.settings.fill_rounds):
        for name in (OURS, *PEERS):
            run.say(f"{count:,} keys into {name}, round {turn + 1} of {run.settings.fill_rounds}")
            place = run.place("fill")
            engine = opened(name, os.path.join(place, name), run.say)
            if engine is None:
                continue
            try:
                for what, seconds in _fill(engine, keys).items():
                    names[what].setdefault(name, []).append(seconds / count * 1e6)
            finally:
                close(engine)
                shutil.rmtree(place)
    return [Figure(what, "µs a row", rounds) for what, rounds in names.items()]


def _fill(engine: Engine, keys: list[bytes]) -> dict[str, float]:
    """Write every key, check a few, and return the seconds until each state."""
    twice = values() * 2
    put_batch = engine.put_batch
    begin = time.perf_counter()
    for at in range(0, len(keys), BATCH_ROWS):
        offset = at % VALUE_COUNT
        batch = keys[at : at + BATCH_ROWS]
        put_batch(list(zip(batch, twice[offset : offset + len(batch)], strict=True)))
    found = {"acknowledged": time.perf_counter() - begin}
    wait_for_no_debt(engine)
    found["no debt"] = time.perf_counter() - begin
    if isinstance(engine, Ferris):
        wait_until(engine.db, "at rest")
        found["at rest"] = time.perf_counter() - begin
    engine.ready()
    for number in random.Random(1).sample(range(len(keys)), min(CHECKED, len(keys))):
        if engine.get(keys[number]) != value_of(number):
            raise BudgetError(f"{engine.name} returned a wrong value behind a fill")
    return found


def wait_for_no_debt(engine: Engine) -> None:
    """Wait until an engine has nothing more to flush or compact."""
    if isinstance(engine, Ferris):
        wait_until(engine.db, "paid")
    elif isinstance(engine, Rocks):
        wait_for_rocksdb(engine.db)
    elif isinstance(engine, Level):
        while owes(engine.db.get_property(b"leveldb.stats").decode()):
            time.sleep(0.01)
