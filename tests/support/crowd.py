"""Start processes that contend for the same keys, kill the service's meanwhile, and judge.

Used by the process tests, and by scripts/soak with larger counts.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

import ferrisdb
from ferrisdb import service
from tests.support import contenders, databases, linearizability
from tests.support.contenders import ACCOUNTS, FIRST_BALANCE, RING_NODES, Job, Told, to_list
from tests.support.serializability import Append, RangeRead, Read, Tx, Verdict, check

PROCESSES = 8
GIVE_UP_S = 1200.0

Say = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""
    del line


class Crowd:
    """Processes that do one job on one database.

    Shape:  kills, how often to kill a process of the service while they run; client_kills, how
            often one of them, which then goes on from what it was told.
    """

    def __init__(self, path: Path, job: Job, count: int, seed: int) -> None:
        self._path = path
        self._job = job
        self._count = count
        self._seed = seed
        self._rng = random.Random(seed)
        self._context = multiprocessing.get_context("spawn")
        self.kills: dict[str, int] = defaultdict(int)

    def file(self, index: int) -> Path:
        """Return where a process leaves what it found."""
        return self._path.with_name(f"{self._path.name}.{index}")

    def _start(self, index: int) -> Any:
        arguments = (str(self._path), index, self._seed, self._count, str(self.file(index)))
        process = self._context.Process(target=self._job, args=arguments)
        process.start()
        return process

    def run(self, *, kills: int = 0, client_kills: int = 0, pause_s: float = 0.5) -> None:
        """Run them to their end; raises AssertionError if one fails."""
        children = [self._start(index) for index in range(PROCESSES)]
        give_up = time.monotonic() + GIVE_UP_S
        try:
            while any(child.is_alive() for child in children):
                assert time.monotonic() < give_up, "the processes do not come to their end"
                time.sleep(self._rng.uniform(0.3, 1.7) * pause_s)
                if client_kills and self._rng.random() < 0.5:
                    index = self._rng.randrange(PROCESSES)
                    if children[index].is_alive():
                        children[index].kill()
                        children[index].join()
                        children[index] = self._start(index)
                        self.kills["client"] += 1
                        client_kills -= 1
                elif kills and self._kill_of_service():
                    kills -= 1
            for index, child in enumerate(children):
                child.join()
                assert child.exitcode == 0, f"process {index} ended with {child.exitcode}"
        finally:
            for child in children:
                if child.is_alive():
                    child.kill()
                child.join()

    def _kill_of_service(self) -> bool:
        found = service.find(str(self._path))
        if found is None:
            return False
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            coordinator = psutil.Process(found.control.coordinator_pid)
            if self._rng.random() < 0.3:
                for child in coordinator.children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
                        self.kills["compactor"] += 1
                        return True
            os.kill(coordinator.pid, signal.SIGKILL)
            self.kills["coordinator"] += 1
            return True
        return False

    def found(self) -> list[Any]:
        """Return what the processes left, in one list."""
        return [
            one for index in range(PROCESSES) for one in pickle.loads(self.file(index).read_bytes())
        ]

    def told(self) -> list[int]:
        """Return how many acknowledgements each process has had."""
        counts = []
        for index in range(PROCESSES):
            one = Told(str(self.file(index)))
            counts.append(one.count)
            one.close()
        return counts


def configured(path: Path) -> Path:
    """Make a directory whose service flushes and compacts often."""
    databases.configure(path, memtable_bytes="256KiB")
    return path


def judge_lists(path: Path, job: Job, count: int, seed: int, kills: int = 0) -> Verdict:
    """Run a job that appends to lists; returns what is wrong with its history."""
    crowd = Crowd(configured(path), job, count, seed)
    with databases.opened(path) as db:
        crowd.run(kills=kills)
        history = [tx for tx, _ in crowd.found()]
        now = time.monotonic_ns()
        whole = tuple(Read(key, to_list(value)) for key, value in db.scan(prefix=b"l"))
        history.append(Tx("final", whole, "committed", now, time.monotonic_ns()))
    return check(history, strict=job is not contenders.snapshot_lists)


def judge_registers(path: Path, count: int, seed: int, kills: int = 0) -> Verdict:
    """Run the job that puts into registers; the order of the puts is that of their sequences."""
    crowd = Crowd(configured(path), contenders.registers, count, seed)
    with databases.opened(path) as db:
        crowd.run(kills=kills)
        found: list[tuple[Tx, int]] = crowd.found()
        last = [(key, to_list(value)) for key, value in db.scan(prefix=b"l")]
    orders: dict[bytes, list[int]] = defaultdict(list)
    for tx, _ in sorted((one for one in found if one[0].status == "committed"), key=lambda o: o[1]):
        for op in tx.ops:
            if isinstance(op, Append):
                orders[op.key].append(op.value)

    def as_list(key: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
        # What was put by a transaction that did not commit is in no order: its own, or wrong.
        order = orders[key]
        if not values or values[0] not in order:
            return values
        return tuple(order[: order.index(values[0]) + 1])

    history = [_as_lists(tx, as_list) for tx, _ in found]
    now = time.monotonic_ns()
    whole = tuple(Read(key, as_list(key, values)) for key, values in last)
    history.append(Tx("final", whole, "committed", now, now))
    return check(history, strict=True)


def _as_lists(tx: Tx, as_list: Callable[[bytes, tuple[int, ...]], tuple[int, ...]]) -> Tx:
    """Return a register's transaction as one of lists: a read shows all up to what it read.

    A read behind an own put is left out: it shows that one, which has been looked at here.
    """
    ops: list[Append | Read | RangeRead] = []
    own: dict[bytes, int] = {}
    for op in tx.ops:
        if isinstance(op, Append):
            own[op.key] = op.value
            ops.append(op)
        elif isinstance(op, Read):
            if op.key in own:
                assert op.values == (own[op.key],), f"{tx.name} does not see its own put"
            else:
                ops.append(Read(op.key, as_list(op.key, op.values)))
        else:
            rows = dict(op.rows)
            keys = sorted(key for key in own if op.first <= key and (not op.last or key < op.last))
            assert all(rows.get(key) == (own[key],) for key in keys), tx.name
            # Around the keys that it has put itself.
            bounds = [op.first, *(edge for key in keys for edge in (key, key + b"\x00")), op.last]
            for first, last in zip(bounds[::2], bounds[1::2], strict=True):
                assert first is not None and last is not None
                within = tuple(
                    (key, as_list(key, values)) for key, values in op.rows if first <= key < last
                )
                ops.append(RangeRead(first, last, within))
    return Tx(tx.name, tuple(ops), tx.status, tx.begin_ns, tx.end_ns)


def unexplained_calls(
    path: Path, count: int, seed: int, kills: int = 0
) -> tuple[int, tuple[bytes, Sequence[linearizability.Call]] | None]:
    """Run calls on single keys; returns how many there were and a key that no order explains."""
    crowd = Crowd(configured(path), contenders.calls, count, seed)
    with databases.opened(path):
        crowd.run(kills=kills)
    found = crowd.found()
    return len(found), linearizability.first_unexplained(found)


def check_invariant(
    path: Path, job: Job, count: int, seed: int, *, kills: int = 0, client_kills: int = 0
) -> dict[str, int]:
    """Run transfers or relinks; returns who was killed how often.

    What was applied is what was told; where clients are killed each kill may hide one.
    """
    crowd = Crowd(configured(path), job, count, seed)
    with databases.opened(path) as db:
        with db.write_batch() as batch:
            for number in range(ACCOUNTS):
                batch.put(b"account/%d" % number, b"%d" % FIRST_BALANCE)
            for number in range(RING_NODES):
                batch.put(b"ring/%d" % number, b"%d" % ((number + 1) % RING_NODES))
        crowd.run(kills=kills, client_kills=client_kills)
        _check_state(db)
        applied = [int(db[b"applied/%d" % index]) for index in range(PROCESSES)]
    told = crowd.told()
    assert told == [count] * PROCESSES, told
    hidden = sum(applied) - sum(told)
    assert all(a >= t for a, t in zip(applied, told, strict=True)), (applied, told)
    assert 0 <= hidden <= crowd.kills["client"], (applied, told, dict(crowd.kills))
    return dict(crowd.kills)


def _check_state(db: ferrisdb.Database) -> None:
    with db.snapshot() as snapshot:
        total = sum(int(value) for _, value in snapshot.scan(prefix=b"account/"))
        ring = {int(key[5:]): int(value) for key, value in snapshot.scan(prefix=b"ring/")}
    assert total == ACCOUNTS * FIRST_BALANCE, total
    at, length = ring[0], 1
    while at != 0 and length <= RING_NODES:
        at, length = ring[at], length + 1
    assert length == RING_NODES, ring


def check_sum(path: Path, job: Job, count: int, seed: int, *, kills: int = 0) -> dict[str, int]:
    """Have each process add one `count` times; returns who was killed how often."""
    crowd = Crowd(configured(path), job, count, seed)
    with databases.opened(path) as db:
        crowd.run(kills=kills)
        assert db[b"n"] == b"%d" % (PROCESSES * count), db[b"n"]
    return dict(crowd.kills)
