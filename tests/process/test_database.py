"""Goal: each method does what its words say. Method: a real service, attached from this process.

One service with the default settings serves all tests here; each begins with an empty database.
Long because a service takes a second to start, and modules can't share one.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, cast

import pytest

import ferrisdb
from ferrisdb import errors, limits
from tests.support import database_child, databases

BATCH_BYTES_MAX = limits.MEMTABLE_BYTES_DEFAULT // 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("database")
    with databases.prepared(directory):
        yield directory


@pytest.fixture
def db(path: Path) -> Iterator[ferrisdb.Database]:
    with databases.emptied(path) as handle:
        yield handle


@pytest.fixture
def own_db(tmp_path: Path) -> Iterator[ferrisdb.Database]:
    """A database with a service of its own, for what fills memtables: their segments go with it."""
    with databases.opened(tmp_path / "db") as handle:
        yield handle


def fill(db: ferrisdb.Database, count: int = 10) -> list[tuple[bytes, bytes]]:
    rows = [(b"k%02d" % i, b"v%d" % i) for i in range(count)]
    db.put_many(rows)
    return rows


# Reading and writing


@pytest.mark.parametrize("durability", ["sync", "os", "async", None])
def test_what_was_put_is_read_and_what_was_deleted_is_not(
    db: ferrisdb.Database, durability: str | None
) -> None:
    db.put(b"k", b"v", durability=durability)
    assert db.get(b"k") == b"v"
    db.put(b"k", b"w", durability=durability)
    assert db.get(b"k", b"default") == b"w"
    db.delete(b"k", durability=durability)
    db.delete(b"k", durability=durability)
    assert db.get(b"k") is None
    assert db.get(b"k", b"default") == b"default"


@pytest.mark.parametrize("key", [b"", b"\x00", b"\xff" * 3, b"x" * limits.KEY_BYTES_MAX])
@pytest.mark.parametrize("value", [b"", b"v" * 100_000])
def test_every_key_and_value_within_the_limits_is_kept(
    db: ferrisdb.Database, key: bytes, value: bytes
) -> None:
    db.put(key, value)
    assert db.get(key) == value
    assert list(db.scan()) == [(key, value)]


def test_the_longest_value_goes_through_a_segment_of_its_own(own_db: ferrisdb.Database) -> None:
    value = os.urandom(1 << 20) * 16
    assert len(value) == limits.VALUE_BYTES_MAX
    own_db.put(b"k", value)
    assert own_db.get(b"k") == value


def test_keys_and_values_over_the_limits_are_refused(db: ferrisdb.Database) -> None:
    long_key, long_value = bytes(limits.KEY_BYTES_MAX + 1), bytes(limits.VALUE_BYTES_MAX + 1)
    for refused in (
        lambda: db.put(long_key, b""),
        lambda: db.get(long_key),
        lambda: db.delete(long_key),
        lambda: db.multi_get([b"", long_key]),
        lambda: db.scan(start=long_key),
        lambda: db.scan(prefix=long_key),
        lambda: db.delete_range(long_key, None),
        lambda: db.put_many([(long_key, b"")]),
    ):
        with pytest.raises(errors.KeyTooLargeError):
            refused()
    with pytest.raises(errors.ValueTooLargeError):
        db.put(b"k", long_value)
    with pytest.raises(errors.ValueTooLargeError):
        db.put_many([(b"j", b""), (b"k", long_value)])
    assert not list(db)


WRONG_TYPES: list[Callable[[Any], Any]] = [
    lambda db: db.get("k"),
    lambda db: db.get(None),
    lambda db: db.get(bytearray(b"k")),
    lambda db: db.put(b"k", "v"),
    lambda db: db.put("k", b"v"),
    lambda db: db.put(b"k", None),
    lambda db: db.put(b"k", b"v", ttl="1"),
    lambda db: db.delete(1),
    lambda db: db.multi_get([b"a", 1]),
    lambda db: db.multi_get(1),
    lambda db: db.delete_range("a", b"b"),
    lambda db: db.delete_range(b"a", 7),
    lambda db: db.scan(start="a"),
    lambda db: db.scan(end=1),
    lambda db: db.scan(prefix="a"),
    lambda db: db.put_many([(b"a", "b")]),
    lambda db: db.put_many(7),
    lambda db: db.update(a=b"b"),
    lambda db: db.setdefault(b"k", "v"),
    lambda db: db.pop("k"),
]


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_arguments_of_a_wrong_type_are_refused(
    db: ferrisdb.Database, wrong: Callable[[Any], Any]
) -> None:
    with pytest.raises(TypeError):
        wrong(db)
    assert not list(db)


WRONG_VALUES: list[Callable[[Any], Any]] = [
    lambda db: db.put(b"k", b"v", ttl=0),
    lambda db: db.put(b"k", b"v", ttl=-1),
    lambda db: db.put(b"k", b"v", ttl=float("nan")),
    lambda db: db.put(b"k", b"v", ttl=float("inf")),
    lambda db: db.put(b"k", b"v", durability="fsync"),
    lambda db: db.delete(b"k", durability=""),
    lambda db: db.write_batch(durability="often"),
    lambda db: db.put_many([(b"k", b"v")], durability=3),
    lambda db: db.scan(limit=-1),
    lambda db: db.scan(limit=1.5),
    lambda db: db.scan(prefix=b"a", start=b"a"),
    lambda db: db.scan(prefix=b"a", end=b"b"),
]


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_arguments_that_make_no_sense_are_refused(
    db: ferrisdb.Database, wrong: Callable[[Any], Any]
) -> None:
    with pytest.raises(errors.UsageError):
        wrong(db)
    assert not list(db)


def test_multi_get_keeps_the_order_of_its_keys(db: ferrisdb.Database) -> None:
    rows = dict(fill(db, 50))
    keys = [b"k%02d" % (i * 7 % 60) for i in range(100)]
    assert db.multi_get(keys) == [rows.get(key) for key in keys]
    assert db.multi_get(iter(keys[:3])) == [rows.get(key) for key in keys[:3]]
    assert db.multi_get([]) == []


def test_a_range_delete_takes_its_start_and_leaves_its_end(db: ferrisdb.Database) -> None:
    fill(db)
    db.delete_range(b"k03", b"k06")
    assert list(db) == [b"k00", b"k01", b"k02", b"k06", b"k07", b"k08", b"k09"]
    db.put(b"k04", b"again")
    assert db.get(b"k04") == b"again"
    db.delete_range(b"k05", b"k05")
    db.delete_range(b"k09", b"k00")
    db.delete_range(None, b"k02")
    db.delete_range(b"k07", None)
    assert list(db.scan()) == [(b"k02", b"v2"), (b"k04", b"again"), (b"k06", b"v6")]


def test_many_range_deletes_hide_what_was_before_each(db: ferrisdb.Database) -> None:
    expected = dict(fill(db, 100))
    for i in range(0, 100, 2):
        db.delete_range(b"k%02d" % i, b"k%02d" % (i + 1))
        del expected[b"k%02d" % i]
        assert db.get(b"k%02d" % i) is None
        assert db.get(b"k%02d" % (i + 1)) == expected[b"k%02d" % (i + 1)]
    assert dict(db.scan()) == expected


def test_a_key_with_a_time_to_live_expires_and_a_put_forgets_it(db: ferrisdb.Database) -> None:
    db.put(b"short", b"v", ttl=0.05)
    db.put(b"long", b"v", ttl=3600)
    db.put(b"forgotten", b"v", ttl=0.05)
    db.put(b"forgotten", b"v")
    snap = db.snapshot()
    assert snap.get(b"short") == b"v"
    while db.get(b"short") is not None:
        pass
    assert b"short" not in db
    assert db.multi_get([b"short", b"long"]) == [None, b"v"]
    assert list(db) == [b"forgotten", b"long"]
    assert len(db) == 2
    assert db.setdefault(b"short", b"new") == b"new"
    # A snapshot's clock stands still.
    assert snap.get(b"short") == b"v"
    assert len(snap) == 3
    snap.close()


# Batches


def test_a_batch_is_seen_as_a_whole_or_not_at_all(db: ferrisdb.Database) -> None:
    db.put(b"old", b"1")
    with db.write_batch(durability="sync") as batch:
        batch.put(b"a", b"1")
        batch.put(b"b", b"2", ttl=1000)
        batch.put(b"a", b"3")
        batch.delete(b"old")
        batch.delete_range(b"b", b"c")
        batch.put(b"b2", b"4")
        assert len(batch) == 6
        assert dict(db.scan()) == {b"old": b"1"}
    assert dict(db.scan()) == {b"a": b"3", b"b2": b"4"}
    assert batch.seq > 0


def test_an_exception_drops_the_batch(db: ferrisdb.Database) -> None:
    with pytest.raises(ZeroDivisionError), db.write_batch() as batch:
        batch.put(b"a", b"1")
        raise ZeroDivisionError
    with pytest.raises(errors.ClosedError):
        batch.put(b"b", b"1")
    assert not db


def test_a_batch_is_committed_once(db: ferrisdb.Database) -> None:
    batch = db.write_batch()
    batch.put(b"a", b"1")
    batch.clear()
    batch.put(b"b", b"1")
    batch.commit()
    with pytest.raises(errors.ClosedError):
        batch.commit()
    db.write_batch().commit()
    assert list(db) == [b"b"]


@pytest.mark.parametrize("durability", ["os", "async"])
def test_a_batch_may_take_half_a_memtable_and_no_more(
    own_db: ferrisdb.Database, durability: str
) -> None:
    value = bytes(limits.VALUE_BYTES_MAX - 100)
    batch = own_db.write_batch(durability=durability)
    batch.put(b"a", value)
    spent = len(value) + 8 + len(b"\x00a")
    last = BATCH_BYTES_MAX - spent - 8 - len(b"\x00b")
    if last > limits.VALUE_BYTES_MAX:
        batch.put(b"c", bytes(last - limits.VALUE_BYTES_MAX))
        last = limits.VALUE_BYTES_MAX - 8 - len(b"\x00c")
    batch.put(b"b", bytes(last))
    batch.commit()
    assert len(own_db.get(b"b") or b"") == last
    batch = own_db.write_batch(durability=durability)
    for i in range(3):
        batch.put(b"%d" % i, value)
    with pytest.raises(errors.BatchTooLargeError):
        batch.commit()
    assert list(own_db.scan(end=b"a")) == []


def test_put_many_takes_mappings_and_iterators_of_any_length(own_db: ferrisdb.Database) -> None:
    assert own_db.put_many({b"a": b"1"}) == 1
    assert own_db.put_many(iter([])) == 0
    rows = ((b"%06d" % i, bytes(1000)) for i in range(90_000))
    assert own_db.put_many(rows, durability="os") == 90_000
    assert len(own_db) == 90_001


# Scans


SCANS: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    ({}, lambda i: True),
    ({"start": b"k03"}, lambda i: i >= 3),
    ({"end": b"k07"}, lambda i: i < 7),
    ({"start": b"k03", "end": b"k07"}, lambda i: 3 <= i < 7),
    ({"start": b"k03x", "end": b"k07x"}, lambda i: 3 < i <= 7),
    ({"start": b"k07", "end": b"k03"}, lambda i: False),
    ({"start": b"", "end": b""}, lambda i: False),
    ({"prefix": b"k0"}, lambda i: i < 10),
    ({"prefix": b""}, lambda i: True),
    ({"prefix": b"k11"}, lambda i: i == 11),
    ({"prefix": b"x"}, lambda i: False),
    ({"prefix": b"\xff"}, lambda i: False),
]


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [None, 0, 1, 3, 1000])
def test_scans_show_their_range_in_order(
    db: ferrisdb.Database, limit: int | None, reverse: bool, keys_only: bool
) -> None:
    rows = fill(db, 20)
    with db.snapshot() as snap:
        db.clear()
        fill(db, 20)
        for bounds, within in SCANS:
            expected: list[Any] = [row for i, row in enumerate(rows) if within(i)]
            if reverse:
                expected.reverse()
            if keys_only:
                expected = [key for key, _ in expected]
            expected = expected[:limit]
            how: dict[str, Any] = {"limit": limit, "reverse": reverse, "keys_only": keys_only}
            assert list(db.scan(**bounds, **how)) == expected, bounds
            assert list(snap.scan(**bounds, **how)) == expected, bounds


def test_a_scan_shows_the_moment_of_its_call(db: ferrisdb.Database) -> None:
    rows = fill(db)
    scan = db.scan()
    db.clear()
    db.put(b"later", b"")
    assert list(scan) == rows
    assert list(scan) == []


def test_a_scan_that_nobody_ends_gives_its_pin_back(db: ferrisdb.Database) -> None:
    fill(db)
    for _ in range(limits.SLOT_COUNT + 10):
        next(iter(db.scan()))


# Snapshots


def test_a_snapshot_stays_as_it_was(db: ferrisdb.Database) -> None:
    rows = fill(db)
    with db.snapshot() as snap:
        db.clear()
        db.put(b"k00", b"new")
        assert snap.get(b"k00") == b"v0"
        assert snap.get(b"x", b"d") == b"d"
        assert snap.multi_get([b"k01", b"x"]) == [b"v1", None]
        assert list(snap.scan()) == rows
        assert list(snap) == [key for key, _ in rows]
        assert len(snap) == len(rows)
    with pytest.raises(errors.ClosedError):
        snap.get(b"k00")
    with pytest.raises(errors.ClosedError):
        snap.scan()
    snap.close()


def test_too_many_snapshots_are_refused_and_closed_ones_make_room(db: ferrisdb.Database) -> None:
    db.put(b"k", b"v")
    held = [db.snapshot() for _ in range(limits.SLOT_COUNT - 1)]
    with pytest.raises(errors.TooManySnapshotsError):
        db.snapshot()
    assert db.get(b"k") == b"v"
    held.pop().close()
    held.append(db.snapshot())
    held.clear()
    db.snapshot().close()


# The mapping protocol


def test_it_is_a_mapping(db: ferrisdb.Database) -> None:
    assert isinstance(db, MutableMapping)
    db[b"k"] = b"v"
    assert db[b"k"] == b"v"
    assert b"k" in db
    assert cast(object, "k") not in cast(MutableMapping[object, object], db)
    assert list(db.items()) == [(b"k", b"v")]
    assert list(db.values()) == [b"v"]
    assert list(db.keys()) == [b"k"]
    del db[b"k"]
    for absent in (lambda: db[b"k"], lambda: db.__delitem__(b"k"), lambda: db.pop(b"k")):
        with pytest.raises(KeyError):
            absent()
    assert db.pop(b"k", None) is None
    assert db.setdefault(b"k", b"w") == b"w"
    assert db.setdefault(b"k", b"x") == b"w"
    assert db.pop(b"k") == b"w"
    with pytest.raises(KeyError):
        db.popitem()
    db.update({b"b": b"1"}, [(b"a", b"2")])
    assert db.popitem() == (b"a", b"2")
    assert len(db) == 1
    db.clear()
    assert len(db) == 0


def test_truth_and_iteration_do_not_count(
    db: ferrisdb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(self: ferrisdb.Database) -> int:
        raise AssertionError("len was called")

    assert not db
    fill(db)
    with monkeypatch.context() as patch:
        patch.setattr(ferrisdb.Database, "__len__", count)
        assert db
        # Not list(db): that asks every sized thing for its length first.
        assert list(iter(db)) == list(db.scan(keys_only=True))


def test_handles_are_equal_only_to_themselves(db: ferrisdb.Database, path: Path) -> None:
    with ferrisdb.open(path) as other:
        assert db == db  # noqa: PLR0124  # equality is what is tested
        assert db != other
        assert len({db, other}) == 2
        assert db != {}


@pytest.mark.slow
def test_popitem_gives_each_item_to_one_process(db: ferrisdb.Database) -> None:
    rows = fill(db, 60)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [
        context.Process(target=database_child.pop_everything, args=(db, results)) for _ in range(4)
    ]
    for child in children:
        child.start()
    taken = [row for _ in children for row in results.get(timeout=60)]
    for child in children:
        child.join()
    results.close()
    results.join_thread()
    assert sorted(taken) == rows
    assert not db


@pytest.mark.slow
def test_setdefault_lets_one_process_win(db: ferrisdb.Database) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [
        context.Process(target=database_child.set_defaults, args=(db, b"%d" % i, results))
        for i in range(4)
    ]
    for child in children:
        child.start()
    seen = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    results.close()
    results.join_thread()
    assert all(values == seen[0] for values in seen)
    assert seen[0] == db.multi_get([b"%d" % i for i in range(100)])


# Durability


def test_asynchronous_writes_are_read_by_their_own_process_at_once(db: ferrisdb.Database) -> None:
    for i in range(2000):
        db.put(b"n", b"%d" % i, durability="async")
        if i % 100 == 0:
            assert db.get(b"n") == b"%d" % i
    with db.snapshot() as snap:
        assert snap.get(b"n") == b"1999"
    db.put(b"n", b"last", durability="async")
    db.flush()
    assert dict(db.scan()) == {b"n": b"last"}


def test_closing_waits_for_asynchronous_writes(db: ferrisdb.Database, path: Path) -> None:
    with ferrisdb.open(path, durability="async") as other:
        for i in range(1000):
            other.put(b"%d" % i, bytes(500))
    assert len(db) == 1000


# Handles


def test_a_closed_handle_refuses_everything(path: Path) -> None:
    db = ferrisdb.open(path)
    snap, scan, batch = db.snapshot(), db.scan(), db.write_batch()
    db.close()
    db.close()
    for refused in (
        lambda: db.get(b"k"),
        lambda: db.put(b"k", b"v"),
        lambda: db.put_many([(b"k", b"v")]),
        lambda: db.delete_range(None, None),
        lambda: db.multi_get([b"k"]),
        db.scan,
        db.snapshot,
        db.write_batch,
        db.flush,
        db.stats,
        lambda: len(db),
        lambda: db.pop(b"k"),
        lambda: snap.get(b"k"),
        lambda: batch.put(b"k", b"v"),
        lambda: list(scan),
    ):
        with pytest.raises(errors.ClosedError):
            refused()
    assert "closed" in repr(db)


def test_a_handle_pickles_as_path_and_options(db: ferrisdb.Database) -> None:
    db.put(b"k", b"v")
    with pickle.loads(pickle.dumps(db)) as other:
        assert other.path == db.path
        assert other.get(b"k") == b"v"
        assert other.attached.options == db.attached.options


@pytest.mark.parametrize("bad", [None, 5, b"data"])
def test_a_path_is_text(bad: Any) -> None:
    with pytest.raises(errors.WrongTypeError):
        ferrisdb.open(bad)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": "1"}, {"durability": "none"}])
def test_options_are_checked(path: Path, options: Any) -> None:
    with pytest.raises(errors.UsageError):
        ferrisdb.open(path, **options)


def test_threads_share_a_handle(db: ferrisdb.Database) -> None:
    def work(i: int) -> None:
        for n in range(100):
            key = b"%d/%03d" % (i, n)
            db.put(key, key, durability=("os", "async")[n % 2])
            assert db.get(key) == key
            assert key in db.multi_get([b"x", key])
            if n % 10 == 0:
                with db.snapshot() as snap:
                    assert len(list(snap.scan(prefix=b"%d/" % i))) == n + 1
                db.put_many((b"many%d/%d" % (i, k), b"") for k in range(50))

    assert database_child.in_threads(8, work) == []
    assert len(list(db.scan(prefix=b"many"))) == 400
    assert len(db) == 1200


def test_stats_tell_of_the_database_and_its_clients(db: ferrisdb.Database) -> None:
    fill(db)
    with db.snapshot():
        stats = db.stats()
    assert stats["state"] == "running"
    assert stats["coordinator_pid"] == databases.coordinator_pid(db.path)
    assert stats["memtables"][0]["versions"] >= 10
    mine = [row for row in stats["clients"] if row["this_process"]]
    assert len(mine) == 2
    assert max(row["pins"] for row in mine) >= 1


# Fork


def in_fork(child: Callable[[], None]) -> None:
    """Run `child` in a forked process; an exception there fails the test here."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "ok"
        try:
            child()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode()[:1000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    assert said == "ok"


def test_a_forked_child_attaches_anew_and_leaves_the_parents_things_alone(
    db: ferrisdb.Database,
) -> None:
    rows = fill(db)
    snap, scan, batch = db.snapshot(), db.scan(), db.write_batch()
    batch.put(b"batch", b"parent")
    next(scan)

    def child() -> None:
        for refused in (
            lambda: snap.get(b"k00"),
            lambda: list(scan),
            lambda: batch.put(b"x", b""),
            batch.commit,
        ):
            try:
                refused()
            except errors.ClosedError:
                continue
            raise AssertionError("the parent's things must be closed in the child")
        snap.close()
        db.put(b"child", b"1")
        assert db.get(b"child") == b"1"
        with db.snapshot() as own:
            assert own.get(b"k01") == b"v1"
        db.close()

    in_fork(child)
    assert db.get(b"child") == b"1"
    db.clear()
    assert snap.get(b"k00") == b"v0"
    assert list(snap.scan()) == rows
    assert list(scan) == rows[1:]
    batch.commit()
    assert db.get(b"batch") == b"parent"
    snap.close()


def test_a_child_that_never_uses_the_handle_disturbs_nothing(db: ferrisdb.Database) -> None:
    db.put(b"k", b"v")
    with db.snapshot() as snap:
        in_fork(lambda: None)
        db.delete(b"k")
        assert snap.get(b"k") == b"v"
