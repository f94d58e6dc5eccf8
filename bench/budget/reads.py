"""Reads by one attached process: gets, gets of absent keys, multi_get, scans.

Everything is in page cache. In each round every engine does the same calls, one behind the other.

A key is made just before it is looked up, as it is in a service, which has it out of a request; 500
at a time, outside the clock. Figures "keys made long ago" take keys out of a list of all instead,
so that the key's own object has to come from memory, too: 0.2 µs, whatever the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrisdb.bench.budget.figures import BudgetError, Figure
from ferrisdb.bench.budget.run import Run
from ferrisdb.bench.budget.stores import Stores
from ferrisdb.bench.measuring import each_call, each_row, parts

FURTHER = 6
MANY = 100
RANGE_ROWS = 50
STRETCH = 500

Picked = list[bytes]


def get(run: Run) -> list[Figure]:
    """Random get, fully compacted."""
    stores = run.stores()
    return [
        _figure(run, stores, "get", _get),
        _figure(run, stores, "keys made long ago", _get_old),
    ]


def get_tables(run: Run) -> list[Figure]:
    """Random get where six further tables and the memtable miss."""
    stores = _with_tables(run)
    return [
        _figure(run, stores, "get", _get),
        _figure(run, stores, "keys made long ago", _get_old),
    ]


def missing(run: Run) -> list[Figure]:
    """Get of an absent key, fully compacted, and with six further tables."""
    return [
        _figure(run, run.stores(), "compacted", _get, absent=True),
        _figure(run, _with_tables(run), "6 more tables", _get, absent=True),
    ]


def multi_get(run: Run) -> list[Figure]:
    """multi_get of 100, for each key, fully compacted, and with six further tables."""
    return [
        _figure(run, run.stores(), "compacted", _multi_get),
        _figure(run, _with_tables(run), "6 more tables", _multi_get),
    ]


def scan(run: Run) -> list[Figure]:
    """Scan everything, for each row."""

    def once(engine: Any, picked: Picked) -> float:
        del picked
        return each_row(engine.all_rows())

    return [_figure(run, run.stores(), "scan", once)]


def ranges(run: Run) -> list[Figure]:
    """Read 50 rows from a random key on."""

    def once(engine: Any, picked: Picked) -> float:
        starts = picked[: max(1, len(picked) // RANGE_ROWS)]
        return each_call(lambda key: engine.rows_from(key, RANGE_ROWS), starts, len(starts))

    stores = run.stores()
    expected: list[tuple[bytes, bytes]] | None = None
    for engine in stores.engines:
        engine.ready()
        rows = list(engine.rows_from(stores.keys[0], RANGE_ROWS))
        expected = expected if expected is not None else rows
        if rows != expected or rows[0][0] != stores.keys[0]:
            raise BudgetError(f"{engine.name} returned other rows of a range")
    return [_figure(run, stores, "range", once)]


def _get(engine: Any, picked: Picked) -> float:
    seconds = 0.0
    for part in parts(picked, STRETCH):
        fresh = [bytes(bytearray(key)) for key in part]
        seconds += each_call(engine.get, fresh, 1)
    return seconds / len(picked)


def _get_old(engine: Any, picked: Picked) -> float:
    return each_call(engine.get, picked, len(picked))


def _multi_get(engine: Any, picked: Picked) -> float:
    return each_call(engine.multi_get, list(parts(picked, MANY)), len(picked))


def _with_tables(run: Run) -> Stores:
    """Return stores with six further tables, having seen that they are there."""
    stores = run.stores(FURTHER)
    found = stores.table_counts()
    if found.get("0") != FURTHER:
        raise BudgetError(f"ours has other tables than {FURTHER} above the compacted ones: {found}")
    return stores


def _figure(
    run: Run,
    stores: Stores,
    name: str,
    once: Callable[[Any, Picked], float],
    *,
    absent: bool = False,
) -> Figure:
    """Return µs a call, key or row, by engine and round."""
    keys = stores.absent if absent else stores.keys
    values: dict[str, list[float]] = {engine.name: [] for engine in stores.engines}
    for turn in range(run.settings.rounds):
        run.say(f"{name}: round {turn + 1} of {run.settings.rounds}")
        picked = stores.rng.sample(keys, min(run.settings.calls, len(keys)))
        for engine in stores.engines:
            engine.ready()
            values[engine.name].append(once(engine, picked) * 1e6)
    return Figure(name, "µs", values)
