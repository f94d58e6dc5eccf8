"""One run of the budgets: its settings, its folder, and the stores that several rows read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ferrisdb.bench.budget.stores import Stores


@dataclass(frozen=True, slots=True)
class Settings:
    """How large the rows are."""

    #: Of the stores that are read, and twice as many absent ones.
    keys: int = 1_000_000
    #: Calls of each engine in a round of reads.
    calls: int = 100_000
    rounds: int = 5
    fill_keys: int = 20_000_000
    fill_rounds: int = 3
    #: Single writes of a round: not synced, and synced.
    puts: int = 20_000
    synced_puts: int = 2_000
    #: Of each round that is bounded by time.
    seconds: float = 3.0
    readers: tuple[int, ...] = (1, 2, 4)
    writers: int = 8
    starved_keys: int = 10_000_000
    #: Of the databases that are started: a small one, a large one.
    start_keys: tuple[int, ...] = (100_000, 5_000_000)
    #: Of redis-benchmark, not pipelined.
    requests: int = 250_000
    socket_keys: int = 500_000
    #: Reader workers; None: the service's default.
    reader_count: int | None = None
    seed: int = 1


class Run:
    """What a row's function is given.

    Owner: the main thread; leaving it closes every store and removes their files.
    """

    def __init__(self, settings: Settings, folder: str, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.folder = folder
        self.say = say
        self._stack = ExitStack()
        self._stores: dict[int, Stores] = {}

    def stores(self, further: int = 0) -> Stores:
        """Return compacted stores of `keys` keys with so many further tables, made once."""
        if further not in self._stores:
            place = self.place(f"stores-{further}")
            made = Stores(place, self.settings.keys, self.settings.seed, self.say)
            self._stack.callback(made.close)
            made.load()
            if further:
                made.add_tables(further)
            self._stores[further] = made
        return self._stores[further]

    def place(self, name: str) -> str:
        """Return an empty folder of that name."""
        path = os.path.join(self.folder, name)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
