"""Goal: key spaces are separate databases in one. Method: a real service, several handles."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb import errors
from ferrisdb.exit_codes import ExitCode
from tests.support import databases
from tests.support.service import run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def db(path: Path) -> Iterator[ferrisdb.Database]:
    """With a service of its own: a drop flushes memtables, and segments go with the service."""
    with databases.opened(path) as handle:
        yield handle


def test_keys_of_one_key_space_do_not_show_in_another(db: ferrisdb.Database) -> None:
    one, other = db.keyspace("one"), db.keyspace("other")
    for space, value in ((db, b"d"), (one, b"1"), (other, b"2")):
        space.put_many([(b"", value), (b"k", value), (b"\xff" * 9, value)])
    one.delete(b"k")
    other.delete_range(b"k", None)
    assert dict(db) == {b"": b"d", b"k": b"d", b"\xff" * 9: b"d"}
    assert list(one.scan(reverse=True)) == [(b"\xff" * 9, b"1"), (b"", b"1")]
    assert list(other) == [b""]
    one.clear()
    assert len(one) == 0 and len(db) == 3 and other.multi_get([b"", b"k"]) == [b"2", None]


def test_a_name_finds_the_same_key_space_and_names_are_listed(db: ferrisdb.Database) -> None:
    assert db.keyspaces() == []
    db.keyspace("b")[b"k"] = b"v"
    db.keyspace("ä")
    assert db.keyspaces() == ["b", "ä"]
    assert db.keyspace("b", create=False)[b"k"] == b"v"
    assert db.keyspace("") is db
    with pytest.raises(errors.KeyspaceDroppedError, match="create"):
        db.keyspace("absent", create=False)
    for bad in ("x" * 256, "\ud800"):
        with pytest.raises(errors.UsageError):
            db.keyspace(bad)
    with pytest.raises(errors.WrongTypeError):
        db.keyspace(b"bytes")  # type: ignore[arg-type]


def test_a_dropped_key_space_refuses_every_call_of_every_handle(
    db: ferrisdb.Database, path: Path
) -> None:
    with ferrisdb.open(path, start=False, timeout=20) as theirs:
        spaces = [db.keyspace("gone"), theirs.keyspace("gone")]
        spaces[0][b"k"] = b"v"
        batch = spaces[1].write_batch()
        batch.put(b"late", b"v")
        assert spaces[1][b"k"] == b"v"
        assert db.drop_keyspace("gone") and not db.drop_keyspace("gone")
        again = db.keyspace("gone")
        with pytest.raises(errors.KeyspaceDroppedError):
            batch.commit()
        for space in spaces:
            calls = (
                lambda: space.get(b"k"),  # noqa: B023
                lambda: space.multi_get([b"k"]),  # noqa: B023
                lambda: list(space.scan()),  # noqa: B023
                space.snapshot,
                lambda: space.put(b"k", b"v"),  # noqa: B023
                lambda: space.delete(b"k"),  # noqa: B023
                lambda: space.delete_range(None, None),  # noqa: B023
                lambda: space.add(b"k"),  # noqa: B023
                lambda: space.ttl(b"k"),  # noqa: B023
                lambda: space.pop(b"k", None),  # noqa: B023
            )
            for call in calls:
                with pytest.raises(errors.KeyspaceDroppedError):
                    call()
        assert list(again) == []
        again[b"k"] = b"new"
        assert db.keyspace("gone")[b"k"] == b"new"


def test_a_snapshot_and_a_batch_reach_several_key_spaces(db: ferrisdb.Database) -> None:
    space = db.keyspace("s")
    with db.write_batch() as batch:
        batch.put(b"k", b"default")
        part = batch.keyspace(space)
        part.put(b"k", b"own")
        batch.put(b"l", b"default")
        part.delete_range(b"x", None)
    with db.snapshot() as snapshot:
        space[b"k"] = b"later"
        db[b"k"] = b"later"
        shown = snapshot.keyspace(space)
        assert (snapshot[b"k"], shown[b"k"]) == (b"default", b"own")
        assert dict(shown.scan()) == {b"k": b"own"}
        assert shown.multi_get([b"k", b"l"]) == [b"own", None]
    with pytest.raises(errors.ClosedError):
        shown.get(b"k")


def test_a_key_space_of_another_handle_is_refused(db: ferrisdb.Database, path: Path) -> None:
    with ferrisdb.open(path, start=False, timeout=20) as other:
        stranger = other.keyspace("s")
        with db.snapshot() as snapshot, pytest.raises(errors.UsageError):
            snapshot.keyspace(stranger)
        with pytest.raises(errors.UsageError):
            db.write_batch().keyspace(stranger)


def test_it_pickles_with_its_name(db: ferrisdb.Database) -> None:
    space = db.keyspace("pickled")
    space[b"k"] = b"v"
    other = pickle.loads(pickle.dumps(space))
    assert other[b"k"] == b"v" and other.name == "pickled"
    other.attached.close()


def _create(path: Path) -> None:
    with ferrisdb.open(path, start=False, timeout=20) as db:
        for number in range(30):
            db.keyspace(f"shared {number}").put(b"%d" % os.getpid(), b"")


def test_processes_that_create_the_same_names_get_the_same_key_spaces(
    db: ferrisdb.Database, path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_create, args=(path,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert db.keyspaces() == sorted(f"shared {number}" for number in range(30))
    spaces = [db.keyspace(name) for name in db.keyspaces()]
    assert len({space.prefix for space in spaces}) == 30
    assert all(len(space) == 4 for space in spaces)


def test_a_drop_and_a_creation_survive_the_death_of_the_service(tmp_path: Path) -> None:
    with databases.opened(tmp_path / "db") as db:
        kept, gone = db.keyspace("kept"), db.keyspace("gone")
        kept[b"k"] = gone[b"k"] = b"v"
        db.drop_keyspace("gone")
        os.kill(db.stats()["coordinator_pid"], signal.SIGKILL)
        with pytest.raises(errors.KeyspaceDroppedError):
            gone.put(b"k", b"again")
        with pytest.raises(errors.KeyspaceDroppedError):
            gone.get(b"k")
        kept[b"l"] = b"w"
        assert dict(kept) == {b"k": b"v", b"l": b"w"} and db.keyspaces() == ["kept"]
        assert len({db.keyspace("gone").prefix, gone.prefix, kept.prefix}) == 3


def test_the_disk_space_of_a_dropped_key_space_comes_back(tmp_path: Path) -> None:
    with databases.opened(tmp_path / "db") as db:
        space = db.keyspace("large")
        space.put_many((b"%08d" % i, os.urandom(1000)) for i in range(20_000))
        db.compact()
        assert db.stats()["table_bytes"] > 19_000_000
        db.drop_keyspace("large")
        databases.wait_until(lambda: db.stats()["table_bytes"] < 1_000_000)


def test_commands_take_a_key_space(tmp_path: Path) -> None:
    with databases.opened(tmp_path / "db"):
        data = str(tmp_path / "db")
        for arguments, output in (
            (("put", data, "k", "v", "--keyspace", "users"), b""),
            (("get", data, "k", "--keyspace", "users"), b"v\n"),
            (("scan", data), b""),
            (("scan", data, "--keyspace", "users"), b"k\tv\n"),
            (("keyspaces", data), b"users\n"),
            (("keyspaces", data, "--drop", "users"), b""),
            (("keyspaces", data), b""),
        ):
            done = run(*arguments)
            assert (done.returncode, done.stdout) == (0, output), (arguments, done.stderr)
        assert run("get", data, "k").returncode == ExitCode.ABSENT
        assert run("keyspaces", data, "--drop", "users").returncode == ExitCode.ABSENT
        assert b"create" in run("get", data, "k", "--keyspace", "users").stderr
