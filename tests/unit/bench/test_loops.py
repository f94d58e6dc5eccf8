"""Latency runs from the moment an operation was meant to begin. Method: a clock that is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ferrisdb.bench.engines import Null
from ferrisdb.bench.loops import OPEN_CHUNK, Window, closed_loop, open_loop
from ferrisdb.bench.operations import Kind, Role, only
from ferrisdb.bench.pool import POOL_BYTES, Pace, Pool, warm_up
from ferrisdb.bench.stream import Stream
from ferrisdb.bench.task import Place, Rows, Tally, Task

MS = 1_000_000
READS = Role(shares=only(Kind.READ))
WINDOW = Window(0, 20 * MS, 120 * MS)
"""Warms up for 20 ms and counts for 100."""


class Clock:
    """Time that passes when somebody sleeps or an engine works."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 10
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_ns += int(seconds * 1e9)


class Slow(Null):
    """Each read takes as long as `takes_ns` says of the time at which it begins."""

    def __init__(self, clock: Clock, takes_ns: Callable[[int], int]) -> None:
        super().__init__("")
        self.begun_ns: list[int] = []

        def get(key: bytes) -> bytes | None:
            self.begun_ns.append(clock.now_ns)
            clock.now_ns += takes_ns(clock.now_ns)
            return None

        self.get = get


def _stream(engine: Null, role: Role, tally: Tally, **changed: Any) -> Stream:
    told: dict[str, Any] = {
        "place": Place("null", ""),
        "rows": Rows(value_bytes=100, loaded=1000, next_number=1000),
        "role": role,
        "durability": "os",
        "client": 0,
        "clients": 1,
        "seed": (1,),
        "writers": False,
        "writes_alone": True,
        "warm_s": 0.0,
        "seconds": 1.0,
    }
    return Stream(engine, Task(**told | changed), tally)


def _open(takes_ns: Callable[[int], int], rate_per_s: float = 1000.0) -> tuple[Tally, list[int]]:
    clock, tally = Clock(), Tally()
    engine = Slow(clock, takes_ns)
    stream = _stream(engine, READS, tally)
    open_loop(
        stream,
        [stream.chunk(OPEN_CHUNK)],
        READS,
        WINDOW,
        tally,
        rate_per_s=rate_per_s,
        offset=0.5,
        clock=clock,
        sleep=clock.sleep,
    )
    return tally, engine.begun_ns


def _closed(role: Role, takes_ns: int, **changed: Any) -> tuple[Tally, list[int], Stream]:
    clock, tally = Clock(), Tally()
    engine = Slow(clock, lambda now: takes_ns)
    stream = _stream(engine, role, tally, **changed)
    pace = warm_up(stream, WINDOW.count_ns, clock)
    warm = len(engine.begun_ns)
    pool = Pool(stream, role, pace, seconds=0.1, value_bytes=100, clients=1)
    clock.now_ns = max(clock.now_ns, WINDOW.count_ns)
    closed_loop(stream, pool, role, WINDOW, tally, compared_every=2, clock=clock)
    return tally, engine.begun_ns[warm:], stream


def test_operations_begin_at_their_moments() -> None:
    tally, begun_ns = _open(lambda now: MS // 10)
    assert len(begun_ns) == 120
    for index, begun in enumerate(begun_ns):
        assert 0 <= begun - int((index + 0.5) * MS) < 1000
    assert tally.operations == tally.latencies["read"].total == 100
    assert tally.rate_per_s == pytest.approx(1000, rel=0.01)
    assert tally.latencies["read"].max_ns() < 0.11 * MS


def test_what_waits_behind_a_stall_has_waited() -> None:
    # One read takes 50 ms; the 50 behind it were meant to begin meanwhile.
    tally, begun_ns = _open(lambda now: 50 * MS if 40 * MS < now < 41 * MS else MS // 10)
    latencies = tally.latencies["read"]
    assert len(begun_ns) == 120 and latencies.total == 100
    assert latencies.max_ns() >= 50 * MS
    # In a closed loop 1 in 100 would have been slow.
    assert latencies.percentile(50) > 2 * MS
    assert latencies.percentile(90) > 30 * MS


def test_whose_turn_never_comes_has_waited_until_the_end() -> None:
    tally, begun_ns = _open(lambda now: 2 * MS)
    assert 55 <= len(begun_ns) <= 65
    assert tally.operations < 55
    assert tally.latencies["read"].total == 100
    assert tally.rate_per_s == pytest.approx(500, rel=0.1)
    assert tally.latencies["read"].max_ns() > 55 * MS


def test_a_closed_loop_counts_what_begins_in_its_window() -> None:
    tally, begun_ns, _ = _closed(READS, MS)
    assert begun_ns[0] >= WINDOW.count_ns and begun_ns[-1] < WINDOW.end_ns + 20 * MS
    assert len(begun_ns) == tally.operations == tally.latencies["read"].total
    assert tally.rate_per_s == pytest.approx(1000, rel=0.01)
    assert tally.latencies["read"].percentile(50) == pytest.approx(MS, rel=0.01)


def test_a_closed_loop_that_needs_more_begins_anew() -> None:
    clock, tally = Clock(), Tally()
    engine = Slow(clock, lambda now: MS // 10)
    stream = _stream(engine, READS, tally)
    # Made for a client that is ten times as slow.
    pool = Pool(stream, READS, Pace(16, MS), seconds=0.1, value_bytes=100, clients=1)
    closed_loop(stream, pool, READS, Window(0, 0, 100 * MS), tally, clock=clock)
    assert tally.operations == pytest.approx(1000, abs=20)


@pytest.mark.parametrize("kind", [Kind.INSERT, Kind.UPDATE])
def test_nothing_is_written_twice(kind: Kind) -> None:
    clock, tally = Clock(), Tally()
    role = Role(shares=only(kind))
    engine = Slow(clock, lambda now: 0)
    written: set[tuple[bytes, bytes]] = set()

    def put(key: bytes, value: bytes) -> None:
        written.add((key, value))
        clock.now_ns += MS // 10

    engine.put = put
    stream = _stream(engine, role, tally)
    pool = Pool(stream, role, Pace(16, MS), seconds=0.1, value_bytes=100, clients=1)
    closed_loop(stream, pool, role, Window(0, 0, 100 * MS), tally, clock=clock)
    assert len(written) == tally.operations > 900
    assert tally.inserted == (len(written) if kind is Kind.INSERT else 0)


def test_operations_of_a_mix_are_counted_by_kind() -> None:
    role = Role(shares=((Kind.READ, 0.25), (Kind.INSERT, 0.75)), label="mixed")
    tally, _, _ = _closed(role, 2 * MS)
    reads, inserts = (tally.latencies[f"mixed-{kind}"] for kind in ("read", "insert"))
    assert reads.total + inserts.total == tally.operations
    assert reads.total / tally.operations == pytest.approx(0.25, abs=0.05)
    assert reads.percentile(50) > MS > inserts.max_ns()


def test_a_warm_up_finds_the_pace() -> None:
    clock = Clock()
    stream = _stream(Slow(clock, lambda now: MS // 100), READS, Tally())
    pace = warm_up(stream, 50 * MS, clock)
    assert pace.operation_ns == pytest.approx(MS / 100, rel=0.01)
    assert 250 <= pace.chunk_operations <= 1024
    assert 50 * MS <= clock.now_ns < 62 * MS


def test_a_pool_takes_no_more_memory_than_it_may() -> None:
    writes = Role(shares=only(Kind.UPDATE))
    stream = _stream(Slow(Clock(), lambda now: 0), writes, Tally())
    pool = Pool(stream, writes, Pace(64, 1.0), seconds=1, value_bytes=1 << 20, clients=4)
    held = sum(len(chunk.keys) for chunk in pool.held)
    assert 64 <= held * (1 << 20) / 2**20 <= (POOL_BYTES >> 20) / 4
