"""Several processes that write at once, each of their puts on the disk when it returns."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from typing import Final

from ferrisdb.bench.budget.crew import Crew
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import end_service, opened
from ferrisdb.bench.budget.workload import VALUE_COUNT, keys_from, values
from ferrisdb.bench.engines import ENGINES, SYNC
from ferrisdb.bench.measuring import parts

#: Loaded before, with the second value, which is replaced by the first one.
KEYS_MAX: Final = 100_000
PEERS: Final = ("sqlite3", "lmdb")
BATCH_ROWS: Final = 1000


class Writer:
    """One process that replaces values of random keys."""

    def __init__(self, engine: str, folder: str, key_count: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._keys = keys_from(0, key_count)
        self._engine = ENGINES[engine](folder, durability=SYNC)
        self.close = self._engine.close

    def run(self, seconds: float) -> float:
        """Put for so long; return puts a second."""
        put, choice, keys = self._engine.put, self._rng.choice, self._keys
        known = values()
        # SQLite does nothing, and syncs nothing, where the value is the one that is there.
        done, offset, key, value = 0, self._rng.randrange(VALUE_COUNT), keys[0], known[0]
        begin = time.perf_counter()
        end = begin + seconds
        while time.perf_counter() < end:
            key, value = choice(keys), known[(offset + done) % VALUE_COUNT]
            put(key, value)
            done += 1
        rate = done / (time.perf_counter() - begin)
        self._engine.ready()
        if done and self._engine.get(key) != value:
            raise BudgetError("a put is lost")
        return rate


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
            engine = opened(name, folder, run.say)
            if engine is None:
                continue
            if name == OURS:
                stack.callback(end_service, folder)
            for rows in parts([(key, values()[1]) for key in keys_from(0, key_count)], BATCH_ROWS):
                engine.put_batch(rows)
            engine.close()
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
