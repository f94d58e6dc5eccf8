"""A database of many tables opens none that is not read, and needs few files for all of them.

Method: 350 small tables; what a process maps is asked of the system.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from tests.support.databases import configure, opened, stop_service

ROWS = {b"key%07d" % n: b"%d" % n * 40 for n in range(60_000)}
SETTINGS = {"memtable_bytes": 8 << 20, "table_bytes": 1 << 15}


def mapped_tables() -> set[str]:
    """Return the table files that this process maps."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        return {line.split()[-1] for line in maps if line.rstrip().endswith(".sst")}


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("many")
    configure(path, **SETTINGS)
    with opened(path) as db:
        db.put_many(ROWS, durability="os")
        db.compact()
        assert db.stats()["table_count"] > 300
    yield path
    stop_service(path)


def test_a_table_is_opened_when_it_is_first_read(compacted: Path) -> None:
    with opened(compacted) as db:
        assert mapped_tables() == set()
        assert db.get(b"key0000007") == ROWS[b"key0000007"]
        assert len(mapped_tables()) == 1
        assert db.get(b"nothing of the kind") is None
        assert len(mapped_tables()) <= 2
        keys = [b"key%07d" % n for n in range(0, 60_000, 9_000)]
        assert db.multi_get(keys) == [ROWS[key] for key in keys]
        assert len(mapped_tables()) <= 7
        with db.snapshot() as snap:
            assert snap.get(b"key0013000") == ROWS[b"key0013000"]
            assert next(snap.scan(start=b"key0020000", limit=3))[0] == b"key0020000"
        assert len(mapped_tables()) <= 9


def test_more_tables_than_files_a_process_may_open(compacted: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (320, hard))
    try:
        with opened(compacted) as db:
            assert db.multi_get(list(ROWS)) == list(ROWS.values())
            assert dict(db.scan()) == ROWS
            assert len(mapped_tables()) > 320
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_scan_can_be_closed_early(compacted: Path) -> None:
    with opened(compacted) as db, db.snapshot() as snap:
        rows = snap.scan(keys_only=True)
        assert next(rows) == b"key0000000"
        own = db.scan()
        assert next(own) == (b"key0000000", ROWS[b"key0000000"])
        pins = sum(client["pins"] for client in db.stats()["clients"])
        own.close()  # type: ignore[attr-defined]
        assert sum(client["pins"] for client in db.stats()["clients"]) == pins - 1
        assert list(own) == []
        assert len(snap) == len(list(rows)) + 1 == len(ROWS)
        with pytest.raises(ferrisdb.UsageError, match="limit"):
            db.scan(limit=-1)


def test_past_the_memory_for_hash_indexes_the_lowest_tables_have_filters(tmp_path: Path) -> None:
    settings = SETTINGS | {"hash_index_bytes": 1000}
    rows = dict(list(ROWS.items())[:8_000])
    configure(tmp_path, **settings)
    with opened(tmp_path) as db:
        db.put_many(rows, durability="os")
        db.compact()
        assert db.multi_get([*rows, b"key", b"z"]) == [*rows.values(), None, None]
        assert [db.get(key) for key in list(rows)[::50]] == list(rows.values())[::50]
        assert all(db.get(key + b"x") is None for key in list(rows)[::10])
        assert dict(db.scan()) == rows
        assert db.attached.view is not None
        tables = db.attached.view.open_tables()
        assert len(tables) > 10
        assert all(table.properties.filtered for table in tables)
        assert max(table.properties.hash_bytes_per_key for table in tables) < 1.7
        assert db.verify().is_clean
    stop_service(tmp_path)
