"""Goal: what a handle sees when memtables rotate, services die, start again or run out of space.

Method: real services with small memtables, killed and stopped; each test has a directory of its
own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb import errors
from tests.support import database_child, databases

SMALL = 256 << 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "db"
    databases.configure(directory, memtable_bytes=SMALL)
    return directory


def rows_of(generation: int, count: int = 1000) -> list[tuple[bytes, bytes]]:
    return [(b"%05d" % i, b"%d/%d/" % (generation, i) + bytes(150)) for i in range(count)]


# Rotation and flush


def test_snapshots_stay_through_many_rotations_and_flushes(path: Path) -> None:
    with databases.opened(path) as db:
        snapshots = []
        for generation in range(10):
            rows = rows_of(generation)
            for i in range(0, len(rows), 50):
                db.put_many(rows[i : i + 50])
            snapshots.append((db.snapshot(), rows))
            db.delete_range(b"%05d" % (generation * 10), b"%05d" % (generation * 10 + 5))
        for snap, rows in snapshots:
            assert list(snap.scan()) == rows
            assert list(snap.scan(reverse=True, limit=5)) == rows[:-6:-1]
            assert snap.multi_get([key for key, _ in rows[::97]]) == [v for _, v in rows[::97]]
            assert len(snap) == len(rows)
            snap.close()
        # By what was flushed, for tables are merged at once.
        databases.wait_until(lambda: db.stats()["tree"]["flushed_bytes"] > 3 * SMALL)
        expected = [row for i, row in enumerate(rows_of(9)) if not 90 <= i < 95]
        assert list(db.scan()) == expected
        assert db.get(b"00092") is None


def test_asynchronous_writes_pass_rotations_in_order(path: Path) -> None:
    with databases.opened(path) as db:
        for i in range(20_000):
            db.put(b"%03d" % (i % 100), b"%d" % i + bytes(50), durability="async")
        db.flush()
        assert [int(value.rstrip(b"\0")) for _, value in db.scan()] == list(range(19_900, 20_000))


def test_readers_see_whole_batches_while_memtables_rotate(path: Path) -> None:
    # Each batch writes one value to every key: a reader that sees two values has seen half a one.
    keys = [b"%d" % i for i in range(8)]
    torn: list[object] = []
    done = threading.Event()
    with databases.opened(path) as db:

        def read() -> None:
            while not done.is_set():
                values = set(db.multi_get(keys))
                values_of_scan = {value for _, value in db.scan()}
                if len(values) > 1 or len(values_of_scan) > 1:
                    torn.append((values, values_of_scan))

        db.put_many((key, b"start") for key in keys)
        reader = threading.Thread(target=read)
        reader.start()
        for i in range(300):
            db.put_many((key, b"%d" % i + bytes(900)) for key in keys)
        done.set()
        reader.join()
        assert torn == []
        assert db.stats()["epoch"] > 5


def test_a_service_leaves_its_memory_behind_the_last_snapshot(path: Path) -> None:
    with databases.opened(path) as db:
        snap = db.snapshot()
        for generation in range(4):
            db.put_many(rows_of(generation))
        snap.close()
        databases.wait_until(lambda: len(databases.segments(path)) <= 6)


# Ends and beginnings


@pytest.mark.parametrize("durability", ["os", "sync"])
def test_nothing_acknowledged_is_lost_when_the_coordinator_is_killed(
    path: Path, durability: str
) -> None:
    with databases.opened(path) as db:
        written = {}
        for life in range(2):
            for i in range(200):
                key, value = b"%d/%d" % (life, i), bytes(300)
                db.put(key, value, durability=durability)
                written[key] = value
            os.kill(databases.coordinator_pid(path), signal.SIGKILL)
            # The next operation starts a service; this process need not know.
            db.put(b"after", b"%d" % life)
            assert db.get(b"after") == b"%d" % life
            assert {key: db.get(key) for key in written} == written
        assert db.stats()["generation"] >= 3


def test_reads_go_on_while_no_coordinator_lives(path: Path) -> None:
    with databases.opened(path) as db:
        db.put_many(rows_of(0, 100))
        os.kill(databases.coordinator_pid(path), signal.SIGKILL)
        assert dict(db.scan()) == dict(rows_of(0, 100))
        assert db.get(b"00001") == rows_of(0)[1][1]


def test_asynchronous_writes_are_sent_again_to_the_next_coordinator(path: Path) -> None:
    with databases.opened(path) as db:
        for i in range(3000):
            db.put(b"%05d" % i, b"%d" % i, durability="async")
            if i == 1500:
                os.kill(databases.coordinator_pid(path), signal.SIGKILL)
        db.flush()
        assert len(db) == 3000


def test_processes_write_on_over_the_death_of_their_coordinator(path: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    counters = [tmp_path / f"counter{i}" for i in range(3)]
    for counter in counters:
        counter.write_bytes(bytes(8))

    def acknowledged() -> list[int]:
        return [int.from_bytes(counter.read_bytes(), "little") for counter in counters]

    def all_beyond(goal: int) -> None:
        databases.wait_until(lambda: min(acknowledged()) > goal)

    with databases.opened(path) as db:
        children = [
            context.Process(
                target=database_child.write_until_killed, args=(str(path), b"%d/" % i, str(counter))
            )
            for i, counter in enumerate(counters)
        ]
        for child in children:
            child.start()
        for goal in (200, 400):
            all_beyond(goal)
            os.kill(databases.coordinator_pid(path), signal.SIGKILL)
        all_beyond(700)
        for child in children:
            child.kill()
            child.join()
        for i, count in enumerate(acknowledged()):
            found = [int(key[2:]) for key in db.scan(prefix=b"%d/" % i, keys_only=True)]
            assert found in (list(range(count)), list(range(count + 1)))


def test_a_snapshot_of_a_dead_service_says_so(path: Path) -> None:
    with databases.opened(path) as db:
        db.put_many(rows_of(0, 200))
        snap, scan = db.snapshot(), db.scan()
        next(scan)
        os.kill(databases.coordinator_pid(path), signal.SIGKILL)
        db.put(b"k", b"v")
        with pytest.raises(errors.SnapshotTooOldError):
            snap.get(b"00000")
        with pytest.raises(errors.SnapshotTooOldError):
            list(scan)
        snap.close()


def test_a_service_that_was_stopped_starts_again_with_everything(path: Path) -> None:
    with databases.opened(path) as db:
        db.put_many(rows_of(0))
        db.put(b"last", b"1", durability="async")
        db.close()
        databases.stop_service(path)
        with databases.opened(path) as again:
            assert len(again) == 1001
            again.put(b"more", b"1")
            databases.stop_service(path)
            # A handle outlives its service.
            assert again.get(b"more") == b"1"
            again.put(b"still more", b"1")
            assert len(again) == 1003


def test_killing_the_compactor_stops_nothing(path: Path) -> None:
    with databases.opened(path) as db:
        for generation in range(4):
            databases.kill_compactor(path)
            db.put_many(rows_of(generation))
        assert list(db.scan()) == rows_of(3)


def test_without_a_service_a_handle_that_may_not_start_one_says_so(path: Path) -> None:
    with pytest.raises(errors.NotADatabaseError):
        ferrisdb.open(path, start=False)
    with databases.opened(path) as db:
        db.put(b"k", b"v")
        with ferrisdb.open(path, start=False, timeout=0.3) as other:
            db.close()
            databases.stop_service(path)
            with pytest.raises(errors.UnavailableError):
                other.get(b"k")
            with pytest.raises(errors.CommitUnknownError):
                other.put(b"k", b"w")
    with pytest.raises(errors.UnavailableError):
        ferrisdb.open(path, start=False)


def test_an_unanswered_write_ends_at_its_time_out(path: Path) -> None:
    with databases.opened(path) as db, ferrisdb.open(path, timeout=0.2) as impatient:
        pid = databases.coordinator_pid(path)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(errors.CommitUnknownError):
                impatient.put(b"k", b"v")
        finally:
            os.kill(pid, signal.SIGCONT)
        # It may still happen, and then as a whole.
        db.put(b"other", b"w")
        assert impatient.get(b"k") in (None, b"v")
        assert impatient.get(b"other") == b"w"


# What can't be opened


def test_two_coordinators_never_serve_one_directory(path: Path) -> None:
    with databases.opened(path) as db:
        db.put(b"k", b"v")
        second = databases.serve(path)
        assert second.returncode == 81
        assert db.get(b"k") == b"v"
        db.put(b"k", b"w")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(errors.NotADatabaseError):
        ferrisdb.open(other, timeout=20)
    assert (other / "cat.jpg").read_bytes() == b"meow"
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(errors.Error):
        ferrisdb.open(file, timeout=20)


def test_settings_that_make_no_sense_are_told_to_who_opens(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    databases.configure(directory, memtable_bites=5)
    with pytest.raises(errors.UsageError, match="memtable_bites"):
        ferrisdb.open(directory, timeout=20)


def test_damage_is_told_to_who_opens(path: Path) -> None:
    with databases.opened(path) as db:
        db.put(b"k", b"v")
    (path / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    with pytest.raises(errors.CorruptionError):
        ferrisdb.open(path, timeout=20)


def test_files_of_a_newer_version_are_refused(path: Path) -> None:
    with databases.opened(path) as db:
        db.put(b"k", b"v")
    manifest = next(path.glob("MANIFEST-*"))
    content = bytearray(manifest.read_bytes())
    content[9] += 1
    manifest.write_bytes(content)
    with pytest.raises((errors.FormatTooNewError, errors.CorruptionError)):
        ferrisdb.open(path, timeout=20)


def test_without_permission_nothing_is_opened(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir(mode=0o700)
    with databases.opened(directory) as db:
        db.put(b"k", b"v")
        for start in (True, False):
            assert databases.open_as_nobody(directory, start=start) == "AccessError"


# Space


@pytest.mark.skipif(os.getuid() != 0, reason="mounting takes root")
def test_full_shared_memory_keeps_a_service_from_starting(path: Path) -> None:
    small = 'mount -t tmpfs -o size=100k tmpfs /dev/shm && exec "$@"'
    served = databases.serve(path, "unshare", "--mount", "sh", "-c", small, "sh")
    assert served.returncode == 73, served.stderr
    assert b"shared memory" in served.stderr or b"/dev/shm" in served.stderr
