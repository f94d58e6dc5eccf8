"""Clients' processes fail without taking the run with them. Method: real processes, small tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferrisdb.bench.client import Load
from ferrisdb.bench.crew import CellFailure, Crew
from ferrisdb.bench.engines import Engine, Sqlite
from ferrisdb.bench.operations import Kind, Role, only
from ferrisdb.bench.task import Place, Rows, Task
from tests.support.bench_engines import Deadly, Forgetful

ROWS = Rows(value_bytes=100, loaded=500, next_number=500)


def _place(kind: type[Engine], folder: Path) -> Place:
    return Place(kind.reference(), str(folder))


def _tasks(place: Place, role: Role, clients: int = 1) -> list[list[Task]]:
    return [
        [
            Task(
                place=place,
                rows=ROWS,
                role=role,
                durability="os",
                client=client,
                clients=clients,
                seed=(client,),
                writers=role.writes,
                writes_alone=clients == 1,
                warm_s=0.0,
                seconds=0.02,
            )
        ]
        for client in range(clients)
    ]


FAILURES = [
    (Deadly, Role(shares=only(Kind.READ)), "ended with code 3"),
    (Forgetful, Role(shares=only(Kind.INSERT)), "nobody wrote"),
    (Sqlite, Role(shares=only(Kind.TRANSACTION)), "a transaction reads None"),
]


def test_clients_measure_fail_and_go_on(tmp_path: Path) -> None:
    with Crew() as crew:
        place = _place(Sqlite, tmp_path / "sqlite")
        loaded = crew.ask("load", Load(place=place, rows=ROWS))
        assert loaded.operations == crew.ask("count", place) == 500
        reads = crew.run(_tasks(place, Role(shares=only(Kind.READ)), clients=2))
        assert len(reads) == 2
        for tally in reads:
            assert tally.operations == tally.latencies["read"].total > 0
            assert tally.verified > 0 and tally.rate_per_s > 0
        # Each of these leaves clients that work.
        for kind, role, why in FAILURES:
            with pytest.raises(CellFailure, match=why):
                crew.run(_tasks(_place(kind, tmp_path / "sqlite"), role))
        assert crew.ask("count", place) >= 500
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(CellFailure, match="file"):
            crew.ask("count", _place(Sqlite, tmp_path / "file"))
        with pytest.raises(CellFailure, match="no engine 'nowhere'"):
            crew.ask("count", Place("nowhere", str(tmp_path)))
