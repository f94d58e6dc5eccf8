"""What the processes do that contend for the same keys; crowd.py starts and kills them.

Each job is called in a process of its own with the directory, its index, a seed, how often to do
it, and a file: what it did goes there at its end, or, for those that may be killed, what it was
told so far, in eight bytes that survive it.
"""

from __future__ import annotations

import mmap
import pickle
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ferrisdb
from ferrisdb.errors import ConflictError, SnapshotTooOldError
from tests.support.linearizability import Call
from tests.support.serializability import Append, RangeRead, Read, Status, Tx

Job = Callable[[str, int, int, int, str], None]

HOT_KEYS = 5
TXS_PER_GENERATION = 25
"""After so many transactions a process goes over to new keys: lists stay short."""

ACCOUNTS = 10
FIRST_BALANCE = 1000
RING_NODES = 12
TIMEOUT_S = 120.0


def _open(path: str) -> ferrisdb.Database:
    return ferrisdb.open(path, durability="os", timeout=TIMEOUT_S)


def _save(file: str, found: object) -> None:
    Path(file).write_bytes(pickle.dumps(found))


# Histories of transactions


class _Recorder:
    """Runs transactions of random operations and notes what they read and wrote."""

    def __init__(self, db: ferrisdb.Database, index: int, seed: int, isolation: str) -> None:
        self.db = db
        self.index = index
        self.rng = random.Random(seed * 1000 + index)
        self.isolation = isolation
        self.last_value = index * 10_000_000
        self.done: list[tuple[Tx, int]] = []

    def key(self, number: int) -> bytes:
        generation = number // TXS_PER_GENERATION
        return b"l%06d" % (generation * HOT_KEYS + self.rng.randrange(HOT_KEYS))

    def run(self, number: int) -> None:
        """Run one transaction, whatever becomes of it."""
        ops: list[Append | Read | RangeRead] = []
        status: Status = "aborted"
        tx = self.db.transaction(isolation=self.isolation)
        begin_ns = time.monotonic_ns()
        try:
            for _ in range(self.rng.randint(1, 10)):
                self.step(tx, number, ops)
            if self.rng.random() < 0.05:
                tx.rollback()
            else:
                tx.commit()
                status = "committed"
        except (ConflictError, SnapshotTooOldError):
            pass
        finally:
            tx.rollback()
        name = f"{self.index}.{number}"
        self.done.append((Tx(name, tuple(ops), status, begin_ns, time.monotonic_ns()), tx.seq))

    def step(self, tx: Any, number: int, ops: list[Append | Read | RangeRead]) -> None:
        raise NotImplementedError

    def range_read(self, tx: Any, number: int) -> RangeRead:
        first, last = sorted([self.key(number), self.key(number)])
        last += b"\x00"
        limit = self.rng.choice([None, None, 1, 2, 3])
        reverse = self.rng.random() < 0.4
        rows = list(tx.scan(first, last, limit=limit, reverse=reverse))
        if limit is not None and len(rows) == limit:
            first, last = (rows[-1][0], last) if reverse else (first, rows[-1][0] + b"\x00")
        return RangeRead(first, last, tuple((key, to_list(value)) for key, value in rows))


def to_list(value: bytes | None) -> tuple[int, ...]:
    """Return the list that a value is: numbers, each with a comma behind it."""
    return tuple(int(part) for part in (value or b"").split(b",")[:-1])


class _Lists(_Recorder):
    """Appends, as atomic operations or by reading and writing, which snapshot isolation needs."""

    def step(self, tx: Any, number: int, ops: list[Append | Read | RangeRead]) -> None:
        key = self.key(number)
        kind = self.rng.random()
        if kind < 0.45:
            self.last_value += 1
            if self.isolation == "serializable" and self.rng.random() < 0.5:
                tx.append(key, b"%d," % self.last_value)
            else:
                held = tx.get(key, b"")
                ops.append(Read(key, to_list(held)))
                tx.put(key, held + b"%d," % self.last_value)
            ops.append(Append(key, self.last_value))
        elif kind < 0.8:
            ops.append(Read(key, to_list(tx.get(key))))
        else:
            ops.append(self.range_read(tx, number))


class _Registers(_Recorder):
    """Puts, blind ones among them, and reads of what was put last."""

    def step(self, tx: Any, number: int, ops: list[Append | Read | RangeRead]) -> None:
        key = self.key(number)
        kind = self.rng.random()
        if kind < 0.4:
            self.last_value += 1
            tx.put(key, b"%d," % self.last_value)
            ops.append(Append(key, self.last_value))
        elif kind < 0.8:
            ops.append(Read(key, to_list(tx.get(key))))
        else:
            ops.append(self.range_read(tx, number))


def _record(make: Callable[..., _Recorder], isolation: str) -> Job:
    def job(path: str, index: int, seed: int, count: int, file: str) -> None:
        with _open(path) as db:
            recorder = make(db, index, seed, isolation)
            for number in range(count):
                recorder.run(number)
        _save(file, recorder.done)

    return job


def lists(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Append to lists and read them, serializably."""
    _record(_Lists, "serializable")(path, index, seed, count, file)


def snapshot_lists(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Append to lists and read them under snapshot isolation."""
    _record(_Lists, "snapshot")(path, index, seed, count, file)


def registers(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Put and read registers, serializably."""
    _record(_Registers, "serializable")(path, index, seed, count, file)


# Calls on single keys


def calls(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Call get, put, delete, compare_and_set and add on few keys, and note the answers."""
    rng = random.Random(seed * 1000 + index)
    done = []
    with _open(path) as db:
        for number in range(count):
            key = b"c%05d" % (number // 200 * 4 + rng.randrange(4))
            begin_ns = time.monotonic_ns()
            argument: Any = None
            answer: Any = None
            name: Any = rng.choice(["get", "get", "put", "delete", "compare_and_set", "add"])
            if name == "get":
                answer = db.get(key)
            elif name == "put":
                argument = b"%d" % (index * 1_000_000 + number)
                db.put(key, argument)
            elif name == "delete":
                db.delete(key)
            elif name == "compare_and_set":
                old = db.get(key)
                begin_ns = time.monotonic_ns()
                argument = (old, rng.choice([b"%d" % number, b"%d" % -number]))
                answer = db.compare_and_set(key, *argument)
            else:
                argument = rng.randint(1, 9)
                answer = db.add(key, argument)
            done.append(Call(name, key, argument, answer, begin_ns, time.monotonic_ns()))
    _save(file, done)


# Invariants, and counts of what was told


class Told:
    """How many acknowledgements a process has had: eight bytes of a file, kept if it is killed."""

    def __init__(self, file: str) -> None:
        place = Path(file)
        if not place.exists():
            place.write_bytes(bytes(8))
        with place.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 8)

    @property
    def count(self) -> int:
        """How many."""
        found: int = struct.unpack("<Q", self._map[:])[0]
        return found

    def one_more(self) -> None:
        """Count an acknowledgement."""
        self._map[:] = struct.pack("<Q", self.count + 1)

    def close(self) -> None:
        """Let the file go."""
        self._map.close()


def _repeat(
    path: str, index: int, seed: int, count: int, file: str, do: Callable[[Any, Any], None]
) -> None:
    told = Told(file)
    rng = random.Random(seed * 1000 + index + told.count * 7919)

    def run(tx: Any) -> None:
        do(tx, rng)
        tx.add(b"applied/%d" % index)

    with _open(path) as db:
        while told.count < count:
            db.transact(run)
            told.one_more()
    told.close()


def _transfer(tx: Any, rng: random.Random) -> None:
    source, target = rng.sample(range(ACCOUNTS), 2)
    amount = rng.randint(1, 20)
    held = [int(tx[b"account/%d" % number]) for number in (source, target)]
    if held[0] >= amount:
        tx[b"account/%d" % source] = b"%d" % (held[0] - amount)
        tx[b"account/%d" % target] = b"%d" % (held[1] + amount)


def transfers(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Move money between accounts."""
    _repeat(path, index, seed, count, file, _transfer)


def _relink(tx: Any, rng: random.Random) -> None:
    # a -> b -> c -> d becomes a -> c -> b -> d
    one = rng.randrange(RING_NODES)
    two = int(tx[b"ring/%d" % one])
    three = int(tx[b"ring/%d" % two])
    four = int(tx[b"ring/%d" % three])
    tx[b"ring/%d" % one] = b"%d" % three
    tx[b"ring/%d" % three] = b"%d" % two
    tx[b"ring/%d" % two] = b"%d" % four


def relinks(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Swap neighbours in a ring, as FoundationDB's Cycle workload does."""
    _repeat(path, index, seed, count, file, _relink)


def adds(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Add one to the same key, atomically."""
    del index, seed
    told = Told(file)
    with _open(path) as db:
        while told.count < count:
            db.add(b"n", 1)
            told.one_more()
    told.close()


def increments(path: str, index: int, seed: int, count: int, file: str) -> None:
    """Add one to the same key by reading and writing it."""
    del index, seed

    def increase(tx: Any) -> None:
        tx[b"n"] = b"%d" % (int(tx.get(b"n", b"0")) + 1)

    told = Told(file)
    with _open(path) as db:
        while told.count < count:
            db.transact(increase)
            told.one_more()
    told.close()
