"""Goal: a client counts every operation, from the right moment, and finds what is wrong.

Method: run one by a clock of its own against a store in this process, which stalls, fails or lies
when it is told to.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from ferrisdb.bench.engines.base import EngineError, Pairs
from ferrisdb.bench.histogram import indexes_of
from ferrisdb.bench.load.ledger import FOREIGN, MISSING, STALE
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import OVERDUE, Second
from ferrisdb.bench.load.session import LOST, Session
from ferrisdb.bench.load.target import Target
from ferrisdb.bench.load.worker import STOP, Worker

PLAN = Plan(
    target=Target("here"), durability=None, timeout_s=10, clients=1, warm_up_s=0, seconds=0.2,
    rate_per_s=1000.0, read_ratio=0.5, distribution="uniform", theta=0.9, verify_ratio=1,
    key_count=100, value_bytes=64, prefix=b"x:", seed=1,
)  # fmt: skip


OPERATION_NS = 10_000


class Clock:
    """Time that goes on only by what is done."""

    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        self.now_ns += 50
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        """Sleep, and wake a little late."""
        self.now_ns += int(seconds * 1e9) + 3000


class Here(Session):
    """A store in a dictionary; `before` is called before each operation, and may raise."""

    def __init__(self, before: Callable[[Here], None] = lambda _here: None) -> None:
        super().__init__(PLAN.target, None, 1.0)
        self.clock = Clock()
        self.rows: dict[bytes, bytes] = {}
        self.count = 0
        self._before = before
        self.get: Callable[[bytes], bytes | None] = self._get
        self.put = self._put
        self.put_many = self._put_many

    @property
    def engine(self) -> str:
        """What answers."""
        return "here"

    def failed(self, error: Exception) -> str:
        """Lose the connection."""
        self.close()
        return LOST if isinstance(error, EngineError) else type(error).__name__

    def delete_many(self, keys: list[bytes]) -> None:
        """Delete keys."""
        for key in keys:
            self.rows.pop(key, None)

    def _get(self, key: bytes) -> bytes | None:
        self._begin()
        return self.rows.get(key)

    def _put(self, key: bytes, value: bytes) -> None:
        self._begin()
        self.rows[key] = value

    def _put_many(self, rows: Pairs) -> None:
        self.rows.update(rows)

    def _begin(self) -> None:
        self.count += 1
        self.clock.now_ns += OPERATION_NS
        self._before(self)

    def _connect(self) -> None:
        return

    def _disconnect(self) -> None:
        return


def _load(session: Here, plan: Plan) -> Second:
    """Load a store; returns all seconds as one."""
    ours, theirs = multiprocessing.Pipe()
    try:
        worker = Worker(session, plan, 0, theirs, clock=session.clock, sleep=session.clock.sleep)
        worker.load()
        assert len(session.rows) == plan.key_count
        worker.run(session.clock() + int(plan.warm_up_s * 1e9))
        total = Second(-1)
        while ours.poll():
            total.merge(ours.recv())
        return total
    finally:
        ours.close()
        theirs.close()


def test_an_open_loop_does_what_it_was_asked_for() -> None:
    total = _load(Here(), PLAN)
    assert (total.operations, total.error_count, dict(total.wrong)) == (200, 0, {})
    assert total.verified == total.latencies["read"].total > 50
    assert total.ended_ns > 0


def _stall_at(count: int, seconds: float) -> Callable[[Here], None]:
    def stall(here: Here) -> None:
        if here.count == count:
            here.clock.now_ns += int(seconds * 1e9)

    return stall


def test_what_waits_behind_a_stall_has_waited() -> None:
    found = _load(Here(_stall_at(50, 0.1)), PLAN).all_latencies()
    assert found.total == 200
    # As many as were to begin within it, the first of them the longest.
    indexes, counts = found.buckets()
    waited = counts[indexes > indexes_of(np.array([20_000]))[0]].sum()
    # Some more have to wait until these are done.
    assert 100 <= waited <= 103
    assert found.percentile(100 * (200 - 51) / 200) == pytest.approx(50e6, rel=0.02)
    assert found.max_ns() == pytest.approx(100e6, rel=0.001)


def test_who_is_on_time_counts_from_when_it_woke() -> None:
    found = _load(Here(), PLAN).all_latencies()
    assert OPERATION_NS <= found.percentile(0) <= found.max_ns() < OPERATION_NS + 1000


def test_a_closed_loop_hides_the_stall() -> None:
    found = _load(Here(_stall_at(50, 0.1)), replace(PLAN, rate_per_s=None)).all_latencies()
    assert 9_500 < found.total < 10_000
    assert found.percentile(99.98) < 12_000
    assert found.max_ns() >= 100_000_000


def test_what_is_late_when_the_load_ends_is_done_all_the_same() -> None:
    total = _load(Here(_stall_at(150, 0.15)), PLAN)
    assert (total.operations, total.error_count) == (200, 0)
    assert total.all_latencies().max_ns() >= 150_000_000


def test_what_is_overdue_is_an_error_and_not_sent() -> None:
    session = Here()
    plan = replace(PLAN, rate_per_s=1e8, timeout_s=0.05)
    total = _load(session, plan)
    assert total.operations == session.count
    # All the while, and not only until the first is overdue.
    assert total.operations > 0.9 * (0.2 + 0.05) * 1e9 / (OPERATION_NS + 300)
    assert total.operations + total.error_count == 20_000_000
    assert {kind for _of, kind in total.errors} == {OVERDUE}
    reads = total.errors["read", OVERDUE] / total.error_count
    assert reads == pytest.approx(0.5, abs=0.01)


def test_errors_are_counted_and_the_connection_made_again() -> None:
    def fail(here: Here) -> None:
        if here.count % 10 == 0:
            raise EngineError("gone")
        if here.count % 25 == 0:
            raise OSError("broken")

    total = _load(Here(fail), PLAN)
    assert total.operations + total.error_count == 200
    assert total.errors_by_kind() == {LOST: 20, "OSError": 4}
    # The last operation failed, and no other came behind it.
    assert total.reconnects == 23
    assert not total.wrong


def test_a_write_that_failed_may_be_there_or_not() -> None:
    class Torn(Here):
        def _put(self, key: bytes, value: bytes) -> None:
            self.count += 1
            self.clock.now_ns += OPERATION_NS
            if self.count % 4 == 0:
                raise EngineError("before it was done")
            self.rows[key] = value
            if self.count % 4 == 2:
                raise EngineError("behind it")

    total = _load(Torn(), replace(PLAN, rate_per_s=4000.0, key_count=10))
    assert total.error_count > 100 and not total.wrong


@pytest.mark.parametrize("fault", [MISSING, FOREIGN, STALE])
def test_a_store_that_loses_or_mixes_up_values_is_found(fault: str) -> None:
    class Liar(Here):
        def _get(self, key: bytes) -> bytes | None:
            value = super()._get(key)
            if self.count <= 100:
                self.old = dict(self.rows)
                return value
            if fault == MISSING:
                return None
            if fault == STALE:
                return self.old[key]
            return self.rows[next(other for other in self.rows if other != key)]

    total = _load(Liar(), PLAN)
    assert set(total.wrong) == {fault}
    assert total.operations == 200


def test_warm_up_is_not_counted() -> None:
    session = Here()
    total = _load(session, replace(PLAN, warm_up_s=0.1))
    assert session.count == 300
    assert total.operations == 200


def test_a_client_stops_when_it_is_told() -> None:
    ours, theirs = multiprocessing.Pipe()
    clock = (session := Here()).clock
    plan = replace(PLAN, seconds=3600)
    worker = Worker(session, plan, 0, theirs, clock=clock, sleep=clock.sleep)
    worker.load()
    ours.send(STOP)
    worker.run(clock())
    # It looks when a second is over.
    assert 1000 <= session.count <= 1001
    ours.close()
    theirs.close()


@pytest.fixture(autouse=True)
def _collector_on() -> Iterator[None]:
    """A client turns Python's collector off for good: it is a process of its own."""
    import gc

    yield
    gc.enable()
