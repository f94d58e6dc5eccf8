"""Every engine of the harness does what the harness asks of engines. Method: each of them, small.

One that is not installed is skipped, with what the harness says about it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferrisdb.bench.engines import ENGINES, SYNC, Engine, Null
from ferrisdb.bench.engines.rocksdb import Rocks

ROWS = [(b"key %03d" % n, b"value %d " % n + bytes(range(200))) for n in range(1200)]
SETTINGS = {"cache_bytes": 8 << 20, "filter_bits": 10, "value_bytes": 200}


@pytest.fixture(scope="module", params=[name for name in ENGINES if name != Null.name])
def loaded(request: pytest.FixtureRequest) -> Iterator[tuple[type[Engine], str]]:
    kind = ENGINES[request.param]
    if why := kind.missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="ferrisdb-test-") as folder:
        place = f"{folder}/{kind.name}"
        with kind.served(place, SETTINGS):
            with kind(place, SETTINGS) as engine:
                engine.put_batch(ROWS)
                engine.settle()
            yield kind, place


def test_rows_come_back(loaded: tuple[type[Engine], str]) -> None:
    kind, place = loaded
    with kind(place, SETTINGS) as engine:
        assert all(engine.get(key) == value for key, value in ROWS[::7])
        assert engine.get(b"no key") is None
        assert engine.row_count() == len(ROWS)
        values = [value for _, value in ROWS[:3]]
        found: Any = engine.multi_get([key for key, _ in ROWS[:3]])
        assert [each[1] if isinstance(each, tuple) else each for each in found] == values
        assert kind.version() and kind.settings_of("os") != kind.settings_of(SYNC)


def test_rows_come_in_order(loaded: tuple[type[Engine], str]) -> None:
    kind, place = loaded
    with kind(place, SETTINGS) as engine:
        if "scan" in kind.lacks:
            with pytest.raises(NotImplementedError, match=kind.lacks["scan"]):
                engine.rows_from(b"key 7", 3)
            return
        assert engine.rows_from(b"key 7", 3) == ROWS[700:703]
        assert [(k, v) for k, v in engine.all_rows()] == sorted(ROWS)
        assert [(k, v) for k, v in engine.all_rows(reverse=True)] == sorted(ROWS)[::-1]
        engine.ready(writers=True)
        assert engine.rows_from(b"key 997", 3) == sorted(ROWS)[-3:]


@pytest.mark.parametrize("durability", ["os", "sync"])
def test_what_is_written_is_seen(loaded: tuple[type[Engine], str], durability: str) -> None:
    kind, place = loaded
    with kind(place, SETTINGS, durability=durability) as engine:
        engine.ready(writers=True)
        engine.put(b"one", b"1")
        engine.put(b"one", b"2")
        engine.put_batch([(b"two", b"3"), (b"one", b"4")])
        assert (engine.get(b"one"), engine.get(b"two")) == (b"4", b"3")
        engine.delete(b"one")
        engine.delete(b"two")
        assert engine.get(b"one") is None and engine.get(b"two") is None
        if "transactions" in kind.lacks:
            with pytest.raises(NotImplementedError, match=kind.lacks["transactions"]):
                engine.replace(b"n", lambda before: b"")
        else:
            assert engine.replace(b"n", lambda before: (before or b"") + b"+") == 1
            assert engine.replace(b"n", lambda before: (before or b"") + b"+") == 1
            assert engine.get(b"n") == b"++"
            engine.delete(b"n")


def test_threads_of_one_process_share_what_only_it_may_open(tmp_path: Path) -> None:
    if why := Rocks.missing():
        pytest.skip(why)
    with Rocks(str(tmp_path)) as engine, engine.another(SYNC) as other:
        other.put(b"a", b"1")
        assert engine.get(b"a") == b"1"
