"""The rows are those of DESIGN.md 8, and each asks of figures that have peers or a bound."""

from __future__ import annotations

from ferrisdb.bench.budget.rows import ROWS

DESIGN = {
    "get": [(2.5, "lmdb"), (10, "rocksdict")],
    "get-tables": [(2, "lmdb")],
    "missing": [(4, "lmdb")],
    "multi-get": [(6, "lmdb"), (3, "lmdb")],
    "scan": [(1.5, "lmdb")],
    "range": [(2, "lmdb")],
    "fill": [(1.5, "rocksdict plyvel"), (1.5, "rocksdict plyvel")],
    "put-os": [(0.9, "rocksdict")],
    "put-sync": [(0.9, "plyvel")],
    "put-sync-8": [(4, "sqlite3 lmdb")],
    "readers": [(1, "lmdb"), (1, "lmdb")],
    "starved": [(1, "rocksdict rocksdict, large cache")],
    "sockets": [(ratio, "redis") for ratio in (1.1, 1.5, 1.1, 1.5, 1, 1, 1, 1)],
    "starts": [(20.0, ""), (20.0, ""), (500.0, ""), (500.0, ""), (3000.0, ""), (3000.0, "")],
}


def test_rows_ask_what_the_design_asks() -> None:
    found = {
        row.name: [(one.most or one.least, " ".join(one.peers)) for one in row.asked]
        for row in ROWS
    }
    assert found == DESIGN
    assert len({row.name for row in ROWS}) == len(ROWS) == 14


def test_no_row_asks_twice_for_the_same() -> None:
    for row in ROWS:
        assert len(set(row.asked)) == len(row.asked)
