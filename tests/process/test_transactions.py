"""Goal: transactions do what their words say. Method: a real service, several transactions at once.

One module, because a service takes a second to start, and modules can't share one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ferrisdb
from ferrisdb import errors, limits
from ferrisdb.backoff import LONGEST_WAIT_S, Backoff
from ferrisdb.transaction import Transaction
from tests.support import databases

LONGEST = b"\xff" * limits.KEY_BYTES_MAX


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("transactions")
    with databases.prepared(directory):
        yield directory


@pytest.fixture
def db(path: Path) -> Iterator[ferrisdb.Database]:
    with databases.emptied(path) as handle:
        handle.put_many([(b"k%d" % i, b"v%d" % i) for i in range(10)])
        yield handle


@pytest.fixture
def own_db(tmp_path: Path) -> Iterator[ferrisdb.Database]:
    """With a service of its own, for what flushes memtables: their segments go with it."""
    databases.configure(tmp_path / "db", memtable_bytes="256KiB")
    with databases.opened(tmp_path / "db") as handle:
        handle.put_many([(b"k%d" % i, b"v%d" % i) for i in range(10)])
        yield handle


def _flush(db: ferrisdb.Database) -> None:
    """Have every memtable flushed, so that none tells any more what has changed."""
    for _ in range(2):
        db.keyspace("elsewhere").put(b"k", os.urandom(8))
        db.compact()


# Reading and writing


def test_it_reads_its_snapshot_and_its_own_writes_and_nobody_else_does(
    db: ferrisdb.Database,
) -> None:
    with db.transaction() as tx:
        assert tx.get(b"k1") == b"v1"
        db.put(b"k2", b"theirs")
        tx.put(b"k1", b"mine")
        del tx[b"k3"]
        assert tx.multi_get([b"k1", b"k2", b"k3", b"k4"]) == [b"mine", b"v2", None, b"v4"]
        assert tx[b"k1"] == b"mine" and b"k3" not in tx and tx.get(b"k3", 7) == 7
        assert db[b"k1"] == b"v1" and b"k3" in db
        tx.rollback()
    assert db[b"k1"] == b"v1"
    with pytest.raises(KeyError), db.transaction() as tx:
        del tx[b"absent"]


def test_it_commits_at_exit_and_rolls_back_behind_an_exception(db: ferrisdb.Database) -> None:
    with db.transaction() as tx:
        tx[b"a"] = b"1"
    assert db[b"a"] == b"1" and tx.seq > 0
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx[b"a"] = b"2"
        raise ZeroDivisionError
    assert db[b"a"] == b"1"
    for use in (lambda: tx.get(b"a"), lambda: tx.put(b"a", b"3"), tx.commit, tx.scan, tx.savepoint):
        with pytest.raises(errors.ClosedError):
            use()


def test_scans_merge_its_writes_in_both_directions_and_within_bounds(db: ferrisdb.Database) -> None:
    with db.transaction() as tx:
        tx.put(b"k0a", b"new")
        tx.put(b"k2", b"changed")
        tx.delete(b"k3")
        tx.delete_range(b"k5", b"k8")
        tx.put(b"k6", b"again")
        tx.add(b"n", 4)
        tx.append(b"k9", b"+")
        rows = [
            (b"k0", b"v0"), (b"k0a", b"new"), (b"k1", b"v1"), (b"k2", b"changed"), (b"k4", b"v4"),
            (b"k6", b"again"), (b"k8", b"v8"), (b"k9", b"v9+"), (b"n", b"4"),
        ]  # fmt: skip
        assert list(tx.scan()) == rows
        assert list(tx.scan(reverse=True)) == rows[::-1]
        assert list(tx.scan(keys_only=True)) == [key for key, _ in rows]
        assert list(tx.scan(b"k0a", b"k4")) == rows[1:4]
        assert list(tx.scan(prefix=b"k", limit=3, reverse=True)) == rows[7:4:-1]
        assert list(tx.scan(limit=0)) == []
        scan = tx.scan()
        tx.put(b"k00", b"later")
        assert list(scan) == rows
    assert list(db.scan()) == [*rows[:1], (b"k00", b"later"), *rows[1:]]


def test_atomic_operations_are_read_back_and_done_at_the_commit(db: ferrisdb.Database) -> None:
    db.put(b"n", b"5")
    with db.transaction() as tx:
        tx.add(b"n", 2)
        db.add(b"n", 100)
    assert db[b"n"] == b"107"
    with db.transaction() as tx:
        tx.add(b"n", 1)
        assert tx[b"n"] == b"108"
        tx.set_if_absent(b"n", b"no")
        tx.set_if_absent(b"m", b"yes", ttl=100)
        tx.compare_and_set(b"k1", b"v1", b"swapped")
        tx.compare_and_set(b"k2", b"other", b"no")
        tx.compare_and_set(b"k3", b"v3", None)
        tx.maximum(b"k4", b"w")
        tx.bit_or(b"bits", b"\x01\x02")
        tx.expire(b"k5", 50)
        assert tx.multi_get([b"n", b"m", b"k1", b"k2", b"k3", b"k4", b"bits"]) == [
            b"108", b"yes", b"swapped", b"v2", None, b"w", b"\x01\x02",
        ]  # fmt: skip
        assert 49 < (tx.ttl(b"k5") or 0) <= 50
        assert 99 < (tx.ttl(b"m") or 0) <= 100
        assert tx.ttl(b"n") is None
    assert db.multi_get([b"n", b"m", b"k1", b"k3", b"bits"]) == [
        b"108", b"yes", b"swapped", None, b"\x01\x02",
    ]  # fmt: skip
    with pytest.raises(errors.NotAnIntegerError), db.transaction() as tx:
        tx.put(b"with", b"it")
        tx.add(b"k1", 1)
    assert b"with" not in db


def test_savepoints_take_writes_back(db: ferrisdb.Database) -> None:
    with db.transaction() as tx:
        tx.put(b"a", b"1")
        first = tx.savepoint()
        tx.put(b"a", b"2")
        tx.delete(b"k1")
        second = tx.savepoint()
        tx.delete_range(None, None)
        tx.put(b"b", b"2")
        assert list(tx.scan()) == [(b"b", b"2")]
        tx.rollback_to(second)
        assert tx[b"a"] == b"2" and b"k1" not in tx and len(list(tx.scan())) == 10
        tx.rollback_to(first)
        assert tx[b"a"] == b"1" and tx[b"k1"] == b"v1"
        with pytest.raises(errors.UsageError):
            tx.rollback_to(second)
        with db.transaction() as other, pytest.raises(errors.UsageError):
            other.rollback_to(first)
        tx.put(b"c", b"3")
    assert db[b"a"] == b"1" and db[b"k1"] == b"v1" and db[b"c"] == b"3" and b"b" not in db


def test_it_covers_several_key_spaces(own_db: ferrisdb.Database) -> None:
    db, users = own_db, own_db.keyspace("users")
    users[b"k1"] = b"u1"
    with db.transaction() as tx:
        inner = tx.keyspace(users)
        assert (tx[b"k1"], inner[b"k1"]) == (b"v1", b"u1")
        tx.put(b"k1", b"both")
        inner.put(b"k1", b"both")
        inner.delete_range(b"x", None)
        assert list(inner.scan()) == [(b"k1", b"both")]
    assert db[b"k1"] == users[b"k1"] == b"both"
    late = db.transaction()
    late_users = late.keyspace(users)
    assert late_users[b"k1"] == b"both"
    late.put(b"k1", b"lost")
    users[b"k1"] = b"changed"
    with pytest.raises(errors.ConflictError) as caught:
        late.commit()
    assert caught.value.key == b"k1"
    stale = db.transaction()
    stale.keyspace(users).put(b"k", b"v")
    db.drop_keyspace("users")
    with pytest.raises(errors.KeyspaceDroppedError):
        stale.commit()


def test_expiries_are_exact_to_the_microsecond(db: ferrisdb.Database) -> None:
    with db.transaction() as tx:
        assert tx.entry(b"k1") == (b"v1", 0)
        tx.put_until(b"k1", b"w", 4102444800123457)
        tx.put_until(b"k2", b"w", 1)
        assert tx.entry(b"k1") == (b"w", 4102444800123457)
        assert tx.entry(b"k2") == (None, 0)
    with db.transaction(read_only=True) as tx:
        assert tx.entry(b"k1") == (b"w", 4102444800123457)
        assert tx.entry(b"k2") == (None, 0)


# Handed in by somebody else


def _hand_in(db: ferrisdb.Database, tx: Transaction) -> int:
    request = tx.request()
    return db.attached.commit(
        request.batch,
        request.durability,
        generation=request.generation,
        snapshot_seq=request.snapshot_seq,
        checks=request.checks.encoded,
        expiry_us=request.checks.expiry_us,
    )


def test_a_request_commits_what_the_transaction_wrote(db: ferrisdb.Database) -> None:
    tx = db.transaction()
    before = tx.has_writes
    tx.put(b"k1", tx[b"k2"])
    tx.add(b"n", 2)
    assert (before, tx.has_writes) == (False, True)
    assert _hand_in(db, tx) > 1
    with pytest.raises(errors.ClosedError):
        tx.put(b"k1", b"again")
    tx.rollback()
    assert (db[b"k1"], db[b"n"]) == (b"v2", b"2")


def test_a_request_without_reads_depends_on_nothing(db: ferrisdb.Database) -> None:
    tx = db.transaction()
    tx.put(b"k1", b"blind")
    db.put(b"k1", b"other")
    request = tx.request()
    assert (request.generation, request.snapshot_seq, request.checks.parts) == (0, 0, [])
    tx.rollback()


def test_a_request_conflicts_as_a_commit_does(db: ferrisdb.Database) -> None:
    tx = db.transaction()
    tx.put(b"k1", tx[b"k2"] + tx[b"k3"])
    db.put(b"k3", b"other")
    with pytest.raises(errors.ConflictError) as caught:
        _hand_in(db, tx)
    assert caught.value.check == 1
    tx.rollback()
    assert db[b"k1"] == b"v1"


def test_the_newest_sequence_of_a_key_tells_of_every_write(db: ferrisdb.Database) -> None:
    def newest() -> int:
        with db.transaction(read_only=True) as tx:
            return tx.newest_seq(b"key")

    seen = [newest()]
    for value in (b"v", b"v", None):
        if value is None:
            db.delete(b"key")
        else:
            db.put(b"key", value)
        seen.append(newest())
    assert seen == sorted(set(seen))
    db.put(b"elsewhere", b"v")
    db.clear()
    assert newest() == seen[-1]


# What conflicts


Change = Callable[[ferrisdb.Database], object]
Read = Callable[[ferrisdb.Transaction], object]


def _first(tx: ferrisdb.Transaction, **bounds: Any) -> object:
    return next(tx.scan(**bounds), None)


CONFLICTS: list[tuple[str, Read, Change, bytes | None]] = [
    ("overwritten", lambda tx: tx.get(b"k1"), lambda db: db.put(b"k1", b"x"), b"k1"),
    ("deleted", lambda tx: tx.get(b"k1"), lambda db: db.delete(b"k1"), b"k1"),
    ("created", lambda tx: tx.get(b"absent"), lambda db: db.put(b"absent", b""), b"absent"),
    ("in a range delete", lambda tx: b"k1" in tx, lambda db: db.delete_range(b"k0", b"k2"), b"k1"),
    ("added to", lambda tx: tx.get(b"n"), lambda db: db.add(b"n", 1), b"n"),
    ("phantom", lambda tx: list(tx.scan(b"k1", b"k3")), lambda db: db.put(b"k2x", b""), b"k1"),
    ("gone from a range", lambda tx: list(tx.scan(prefix=b"k")), lambda db: db.delete(b"k7"), b"k"),
    ("an empty range", lambda tx: list(tx.scan(b"x", b"y")), lambda db: db.put(b"xx", b""), b"x"),
    ("the row taken", _first, lambda db: db.put(b"k0", b"x"), b""),
    ("before the row taken", _first, lambda db: db.put(b"a", b"x"), b""),
    ("the limit", lambda tx: list(tx.scan(limit=2)), lambda db: db.delete(b"k1"), b""),
    (
        "behind, in reverse",
        lambda tx: _first(tx, reverse=True),
        lambda db: db.put(b"z", b"x"),
        b"k9",
    ),
    ("by many", lambda tx: tx.multi_get([b"k1", b"k5"]), lambda db: db.delete(b"k5"), b"k5"),
    ("expiry changed", lambda tx: tx.ttl(b"k1"), lambda db: db.expire(b"k1", 100), b"k1"),
    (
        "the longest key",
        lambda tx: list(tx.scan(b"k5", limit=9)),
        lambda db: db.put(LONGEST, b"x"),
        b"k5",
    ),
]


@pytest.mark.parametrize(
    ("read", "change", "key"), [case[1:] for case in CONFLICTS], ids=[c[0] for c in CONFLICTS]
)
@pytest.mark.parametrize("flushed", [False, True], ids=["memtable", "flushed"])
def test_what_was_seen_and_changed_conflicts_and_the_error_names_it(
    db: ferrisdb.Database,
    read: Read,
    change: Change,
    key: bytes,
    flushed: bool,
    request: pytest.FixtureRequest,
) -> None:
    if flushed:
        db = request.getfixturevalue("own_db")
    db.put(LONGEST, b"") if read is CONFLICTS[-1][1] else None
    tx = db.transaction()
    read(tx)
    tx.put(b"mine", b"lost")
    change(db)
    if flushed:
        _flush(db)
    with pytest.raises(errors.ConflictError, match="changed") as caught:
        tx.commit()
    assert caught.value.key == key
    assert b"mine" not in db


def _put_and_get(tx: ferrisdb.Transaction) -> None:
    tx.put(b"k1", b"m")
    assert tx.get(b"k1") == b"m"


HARMLESS: list[tuple[str, Read, Change]] = [
    ("another key", lambda tx: tx.get(b"k1"), lambda db: db.put(b"k2", b"x")),
    ("behind the rows taken", lambda tx: list(tx.scan(limit=2)), lambda db: db.put(b"k1a", b"")),
    (
        "before the rows taken in reverse",
        lambda tx: list(tx.scan(limit=2, reverse=True)),
        lambda db: db.put(b"k7z", b""),
    ),
    ("a row not taken", lambda tx: _first(tx, start=b"k3"), lambda db: db.delete(b"k4")),
    ("a scan not begun", lambda tx: tx.scan(), lambda db: db.clear()),
    ("the end of a range", lambda tx: list(tx.scan(b"a", b"k1")), lambda db: db.delete(b"k1")),
    ("own put read", _put_and_get, lambda db: db.delete(b"k1")),
    ("blind writes", lambda tx: tx.delete_range(b"k", None), lambda db: db.put(b"k1", b"x")),
    ("atomic operation", lambda tx: tx.append(b"k1", b"+"), lambda db: db.put(b"k1", b"x")),
    ("before its first read", lambda tx: None, lambda db: db.put(b"k1", b"x")),
]


@pytest.mark.parametrize(
    ("read", "change"), [case[1:] for case in HARMLESS], ids=[case[0] for case in HARMLESS]
)
@pytest.mark.parametrize("flushed", [False, True], ids=["memtable", "flushed"])
def test_what_was_not_seen_does_not_conflict(
    db: ferrisdb.Database,
    read: Read,
    change: Change,
    flushed: bool,
    request: pytest.FixtureRequest,
) -> None:
    if flushed:
        db = request.getfixturevalue("own_db")
    tx = db.transaction()
    read(tx)
    tx.put(b"mine", b"kept")
    change(db)
    if flushed:
        _flush(db)
    tx.commit()
    assert db[b"mine"] == b"kept"


def test_a_key_that_expires_between_read_and_commit_conflicts(db: ferrisdb.Database) -> None:
    db.put(b"short", b"v", ttl=0.3)
    readers: list[Read] = [lambda tx: tx.get(b"short"), lambda tx: list(tx.scan(prefix=b"s"))]
    open_ones = []
    for read in readers:
        open_ones.append(db.transaction())
        read(open_ones[-1])
        open_ones[-1].put(b"mine", b"lost")
    databases.wait_until(lambda: b"short" not in db)
    assert open_ones[0].get(b"short") == b"v"
    for tx in open_ones:
        with pytest.raises(errors.ConflictError, match="expired"):
            tx.commit()


def test_read_only_transactions_commit_whatever_happened(db: ferrisdb.Database) -> None:
    for read_only in (False, True):
        tx = db.transaction(read_only=read_only)
        before = list(tx.scan())
        requests = db.attached.counters()["requests"]
        db.delete(before[0][0])
        assert list(tx.scan()) == before
        tx.commit()
        assert db.attached.counters()["requests"] == requests + 1
        assert tx.seq > 0
    with db.transaction(read_only=True) as tx, pytest.raises(errors.UsageError):
        tx.put(b"a", b"b")


def test_snapshot_isolation_allows_write_skew_and_nothing_else(db: ferrisdb.Database) -> None:
    def skew(isolation: str) -> None:
        one, other = (db.transaction(isolation=isolation) for _ in range(2))
        for tx, key in ((one, b"k1"), (other, b"k2")):
            assert tx.multi_get([b"k1", b"k2"]) == [b"v1", b"v2"]
            tx.put(key, b"v%c" % key[1])
        one.commit()
        other.commit()

    skew("snapshot")
    with pytest.raises(errors.ConflictError):
        skew("serializable")
    reads: list[tuple[Read, Read]] = [
        (lambda tx: tx.get(b"k3"), lambda tx: tx.put(b"k3", b"lost")),
        (lambda tx: list(tx.scan()), lambda tx: tx.put(b"k3", b"lost")),
        (lambda tx: tx.get(b"k3"), lambda tx: tx.delete_range(b"k", None)),
        (lambda tx: list(tx.scan(b"k2", b"k4")), lambda tx: tx.delete_range(b"k3", b"k5")),
    ]
    for read, write in reads:
        tx = db.transaction(isolation="snapshot")
        read(tx)
        db.append(b"k3", b"+")
        write(tx)
        with pytest.raises(errors.ConflictError) as caught:
            tx.commit()
        assert caught.value.key == b"k3"
    with pytest.raises(errors.UsageError, match="isolation"):
        db.transaction(isolation="dirty")


# Limits


def test_too_many_writes_are_refused_when_they_are_made(own_db: ferrisdb.Database) -> None:
    bytes_max = own_db.attached.batch_bytes_max
    tx = own_db.transaction()
    value = bytes(bytes_max // 4)
    for number in range(3):
        tx.put(b"large %d" % number, value)
    with pytest.raises(errors.TransactionTooLargeError, match="half a memtable"):
        tx.put(b"large 3", value)
    assert tx.get(b"large 3") is None
    tx.put(b"small", b"v")
    tx.commit()
    assert b"large 2" in own_db and b"small" in own_db and b"large 3" not in own_db


def test_too_many_reads_are_refused_unless_it_writes_nothing(db: ferrisdb.Database) -> None:
    def read_much(tx: ferrisdb.Transaction) -> None:
        for number in range(70):
            tx.get(b"%d" % number + bytes(limits.KEY_BYTES_MAX - 2))

    with db.transaction() as tx:
        read_much(tx)
    with db.transaction(isolation="snapshot") as tx:
        read_much(tx)
        tx.put(b"k1", b"v")
    with db.transaction() as tx:
        read_much(tx)
        with pytest.raises(errors.TransactionTooLargeError, match="read_only"):
            tx.put(b"k1", b"v")
    with db.transaction() as tx:
        tx.put(b"k1", b"v")
        with pytest.raises(errors.TransactionTooLargeError):
            read_much(tx)
        tx.rollback()


def test_large_reads_and_writes_travel_outside_of_the_ring(db: ferrisdb.Database) -> None:
    with db.transaction() as tx:
        for number in range(30):
            tx.get(b"%02d" % number + bytes(40_000))
            tx.put(b"large %d" % number, bytes(100_000))
        tx.add(b"n", 1)
    assert db[b"n"] == b"1" and len(db[b"large 29"]) == 100_000
    tx = db.transaction()
    for number in range(30):
        tx.get(b"%02d" % number + bytes(40_000))
        tx.put(b"large %d" % number, b"lost")
    db.put(b"29" + bytes(40_000), b"")
    with pytest.raises(errors.ConflictError) as caught:
        tx.commit()
    assert caught.value.key == b"29" + bytes(40_000)


def test_an_old_transaction_is_told_so(tmp_path: Path) -> None:
    databases.configure(tmp_path / "db", max_snapshot_age_s=1)
    with databases.opened(tmp_path / "db") as db:
        db.put(b"k", b"v")
        tx = db.transaction()
        assert tx.get(b"k") == b"v"
        tx.put(b"k", b"w")
        give_up = time.monotonic() + 30
        with pytest.raises(errors.SnapshotTooOldError):
            while time.monotonic() < give_up:
                db.put(b"other", b"v")
                tx.get(b"read anew")
                time.sleep(0.05)
        tx.rollback()
        assert db[b"k"] == b"v"


# transact


def test_transact_runs_again_until_it_commits(db: ferrisdb.Database) -> None:
    runs: list[bytes] = []

    def increase(tx: ferrisdb.Transaction) -> int:
        value = tx[b"k1"]
        runs.append(value)
        if len(runs) < 4:
            db.put(b"k1", b"v1.%d" % len(runs))
        tx.put(b"k1", value + b"!")
        return len(runs)

    assert db.transact(increase) == 4
    assert runs == [b"v1", b"v1.1", b"v1.2", b"v1.3"] and db[b"k1"] == b"v1.3!"


def test_transact_gives_up_as_it_is_told(db: ferrisdb.Database) -> None:
    def lose(tx: ferrisdb.Transaction) -> None:
        tx.get(b"k1")
        db.put(b"k1", os.urandom(4))
        tx.put(b"k2", b"lost")
        runs.append(1)

    runs: list[int] = []
    with pytest.raises(errors.ConflictError):
        db.transact(lose, attempts=3)
    assert len(runs) == 3
    with pytest.raises(errors.ConflictError):
        db.transact(lose, timeout=0.05)
    with pytest.raises(errors.UsageError):
        db.transact(lose, attempts=0)
    assert db[b"k2"] == b"v2"

    def fail(tx: ferrisdb.Transaction) -> None:
        tx.put(b"k2", b"lost")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.transact(fail)

    def stop(tx: ferrisdb.Transaction) -> str:
        tx.put(b"k2", b"lost")
        tx.rollback()
        return "stopped"

    assert db.transact(stop) == "stopped" and db[b"k2"] == b"v2"


def test_backoff_waits_longer_each_time_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("random.random", lambda: 1.0)
    backoff = Backoff(time.monotonic_ns() + 10**12)
    for _ in range(12):
        backoff.after(ValueError())
    assert waits[:3] == [0.0002, 0.0004, 0.0008] and waits[-1] == LONGEST_WAIT_S
    with pytest.raises(ValueError, match="last"):
        Backoff(time.monotonic_ns() - 1).after(ValueError("last"))


@ferrisdb.transactional
def _move(tx: Any, source: bytes, target: bytes, amount: int) -> int:
    tx.add(source, -amount)
    tx.add(target, amount)
    return int(tx[target])


@ferrisdb.transactional(isolation="snapshot", attempts=2)
def _move_twice(tx: Any, source: bytes, target: bytes) -> int:
    _move(tx, source, target, 3)
    return _move(tx, source, target, 4)


def test_transactional_functions_compose(own_db: ferrisdb.Database) -> None:
    db = own_db
    assert _move(db, b"a", b"b", 5) == 5
    assert _move_twice(db, b"a", b"b") == 12
    assert db.transact(lambda tx: _move(tx, b"b", b"a", 12)) == 0
    users = db.keyspace("users")
    assert _move(users, b"a", b"b", 1) == 1 and users[b"b"] == b"1" and db[b"b"] == b"0"
    assert _move.__name__ == "_move"
    with pytest.raises(errors.WrongTypeError, match="transactional"):
        _move({}, b"a", b"b", 1)


# Processes


def test_it_belongs_to_its_process(db: ferrisdb.Database) -> None:
    transactions = [db.transaction(), db.transaction()]
    transactions[0].get(b"k1")
    transactions[1].put(b"k1", b"child")

    def child() -> None:
        for tx in transactions:
            with pytest.raises(errors.ClosedError):
                tx.get(b"k1")
            with pytest.raises(errors.ClosedError):
                tx.commit()
        db.transact(lambda tx: tx.put(b"forked", tx.get(b"k2")))
        db.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and db[b"forked"] == b"v2"
    transactions[1].commit()
    assert db[b"k1"] == b"child"
    transactions[0].put(b"k2", b"lost")
    with pytest.raises(errors.ConflictError):
        transactions[0].commit()


def test_a_transaction_does_not_outlive_its_service(own_db: ferrisdb.Database) -> None:
    reading, writing = own_db.transaction(), own_db.transaction()
    reading.get(b"k1")
    reading.put(b"k1", b"lost")
    writing.put(b"k2", b"kept")
    os.kill(databases.coordinator_pid(own_db.path), signal.SIGKILL)
    with pytest.raises(errors.SnapshotTooOldError):
        reading.commit()
    writing.commit()
    assert own_db.multi_get([b"k1", b"k2"]) == [b"v1", b"kept"]
    runs = []

    def run(tx: ferrisdb.Transaction) -> None:
        runs.append(1)
        value = tx[b"k3"]
        if len(runs) == 1:
            os.kill(databases.coordinator_pid(own_db.path), signal.SIGKILL)
        tx.put(b"k3", value + b"!")

    own_db.transact(run)
    assert own_db[b"k3"] == b"v3!" and len(runs) > 1
