"""A cell's line reads back as the cell. Method: round trips through JSON."""

from __future__ import annotations

import json

import pytest

from ferrisdb.bench.cells import Cell

CELL = Cell(
    workload="ycsb-a",
    title="YCSB A",
    engine="ferrisdb",
    clients=2,
    durability="os",
    seconds=2.0,
    operations=9,
    rate_per_s=4.5,
    latency={"read": {"count": 9, "p50_us": 1.5}},
)
WRONG = Cell(
    workload="ycsb-e", title="YCSB E", engine="redis", clients=1, durability="os", why="no scans"
)


@pytest.mark.parametrize(("cell", "kind"), [(CELL, "cell"), (WRONG, "wrong")])
def test_a_cell_survives_its_line(cell: Cell, kind: str) -> None:
    row = json.loads(json.dumps(cell.to_json()))
    assert row["kind"] == kind
    assert Cell.from_json(row) == cell


def test_a_name_of_a_later_version_is_left_out() -> None:
    assert Cell.from_json(CELL.to_json() | {"weather": "fair"}) == CELL


def test_what_is_compared_leaves_engine_and_round_out() -> None:
    other = Cell.from_json(CELL.to_json() | {"engine": "lmdb", "round": 3})
    assert other.key == CELL.key != WRONG.key


@pytest.mark.parametrize("row", [{}, {"kind": "machine"}, {"kind": "cell", "workload": "x"}])
def test_another_line_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a"):
        Cell.from_json(row)
