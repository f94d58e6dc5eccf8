"""Operations are made as their role says, and wrong answers are noticed. Method: a dict as engine,
which answers rightly, and then wrongly in each of the ways that matter.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrisdb.bench.engines import Pairs
from ferrisdb.bench.operations import Kind, Role, only
from ferrisdb.bench.records import Records, digits_of, keys_of
from ferrisdb.bench.stream import HOT, Stream
from ferrisdb.bench.task import Place, Rows, Tally, Task, WrongAnswer
from tests.unit.bench.memory_engine import Memory

LOADED = 2000
RECORDS = Records(100)


def _numbers(*numbers: int) -> Any:
    return np.array(numbers, dtype=np.uint64)


def _loaded(*, sequential: bool = False, hot: int = 0) -> Memory:
    engine = Memory()
    make = digits_of if sequential else keys_of
    keys = make(np.arange(LOADED, dtype=np.uint64)) if not hot else []
    keys += keys_of(np.arange(HOT, HOT + hot, dtype=np.uint64))
    engine.put_batch([(key, RECORDS.value(key, 0)) for key in keys])
    return engine


def _stream(engine: Memory, role: Role, tally: Tally | None = None, **changed: Any) -> Stream:
    rows = Rows(value_bytes=100, loaded=LOADED, next_number=LOADED)
    told: dict[str, Any] = {
        "place": Place("memory", ""),
        "rows": rows,
        "role": role,
        "durability": "os",
        "client": 0,
        "clients": 1,
        "seed": (1,),
        "writers": role.writes,
        "writes_alone": True,
        "warm_s": 0.0,
        "seconds": 1.0,
    }
    return Stream(engine, Task(**told | changed), tally or Tally())


def _done(stream: Stream, rounds: int = 3, count: int = 500) -> None:
    for _ in range(rounds):
        chunk = stream.chunk(count)
        if chunk.keys:
            stamps = array("q")
            _, kept = chunk.run_and_keep(stamps)
            assert len(stamps) == len(kept) == len(chunk.keys)
            stream.note(chunk, len(kept))
            stream.check(chunk, kept)
    stream.reread()


ROLES = [
    Role(shares=only(Kind.READ), choice="zipfian"),
    Role(shares=only(Kind.MISS)),
    Role(shares=only(Kind.UPDATE)),
    Role(shares=only(Kind.INSERT)),
    Role(shares=only(Kind.DELETE)),
    Role(shares=only(Kind.SCAN), scan_rows=30),
    Role(shares=only(Kind.SCAN), scan_rows=30, scans_vary=False),
    Role(shares=only(Kind.MODIFY)),
    Role(shares=only(Kind.BATCH), batch_rows=100),
    Role(shares=only(Kind.NEXT_ROWS)),
    Role(shares=only(Kind.PREVIOUS_ROWS)),
    Role(shares=((Kind.READ, 0.5), (Kind.UPDATE, 0.5)), choice="zipfian"),
    Role(shares=((Kind.READ, 95), (Kind.INSERT, 5)), choice="latest"),
    Role(shares=((Kind.SCAN, 0.95), (Kind.INSERT, 0.05)), scan_rows=20, choice="zipfian"),
    Role(shares=((Kind.READ, 1), (Kind.MISS, 1), (Kind.MODIFY, 1), (Kind.UPDATE, 1))),
]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{'+'.join(role.kinds)} {role.choice}")
def test_a_right_engine_passes(role: Role, sequential: bool) -> None:
    tally, engine = Tally(), _loaded(sequential=sequential)
    rows = Rows(value_bytes=100, loaded=LOADED, next_number=LOADED, sequential=sequential)
    _done(_stream(engine, role, tally, rows=rows))
    assert tally.verified > 100
    assert len(engine.rows) == LOADED + tally.inserted - tally.deleted


def test_operations_come_in_their_shares() -> None:
    role = Role(shares=((Kind.READ, 75), (Kind.UPDATE, 20), (Kind.INSERT, 5)))
    chunk = _stream(_loaded(), role).chunk(10_000)
    assert chunk.places is not None
    assert np.bincount(chunk.places) / 10_000 == pytest.approx([0.75, 0.2, 0.05], abs=0.02)


def test_clients_insert_and_delete_different_keys() -> None:
    for kind in (Kind.INSERT, Kind.DELETE):
        streams = [
            _stream(_loaded(), Role(shares=only(kind)), client=client, clients=3)
            for client in range(3)
        ]
        keys = [key for stream in streams for _ in range(2) for key in stream.chunk(100).keys]
        assert len(set(keys)) == 600


def test_all_rows_are_deleted_and_then_nothing_is_left_to_do() -> None:
    engine, tally = _loaded(), Tally()
    stream = _stream(engine, Role(shares=only(Kind.DELETE)), tally)
    _done(stream, rounds=5)
    assert not engine.rows and tally.deleted == LOADED and stream.chunk(1).keys == []


def test_the_same_seed_gives_the_same_operations() -> None:
    role = ROLES[11]
    one, same = (_stream(_loaded(), role).chunk(50) for _ in range(2))
    other = _stream(_loaded(), role, seed=(1, 1)).chunk(50)
    assert (one.keys, one.extras) == (same.keys, same.extras)
    assert one.keys != other.keys


def test_lengths_of_scans_vary_if_they_are_to() -> None:
    lengths = _stream(_loaded(), ROLES[5]).chunk(1000).extras
    assert lengths is not None and {min(lengths), max(lengths)} == {1, 30}
    assert _stream(_loaded(), ROLES[6]).chunk(3).extras == [30, 30, 30]


def test_transactions_add_up() -> None:
    engine, tally = _loaded(hot=5), Tally()
    _done(_stream(engine, Role(shares=only(Kind.TRANSACTION), hot_keys=5), tally))
    versions = [RECORDS.version(key, value) or 0 for key, value in engine.rows.items()]
    assert len(versions) == 5 and sum(versions) == tally.committed == 1500


OTHER = RECORDS.value(keys_of(_numbers(1))[0], 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key, value: None,
        lambda key, value: OTHER,
        lambda key, value: value and value[:-1] + bytes([value[-1] ^ 1]),
        lambda key, value: b"",
    ],
    ids=["nothing", "of another key", "damaged", "empty"],
)
@pytest.mark.parametrize("role", [ROLES[0], ROLES[7], ROLES[11], ROLES[12]])
def test_a_wrong_value_is_noticed(
    role: Role, spoil: Callable[[bytes, bytes | None], bytes | None]
) -> None:
    engine = _loaded()
    engine.spoil = spoil
    with pytest.raises(WrongAnswer, match="nobody wrote"):
        _done(_stream(engine, role))


def test_a_value_of_a_missing_key_is_noticed() -> None:
    engine = _loaded()
    engine.spoil = lambda key, value: OTHER
    with pytest.raises(WrongAnswer, match="is not there"):
        _done(_stream(engine, ROLES[1]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[1:],
        lambda rows: rows[::-1],
        lambda rows: [*rows, rows[-1]],
        lambda rows: [(key, OTHER) for key, _ in rows],
    ],
    ids=["too few", "backwards", "one twice", "wrong values"],
)
@pytest.mark.parametrize("role", [ROLES[5], ROLES[9], ROLES[10]], ids=["scan", "next", "previous"])
def test_wrong_rows_are_noticed(role: Role, spoil: Callable[[Pairs], Pairs]) -> None:
    engine = _loaded()
    engine.spoil_rows = spoil
    with pytest.raises(WrongAnswer):
        _done(_stream(engine, role))


@pytest.mark.parametrize("role", [ROLES[2], ROLES[4], ROLES[8]], ids=["update", "delete", "batch"])
def test_a_lost_write_is_noticed(role: Role) -> None:
    engine = _loaded()
    engine.loses_writes = True
    with pytest.raises(WrongAnswer, match="acknowledged"):
        _done(_stream(engine, role))


def test_a_lost_insert_is_noticed_though_others_write() -> None:
    engine = _loaded()
    engine.loses_writes = True
    with pytest.raises(WrongAnswer, match="nobody wrote"):
        _done(_stream(engine, ROLES[3], writes_alone=False))
