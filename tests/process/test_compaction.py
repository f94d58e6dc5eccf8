"""Compaction in a real service: the tree keeps its shape, readers see nothing, no space leaks.

Method: tiny memtables and levels, a dictionary beside the database.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import ferrisdb
from ferrisdb.errors import Error
from ferrisdb.kernel.table import Table
from tests.support.databases import configure, coordinator_pid, opened, stop_service

TINY = {"memtable_bytes": 1 << 18, "table_bytes": 1 << 15, "level_base_bytes": 1 << 17}
WAIT_S = 30.0


class Load:
    """Random writes, and what the database must say after them."""

    def __init__(self, seed: int, key_count: int = 3000) -> None:
        self.rng = random.Random(seed)
        self.key_count = key_count
        self.rows: dict[bytes, bytes] = {}

    def key(self) -> bytes:
        return b"key%06d" % self.rng.randrange(self.key_count)

    def write(self, db: ferrisdb.Database, batches: int) -> None:
        for _ in range(batches):
            with db.write_batch() as batch:
                for _ in range(100):
                    key = self.key()
                    if self.rng.random() < 0.3:
                        batch.delete(key)
                        self.rows.pop(key, None)
                    else:
                        self.rows[key] = b"%d" % self.rng.getrandbits(300)
                        batch.put(key, self.rows[key])
            if self.rng.random() < 0.05:
                start, end = sorted((self.key(), self.key()))
                end = min(end, start + b"~")
                if start < end:
                    db.delete_range(start, end)
                    self.rows = {k: v for k, v in self.rows.items() if not start <= k < end}

    def check(self, db: ferrisdb.Database) -> None:
        assert dict(db.scan()) == self.rows
        assert list(db.scan(reverse=True)) == sorted(self.rows.items(), reverse=True)
        keys = [b"key%06d" % n for n in range(0, self.key_count, 7)]
        assert db.multi_get(keys) == [self.rows.get(key) for key in keys]
        assert [db.get(key) for key in keys] == [self.rows.get(key) for key in keys]


def wait_for(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < give_up, "in vain"
        time.sleep(0.01)


def tables(path: Path) -> set[int]:
    return {int(file.stem) for file in path.glob("*.sst")}


def live_tables(db: ferrisdb.Database) -> set[int]:
    """Return the tables once what they replaced is gone."""
    path = Path(db.path)
    wait_for(lambda: len(tables(path)) == db.stats()["table_count"])
    return tables(path)


def level_bytes(db: ferrisdb.Database) -> dict[int, int]:
    db.get(b"")
    return {int(level): row["bytes"] for level, row in db.stats()["levels"].items()}


def is_settled(db: ferrisdb.Database) -> bool:
    db.get(b"")
    stats = db.stats()
    if stats["levels"].get("0", {"tables": 0})["tables"] >= 4:
        return False
    sizes = level_bytes(db)
    last = sizes.get(6, 0)
    wanted = {
        level: max(last / 10 ** (6 - level), TINY["level_base_bytes"] / 10) for level in sizes
    }
    return all(sizes[level] <= wanted[level] for level in sizes if 0 < level < 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "db"
    configure(directory, **TINY)
    return directory


def test_levels_settle_into_their_shape_and_reads_stay_right(path: Path) -> None:
    load = Load(1)
    with opened(path) as db:
        for _ in range(8):
            load.write(db, 40)
            load.check(db)
        wait_for(lambda: is_settled(db))
        load.check(db)
        # Where nobody looks back there is one version of each key.
        live_bytes = sum(len(key) + len(value) for key, value in load.rows.items())
        assert level_bytes(db)[6] < 1.5 * live_bytes
        live_tables(db)


def test_compact_leaves_one_level_without_anything_dead(path: Path) -> None:
    load = Load(2)
    with opened(path) as db:
        load.write(db, 120)
        db.compact()
        load.check(db)
        assert set(level_bytes(db)) == {6}
        count = 0
        for number in live_tables(db):
            table = Table(path / f"{number:06}.sst")
            table.verify()
            assert table.properties.delete_count == table.properties.fragment_count == 0
            count += table.properties.entry_count
            table.close()
        assert count == len(load.rows)
        db.clear()
        db.compact(timeout=WAIT_S)
        assert level_bytes(db) == {}
        wait_for(lambda: tables(path) == set())


def test_compact_of_a_range_leaves_the_rest_alone(path: Path) -> None:
    with opened(path) as db:
        rows = {b"%05d" % n: b"x" * 100 for n in range(5000)}
        db.put_many(rows.items())
        db.compact()
        before = live_tables(db)
        db.put_many((b"%05d" % n, b"y" * 100) for n in range(1000, 1200))
        db.compact(b"01000", b"01200")
        assert len(before & live_tables(db)) > len(before) // 2
        assert db.get(b"01100") == b"y" * 100 and db.get(b"00999") == b"x" * 100
        db.compact(b"b", b"a")
        with pytest.raises(ferrisdb.errors.WrongTypeError):
            db.compact("a")  # type: ignore[arg-type]


def test_a_snapshot_stays_while_all_of_it_is_rewritten(path: Path) -> None:
    load = Load(3)
    with opened(path) as db:
        load.write(db, 60)
        then = dict(load.rows)
        with db.snapshot() as snap:
            rows = snap.scan()
            first = next(rows)
            for _ in range(3):
                load.write(db, 60)
                db.compact()
            assert dict(snap.scan()) == then
            assert [first, *rows] == sorted(then.items())
            keys = list(then)[::5]
            assert snap.multi_get(keys) == [then[key] for key in keys]
            load.check(db)
            beside = sum(level_bytes(db).values())
        # What the snapshot held goes by itself: nobody writes any more.
        db.compact()
        live_tables(db)
        # In the version that others read, nothing was kept for it.
        assert beside <= 1.05 * sum(level_bytes(db).values())
        load.check(db)


def test_what_expired_goes_at_the_bottom(path: Path) -> None:
    with opened(path) as db:
        for n in range(500):
            db.put(b"%04d" % n, b"v", ttl=0.001 if n % 2 else 3600)
        wait_for(lambda: db.get(b"0499") is None)
        db.compact()
        (number,) = live_tables(db)
        table = Table(path / f"{number:06}.sst")
        assert table.properties.entry_count == 250
        table.close()


@pytest.mark.parametrize("changes", [{}, {"block_bytes": 64}, {"table_bytes": 1 << 13}])
def test_options_do_not_change_answers(tmp_path: Path, changes: dict[str, int]) -> None:
    directory = tmp_path / "db"
    configure(directory, **(TINY | changes))
    load = Load(4, key_count=400)
    with opened(directory) as db:
        load.write(db, 150)
        load.check(db)
    with opened(directory) as db:
        load.check(db)


def compactor_of(directory: Path) -> psutil.Process | None:
    try:
        children = psutil.Process(coordinator_pid(directory)).children()
    except psutil.Error:
        return None
    found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return found[0] if found else None


@pytest.fixture
def killing(path: Path) -> Iterator[list[int]]:
    """Kill the compactor now and then, until told to stop; the list grows with each kill."""
    kills: list[int] = []
    stop = threading.Event()
    rng = random.Random(5)

    def kill() -> None:
        # Rarer and rarer: on a busy machine it takes a second to be there again.
        while not stop.wait(rng.uniform(0.3, 1.0) * (1 + len(kills))):
            try:
                process = compactor_of(path)
                if process is not None:
                    process.send_signal(signal.SIGKILL)
                    kills.append(process.pid)
            except (psutil.Error, AssertionError, Error):
                continue

    thread = threading.Thread(target=kill)
    yield_to: Any = (kills, thread, stop)
    try:
        yield yield_to
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()


def test_a_killed_compactor_costs_nothing_and_leaves_nothing(path: Path, killing: Any) -> None:
    kills, thread, stop = killing
    load = Load(6)
    with opened(path) as db:
        load.write(db, 5)
        thread.start()
        while len(kills) < 4:
            load.write(db, 30)
            load.check(db)
        stop.set()
        thread.join()
        load.write(db, 30)
        db.compact()
        load.check(db)
    stop_service(path)
    with opened(path) as db:
        load.check(db)
        live_tables(db)
        assert not [name for name in os.listdir(path) if name.endswith(".tmp")]
