"""A run tells each cell in a line and what is left. Method: cells and lines, no terminal."""

from __future__ import annotations

import pytest

from ferrisdb.bench.cells import Cell
from ferrisdb.bench.progress import Progress, line_of

CELL = Cell(
    workload="ycsb-a",
    title="YCSB A",
    engine="lmdb",
    clients=2,
    durability="os",
    rate_per_s=12_345.6,
    operations=1,
    latency={"read": {"p50_us": 1.5, "p99_us": 2500.0}},
)


def test_a_line_has_rate_and_latencies() -> None:
    line = line_of(CELL)
    for part in ("ycsb-a", "lmdb", "2 cl", "12,346 operations/s", "p50 1.5 µs", "p99 2.5 ms"):
        assert part in line


@pytest.mark.parametrize(("errors", "told"), [(1, "WRONG: it errs"), (0, "not measured: it errs")])
def test_what_went_wrong_is_told_from_what_can_not_be(errors: int, told: str) -> None:
    cell = Cell(
        workload="w", title="", engine="e", clients=1, durability="os", errors=errors, why="it errs"
    )
    assert told in line_of(cell)


def test_rate_and_note_of_an_open_loop_stand_there() -> None:
    cell = Cell.from_json(CELL.to_json() | {"target_per_s": 4000.0, "note": "in 3 threads"})
    assert "ycsb-a at 4000/s" in line_of(cell) and "(in 3 threads)" in line_of(cell)


def test_what_is_left_shrinks_with_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100.0) as progress:
        assert progress.left_s == pytest.approx(100)
        progress.begin("something")
        progress.end(40.0)
        # It went much faster than planned, which the rest is believed to do by 40 %.
        assert 30 < progress.left_s < 37
        progress.show(CELL)
        progress.end(60.0)
        assert progress.left_s == 0
    assert "left)" in capsys.readouterr().err
