"""Measure transactions of several processes: durable ones beside SQLite and LMDB, and contention.

    python -m bench.transactions [--keys N] [--processes N] [--rounds N] [--seconds S] [--json FILE]

Each transaction reads a value and replaces it. All processes run at once for the given time; the
parts and engines take turns, round by round; figures are committed transactions a second of all
processes together, medians with the range.

    durable    uniformly random keys, each commit synced: FerrisDB "sync"; SQLite in WAL mode with
               synchronous=FULL and BEGIN IMMEDIATE; LMDB as it is by default
    hot        all on one key, FerrisDB "os": one process, and all of them
    disjoint   each process on keys of its own, FerrisDB "os": how many conflicts there were
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import ferrisdb
from ferrisdb.bench.measuring import keys_of, parts, write_json

VALUE_BYTES = 100
HOT = b"hot"

Rates = dict[str, dict[str, list[float]]]


class FerrisClient:
    """Transactions through `transact`; counts how often its function was run."""

    def __init__(self, folder: str, durability: str) -> None:
        self.db = ferrisdb.open(folder, timeout=60, durability=durability)
        self.runs = 0

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write every key."""
        self.db.put_many(((key, value) for key in keys), durability="os")

    def replace(self, key: bytes, value: bytes) -> None:
        """Read a key and replace its value."""

        def run(tx: ferrisdb.Transaction) -> None:
            self.runs += 1
            if tx.get(key) is None:
                raise SystemExit("a key is missing")
            tx.put(key, value)

        self.db.transact(run)

    def close(self) -> None:
        """Detach."""
        self.db.close()


class SqliteClient:
    """One connection of its own."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.connection = sqlite3.connect(
            os.path.join(folder, "db"), timeout=60, isolation_level=None
        )
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        self.runs = 0

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write every key."""
        for part in parts(keys, 10_000):
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                "INSERT INTO rows VALUES (?, ?)", [(key, value) for key in part]
            )
            self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def replace(self, key: bytes, value: bytes) -> None:
        """Read a key and replace its value."""
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        if execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone() is None:
            raise SystemExit("a key is missing")
        execute("UPDATE rows SET value = ? WHERE key = ?", (value, key))
        execute("COMMIT")

    def close(self) -> None:
        """Close it."""
        self.connection.close()


class LmdbClient:
    """One environment of its own, synced at each commit."""

    def __init__(self, folder: str) -> None:
        lmdb = importlib.import_module("lmdb")
        self.env = lmdb.open(folder, map_size=16 << 30)
        self.runs = 0

    def load(self, keys: list[bytes], value: bytes) -> None:
        """Write every key."""
        for part in parts(keys, 10_000):
            with self.env.begin(write=True) as transaction:
                for key in part:
                    transaction.put(key, value)

    def replace(self, key: bytes, value: bytes) -> None:
        """Read a key and replace its value."""
        with self.env.begin(write=True) as transaction:
            if transaction.get(key) is None:
                raise SystemExit("a key is missing")
            transaction.put(key, value)

    def close(self) -> None:
        """Close it."""
        self.env.close()


def client_of(name: str, folder: str) -> Any:
    """Return a client of an engine by the name of its part and engine."""
    if name == "sqlite":
        return SqliteClient(folder)
    if name == "lmdb":
        return LmdbClient(folder)
    return FerrisClient(folder, "sync" if name == "ferrisdb" else "os")


def work(pipe: Connection, name: str, folder: str, keys: list[bytes], seed: int) -> None:
    """Run transactions for as long as the pipe asks, and answer how many it were."""
    client = client_of(name, folder)
    rng = random.Random(seed)
    value = bytes(VALUE_BYTES - 8)
    count = 0
    while (seconds := pipe.recv()) is not None:
        done, client.runs = 0, 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            count += 1
            client.replace(rng.choice(keys), value + count.to_bytes(8, "little"))
            done += 1
        pipe.send((done, client.runs))
    client.close()


class Crew:
    """Processes that run one engine's transactions when they are asked to."""

    def __init__(self, name: str, folder: str, keys_of_each: list[list[bytes]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipes = []
        self._processes = []
        for index, keys in enumerate(keys_of_each):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, name, folder, keys, index))
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def rate(self, seconds: float) -> tuple[float, int]:
        """Return transactions a second of all together, and how many attempts failed."""
        for pipe in self._pipes:
            pipe.send(seconds)
        answers = [pipe.recv() for pipe in self._pipes]
        done = sum(answer[0] for answer in answers)
        return done / seconds, sum(max(answer[1] - answer[0], 0) for answer in answers)

    def stop(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


def measure(
    folder: str, key_count: int, processes: int, rounds: int, seconds: float
) -> tuple[Rates, dict[str, int]]:
    """Run every part; returns rates by part and engine, one a round, and failed attempts."""
    keys = keys_of(key_count, 1)
    crews: list[tuple[str, str, Crew]] = []

    def add(part: str, label: str, name: str, place: str, each: list[list[bytes]]) -> None:
        crews.append((part, label, Crew(name, place, each)))

    for name in ("ferrisdb", "sqlite", "lmdb"):
        place = os.path.join(folder, name)
        client = client_of(name, place)
        client.load([*keys, HOT], bytes(VALUE_BYTES))
        client.close()
        add("durable", name, name, place, [keys] * processes)
    place = os.path.join(folder, "ferrisdb")
    add("hot", "one", "os", place, [[HOT]])
    add("hot", "all", "os", place, [[HOT]] * processes)
    add("disjoint", "all", "os", place, [keys[i::processes] for i in range(processes)])
    rates: Rates = {}
    failed: dict[str, int] = {}
    for turn in range(rounds + 1):
        for part, label, crew in crews:
            # The first round starts everything up.
            rate, lost = crew.rate(seconds if turn else 0.5)
            if turn:
                rates.setdefault(part, {}).setdefault(label, []).append(rate)
                failed[f"{part} {label}"] = failed.get(f"{part} {label}", 0) + lost
    for _, _, crew in crews:
        crew.stop()
    return rates, failed


def report(rates: Rates, failed: dict[str, int], say: Callable[[str], None]) -> None:
    """Print the figures."""
    for part, engines in rates.items():
        first = statistics.median(next(iter(engines.values())))
        for name, values in engines.items():
            middle = statistics.median(values)
            say(
                f"{part:10} {name:10} {middle:10.0f} /s  [{min(values):.0f} .. {max(values):.0f}]"
                f"  {first / middle:6.2f} x; failed attempts: {failed[f'{part} {name}']}"
            )


def main() -> int:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", help="where to work: on a disk whose sync is worth measuring")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="ferrisdb-bench-", dir=options.folder)
    try:
        rates, failed = measure(
            folder, options.keys, options.processes, options.rounds, options.seconds
        )
        report(rates, failed, print)
        if options.json:
            write_json(options.json, folder, vars(options), {"rates": rates, "failed": failed})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
