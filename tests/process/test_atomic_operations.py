"""Goal: atomic operations and expiry do what their words say. Method: a real service.

Oracles of what each operation computes are in tests/unit/kernel/test_atomics.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb import errors, limits
from tests.support import databases


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("atomic")
    with databases.prepared(directory):
        yield directory


@pytest.fixture
def db(path: Path) -> Iterator[ferrisdb.Database]:
    with databases.emptied(path) as handle:
        yield handle


@pytest.fixture
def own_db(tmp_path: Path) -> Iterator[ferrisdb.Database]:
    """With a service of its own, for what flushes memtables: their segments go with it."""
    with databases.opened(tmp_path / "db") as handle:
        yield handle


@pytest.fixture(params=["memtable", "table"])
def settled(
    request: pytest.FixtureRequest, own_db: ferrisdb.Database
) -> Callable[[], ferrisdb.Database]:
    """Give a database whose keys lie in a memtable, or in a table where no memtable knows them."""

    def settle() -> ferrisdb.Database:
        if request.param == "table":
            own_db.compact()
            own_db.keyspace("elsewhere").put(b"k", b"v")
            own_db.compact()
        return own_db

    return settle


def test_each_answers_with_its_result(settled: Callable[[], ferrisdb.Database]) -> None:
    db = settled()
    db.put_many(
        [(b"n", b"41"), (b"s", b"ab"), (b"m", b"m"), (b"bits", b"\x0f\xf0"), (b"text", b"x1")]
    )
    settled()
    assert db.add(b"n") == 42 and db.add(b"n", -50) == -8 and db.add(b"new", 7) == 7
    assert db.add(b"n", 10**30, wide=True) is None and int(db[b"n"]) == 10**30 - 8
    assert db.append(b"s", b"cd") == 4 and db.append(b"empty", b"") == 0
    assert db.minimum(b"m", b"b") and not db.minimum(b"m", b"c") and db.minimum(b"low", b"z")
    assert db.maximum(b"m", b"c") and not db.maximum(b"m", b"bz")
    assert db.bit_and(b"bits", b"\xff") == 2 and db[b"bits"] == b"\x0f\x00"
    assert db.bit_or(b"bits", b"\x00\x01\x02") == 3 and db.bit_xor(b"bits", b"\x0f") == 3
    assert db.multi_get([b"s", b"m", b"low", b"bits", b"new"]) == [
        b"abcd", b"c", b"z", b"\x00\x01\x02", b"7",
    ]  # fmt: skip
    assert db.compare_and_set(b"s", b"abcd", b"1") and not db.compare_and_set(b"s", b"abcd", b"2")
    assert db.compare_and_set(b"t", None, b"1") and not db.compare_and_set(b"t", None, b"2")
    assert db.compare_and_set(b"t", b"1", None) and b"t" not in db
    assert not db.compare_and_set(b"t", b"1", None)
    assert db.set_if_absent(b"t", b"3") and not db.set_if_absent(b"t", b"4") and db[b"t"] == b"3"


def test_what_can_not_be_done_writes_nothing(settled: Callable[[], ferrisdb.Database]) -> None:
    db = settled()
    db.put_many([(b"text", b"x1"), (b"big", b"%d" % (2**63 - 1)), (b"long", b"0" * 100)])
    settled()
    with pytest.raises(errors.NotAnIntegerError):
        db.add(b"text")
    with pytest.raises(errors.IntegerOverflowError):
        db.add(b"big")
    with pytest.raises(errors.UsageError, match="wide"):
        db.add(b"big", 2**63)
    with pytest.raises(errors.WrongTypeError):
        db.add(b"big", 1.5)  # type: ignore[arg-type]
    with pytest.raises(errors.WrongTypeError):
        db.append(b"big", "text")  # type: ignore[arg-type]
    with pytest.raises(errors.WrongTypeError):
        db.compare_and_set(b"big", 1, b"2")  # type: ignore[arg-type]
    with pytest.raises(errors.UsageError):
        db.compare_and_set(b"big", None, None)
    with pytest.raises(errors.KeyTooLargeError):
        db.add(bytes(limits.KEY_BYTES_MAX + 1))
    with pytest.raises(errors.NotAnIntegerError), db.write_batch() as batch:
        batch.put(b"with", b"it")
        batch.add(b"text")
    assert b"with" not in db and db[b"text"] == b"x1" and db[b"big"] == b"%d" % (2**63 - 1)


def test_a_value_never_outgrows_its_limit(own_db: ferrisdb.Database) -> None:
    own_db.put(b"k", bytes(limits.VALUE_BYTES_MAX - 1))
    assert own_db.append(b"k", b"x") == limits.VALUE_BYTES_MAX
    with pytest.raises(errors.ValueTooLargeError):
        own_db.append(b"k", b"x")
    assert len(own_db[b"k"]) == limits.VALUE_BYTES_MAX


def test_a_batch_does_them_in_order_with_the_rest(
    settled: Callable[[], ferrisdb.Database],
) -> None:
    db = settled()
    db.put_many([(b"n", b"1"), (b"gone", b"9")])
    settled()
    with db.write_batch() as batch:
        batch.add(b"n", 1)
        batch.put(b"n", b"10")
        batch.add(b"n", 1)
        batch.delete_range(b"g", b"h")
        batch.add(b"gone", 5)
        batch.set_if_absent(b"n", b"no")
        batch.compare_and_set(b"n", b"11", b"12")
    assert db.multi_get([b"n", b"gone"]) == [b"12", b"5"]
    assert batch.applied == 4 and batch.seq > 0


def test_async_ones_are_answered_too(db: ferrisdb.Database, path: Path) -> None:
    with ferrisdb.open(path, start=False, durability="async", timeout=20) as handle:
        handle.put(b"n", b"1")
        assert handle.add(b"n", 1) == 2
    assert db[b"n"] == b"2"


# Expiry


def test_an_expired_key_is_gone_on_every_path(db: ferrisdb.Database) -> None:
    db.put(b"relative", b"1", ttl=0.25)
    db.put(b"absolute", b"1", expires_at=time.time() + 0.25)
    db.put(b"stays", b"1", ttl=100)
    keys = [b"relative", b"absolute"]
    assert db.multi_get(keys) == [b"1", b"1"] and len(db) == 3
    assert 0 < (db.ttl(b"relative") or 0) <= 0.25 and 0 < (db.ttl(b"absolute") or 0) <= 0.25
    with db.snapshot() as before:
        databases.wait_until(lambda: db.multi_get(keys) == [None, None])
        assert before.multi_get(keys) == [b"1", b"1"] and len(before) == 3
        assert (before.ttl(b"relative") or 0) > 0
    for key in keys:
        assert db.get(key) is None and key not in db
        with pytest.raises(KeyError):
            db.ttl(key)
        assert not db.expire(key, 10) and not db.persist(key)
        with db.transaction() as tx:
            assert tx.get(key) is None
    assert list(db.scan(keys_only=True)) == [b"stays"] and len(db) == 1
    assert list(db.scan(reverse=True)) == [(b"stays", b"1")]
    with db.snapshot() as after, db.transaction() as tx:
        assert list(after.scan()) == list(tx.scan()) == [(b"stays", b"1")]
    assert db.set_if_absent(b"relative", b"2") and db.ttl(b"relative") is None
    assert db.add(b"absolute", 1) == 1 and db.ttl(b"absolute") is None


def test_expiries_are_given_kept_forgotten_and_taken_away(
    settled: Callable[[], ferrisdb.Database],
) -> None:
    db = settled()
    db.put_many([(b"k", b"1"), (b"l", b"1")])
    settled()
    assert db.ttl(b"k") is None and not db.persist(b"k")
    assert db.expire(b"k", 100) and 99 < (db.ttl(b"k") or 0) <= 100
    assert db.expire(b"k", at=time.time() + 50) and 49 < (db.ttl(b"k") or 0) <= 50
    settled()
    assert db.add(b"k", 1) == 2 and 48 < (db.ttl(b"k") or 0) <= 50
    assert db.compare_and_set(b"k", b"2", b"3") and (db.ttl(b"k") or 0) > 48
    db.append(b"k", b"4")
    assert (db.ttl(b"k") or 0) > 48 and db[b"k"] == b"34"
    assert db.persist(b"k") and db.ttl(b"k") is None and not db.persist(b"k")
    db.put(b"k", b"5", ttl=100)
    db.put(b"k", b"6")
    assert db.ttl(b"k") is None
    assert db.expire(b"l", at=1.0) and b"l" not in db
    for wrong in (
        lambda: db.put(b"k", b"v", ttl=0),
        lambda: db.put(b"k", b"v", ttl=1, expires_at=2),
        lambda: db.put(b"k", b"v", expires_at=-1),
        lambda: db.expire(b"k"),
        lambda: db.expire(b"k", 1, at=1),
        lambda: db.expire(b"k", -1),
        lambda: db.put(b"k", b"v", ttl=float("nan")),
    ):
        with pytest.raises(errors.UsageError):
            wrong()
    with pytest.raises(errors.WrongTypeError):
        db.expire(b"k", "soon")  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        db.ttl(b"absent")


def test_expiries_survive_the_service_and_their_space_comes_back(
    own_db: ferrisdb.Database,
) -> None:
    db = own_db
    for number in range(2000):
        db.put(b"%04d" % number, os.urandom(1000), ttl=3)
    db.put(b"kept", b"v", ttl=1000)
    db.compact()
    os.kill(databases.coordinator_pid(db.path), signal.SIGKILL)
    assert 990 < (db.ttl(b"kept") or 0) <= 1000
    databases.wait_until(lambda: db.stats()["state"] == "no service runs")
    db.put(b"kept too", b"v")
    assert db.stats()["state"] == "running"
    databases.wait_until(lambda: len(db) == 2)
    databases.wait_until(lambda: db.stats()["table_bytes"] < 100_000)
    assert db[b"kept"] == b"v"


def test_a_key_given_a_moment_in_the_past_is_a_delete(db: ferrisdb.Database) -> None:
    db.put(b"k", b"v")
    db.put(b"k", b"w", expires_at=1.0)
    assert db.get(b"k") is None and len(db) == 0
