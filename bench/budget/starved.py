"""Random gets of data four times as large as the memory that is allowed, beside RocksDB.

Each engine has a control group of its own with the same limit, in which one process reads; ours
has its service in the group, too. Data are written without the limit and compacted; then the
pages of the files are dropped, so that each group pays for what it reads. Before the clock starts
all is scanned once (ours checks a page when it first touches it) and random keys are read until
they have the disk read no less than those before. Values don't compress: else RocksDB, which
compresses, would have less than four times the memory to read.

FerrisDB: memtables of 1 MiB, for nothing is written. RocksDB: twice, with its default block cache
of 32 MiB and the rest left to the page cache, and with a block cache of half the memory; the
faster of the two counts.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from ferrisdb.bench.budget.crew import Crew
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure
from ferrisdb.bench.budget.memory_group import MemoryGroup
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import close, end_service, opened
from ferrisdb.bench.budget.workload import ENTRY_BYTES, keys_from, pairs_of, value_of
from ferrisdb.bench.engines import ENGINES
from ferrisdb.bench.rewriting import keys_of

TIMES: Final = 4
BATCH_ROWS: Final = 1000
PEERS: Final = ("rocksdict", "rocksdict, large cache")
MEMTABLE_BYTES: Final = 1 << 20
#: Gets between two looks at the clock; the last one's value is compared.
STRETCH: Final = 50
#: Gets go on for so long before the clock starts, again and again while a get has the disk read
#: less than this part of what one had it read before, but no longer than that in all.
WARM_S: Final = 3.0
WARM_PART: Final = 0.97
WARM_S_MAX: Final = 60.0


class Reader:
    """One process in a group of its own, which gets random keys."""

    def __init__(self, engine: str, folder: str, group: MemoryGroup, key_count: int) -> None:
        group.join()
        self._key_count = key_count
        self._rng = random.Random(1)
        store = ENGINES[engine.partition(",")[0]](folder, _settings(engine, group.bytes_max))
        self._get, self.close = store.get, store.close
        if sum(1 for _ in store.all_rows()) != key_count:
            raise BudgetError(f"{engine} has another number of rows")
        give_up = time.monotonic() + WARM_S_MAX
        before, after = float("inf"), self.run(WARM_S)[1]
        while after < WARM_PART * before and time.monotonic() < give_up:
            before, after = after, self.run(WARM_S)[1]

    def run(self, seconds: float) -> tuple[float, float]:
        """Get for so long; return µs a get, and bytes that were read from the disk for each."""
        get, done, used_s = self._get, 0, 0.0
        before = _read_bytes()
        while used_s < seconds:
            numbers = [self._rng.randrange(self._key_count) for _ in range(STRETCH)]
            keys = keys_of(np.array(numbers, dtype=np.uint64))
            value = None
            begin = time.perf_counter()
            for key in keys:
                value = get(key)
            used_s += time.perf_counter() - begin
            done += STRETCH
            if value != value_of(numbers[-1], compressible=False):
                raise BudgetError("a wrong value was returned")
        return used_s / done * 1e6, (_read_bytes() - before) / done


def _read_bytes() -> int:
    """Return how much this process has had the disk read, page faults included."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "read_bytes":
            return int(value)
    return 0


def _settings(engine: str, bytes_max: int) -> dict[str, Any]:
    if engine == OURS:
        return {"memtable_bytes": MEMTABLE_BYTES}
    return {"cache_bytes": bytes_max // 2} if engine == PEERS[1] else {}


def starved(run: Run) -> list[Figure]:
    """Random get at four times the memory; also how many bytes each get has the disk read."""
    settings = run.settings
    key_count = settings.starved_keys
    bytes_max = key_count * ENTRY_BYTES // TIMES
    place = run.place("starved")
    times: dict[str, list[float]] = {}
    read: dict[str, list[float]] = {}
    with ExitStack() as stack:
        groups = {
            name: stack.enter_context(MemoryGroup(f"budget-{number}", bytes_max))
            for number, name in enumerate((OURS, *PEERS))
        }
        crews = []
        for name in _load(run, place, key_count):
            folder = os.path.join(place, name)
            if name == OURS:
                stack.callback(end_service, folder)
            run.say(f"warming {name} up in {bytes_max / 1e6:.0f} MB")
            arguments = [(name, folder, groups[name], key_count)]
            crews.append(stack.enter_context(Crew(name, Reader, arguments)))
        for turn in range(settings.rounds):
            run.say(f"starved, round {turn + 1} of {settings.rounds}")
            for crew in crews:
                ((taken, nbytes),) = crew.run(settings.seconds)
                times.setdefault(crew.name, []).append(taken)
                read.setdefault(crew.name, []).append(nbytes)
    return [Figure("get", "µs", times), Figure("read from the disk", "B a get", read)]


def _load(run: Run, place: str, key_count: int) -> list[str]:
    """Write and compact the data of each engine that is here, and drop the files' pages."""
    loaded = []
    for name in (OURS, PEERS[0]):
        run.say(f"loading {key_count:,} keys into {name}")
        engine = opened(name, os.path.join(place, name), run.say)
        if engine is None:
            continue
        try:
            for first in range(0, key_count, BATCH_ROWS):
                keys = keys_from(first, min(BATCH_ROWS, key_count - first))
                engine.put_batch(pairs_of(first, keys, compressible=False))
            engine.settle()
        finally:
            close(engine)
        loaded.append(name)
    if PEERS[0] in loaded:
        shutil.copytree(os.path.join(place, PEERS[0]), os.path.join(place, PEERS[1]))
        loaded.append(PEERS[1])
    for path in Path(place).rglob("*"):
        if path.is_file():
            drop_pages(path)
    return loaded


def drop_pages(path: Path) -> None:
    """Have the system forget what it has of a file in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # What isn't on the disk yet can't be dropped.
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
