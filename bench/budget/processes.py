"""Several processes that read one store at once."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import Final

from ferrisdb.bench.budget.crew import Crew
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.workload import keys_from, value_of
from ferrisdb.bench.engines import ENGINES

#: Reads between two looks at the clock.
STRETCH: Final = 500
READ_CHECKED: Final = 1000


class Reader:
    """One attached process that gets random keys."""

    def __init__(self, engine: str, folder: str, key_count: int, seed: int) -> None:
        self._engine = ENGINES[engine](folder)
        self.close = self._engine.close
        self._get = self._engine.get
        rng = random.Random(seed)
        numbers = rng.sample(range(key_count), min(key_count, 100_000))
        keys = keys_from(0, key_count)
        self._keys = [keys[number] for number in numbers]
        self._at = 0
        for number in numbers[:READ_CHECKED]:
            if self._get(keys[number]) != value_of(number):
                raise BudgetError(f"{engine} returned a wrong value")

    def run(self, seconds: float) -> float:
        """Get for so long; return gets a second."""
        get, done = self._get, 0
        begin = time.perf_counter()
        end = begin + seconds
        while time.perf_counter() < end:
            stretch = self._keys[self._at : self._at + STRETCH]
            self._at = (self._at + STRETCH) % len(self._keys)
            for key in stretch:
                get(key)
            done += len(stretch)
        return done / (time.perf_counter() - begin)


def readers(run: Run) -> list[Figure]:
    """Gets of 1, 2, 4 ... processes at once: the rate of all, and how often that of one."""
    settings = run.settings
    counts = sorted({1, *settings.readers})
    stores = run.stores()
    rates: dict[int, dict[str, list[float]]] = {count: {} for count in counts}
    with ExitStack() as stack:
        crews = []
        for engine in stores.engines:
            if engine.name not in (OURS, "lmdb"):
                continue
            place = stores.folder_of(engine.name)
            arguments = [(engine.name, place, settings.keys, seed) for seed in range(counts[-1])]
            crews.append(stack.enter_context(Crew(engine.name, Reader, arguments)))
        for turn in range(settings.rounds):
            for count in counts:
                run.say(f"{count} readers, round {turn + 1} of {settings.rounds}")
                for crew in crews:
                    rate = sum(crew.run(settings.seconds, count))
                    rates[count].setdefault(crew.name, []).append(rate)
    figures = [Figure(_title(n), "/s", rates[n], more_is_better=True) for n in counts]
    return figures + [_scaling(n, rates[1], rates[n]) for n in counts[1:]]


def _title(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def _scaling(count: int, alone: dict[str, list[float]], together: dict[str, list[float]]) -> Figure:
    rounds = {
        name: [many / one for many, one in zip(together[name], alone[name], strict=True)]
        for name in together
    }
    return Figure(f"scaling to {count}", "× one", rounds, more_is_better=True)
