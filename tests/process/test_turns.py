"""Goal: who loses a key waits for its turn, which ends. Method: two handles of a real service."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb import service
from ferrisdb.errors import ConflictError
from ferrisdb.kernel import layout
from tests.support import databases

LONGEST_US = 200_000

Handles = tuple[ferrisdb.Database, ferrisdb.Database]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("turns")
    with databases.prepared(directory):
        yield directory


@pytest.fixture
def handles(path: Path) -> Iterator[Handles]:
    with databases.emptied(path) as one, ferrisdb.open(path, start=False, timeout=20) as two:
        one.put(b"k", b"0")
        yield one, two


def _count(tx: ferrisdb.Transaction) -> None:
    tx.put(b"k", b"%d" % (int(tx[b"k"]) + 1))


def _lose_once(db: ferrisdb.Database, other: ferrisdb.Database) -> None:
    """Commit a transaction that somebody else gets ahead of at its first attempt."""
    attempts = 0

    def run(tx: ferrisdb.Transaction) -> None:
        nonlocal attempts
        attempts += 1
        value = int(tx[b"k"])
        if attempts == 1:
            other.put(b"k", b"%d" % (value + 1))
        tx.put(b"k", b"%d" % (value + 1))

    db.transact(run)
    assert attempts == 2


def test_one_has_the_turn_and_it_ends_by_itself(handles: Handles) -> None:
    one, two = (db.attached for db in handles)
    assert one.take_turn(b"k", 5_000, True) == 0
    assert one.take_turn(b"k", 5_000, False) == 0
    left_us = two.take_turn(b"k", 0, True)
    assert 0 < left_us <= 10_000
    time.sleep(left_us / 1e6 + 0.001)
    assert two.take_turn(b"k", 0, False) == 0
    assert one.take_turn(b"k", 5_000, True) > 0


def test_a_turn_that_is_used_once_ends_with_its_commit(handles: Handles) -> None:
    one, two = handles
    time.sleep(0.02)
    _lose_once(one, two)
    assert two.attached.take_turn(b"k", 0, True) == 0


def test_who_comes_back_again_and_again_keeps_it_for_longer(handles: Handles) -> None:
    one, two = handles
    longest_us = 0
    for _ in range(8):
        _lose_once(one, two)
        left_us = two.attached.take_turn(b"k", 0, True)
        longest_us = max(longest_us, left_us)
        time.sleep(left_us / 1e6)
        two.transact(_count)
    assert 4_000 < longest_us <= 16_000


def test_a_waiter_goes_on_where_the_owner_of_the_turn_is_dead(handles: Handles) -> None:
    one, two = handles
    assert one.attached.take_turn(b"k", 50_000, True) == 0
    before = time.monotonic()
    _lose_once(two, one)
    assert 0.05 < time.monotonic() - before < 5
    assert two[b"k"] == b"2"


def test_a_time_limit_ends_the_wait(handles: Handles) -> None:
    one, two = handles
    assert one.attached.take_turn(b"k", 100_000, True) == 0

    def lose(tx: ferrisdb.Transaction) -> None:
        one.put(b"k", b"%d" % (int(tx[b"k"]) + 1))
        tx.put(b"k", b"0")

    before = time.monotonic()
    with pytest.raises(ConflictError):
        two.transact(lose, timeout=0.05)
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("word", [2**64 - 1, 1 << 63, (1 << 48) - 1])
def test_whatever_stands_in_the_words_nobody_waits_for_ever(
    path: Path, handles: Handles, word: int
) -> None:
    found = service.find(str(path))
    assert found is not None
    bell = found.doorbell.view
    for index in range(layout.TURN_COUNT):
        at = layout.DOORBELL_TURNS + index * layout.TURN_BYTES
        bell[at : at + 8] = word.to_bytes(8, "little")
    waited_us = handles[0].attached.take_turn(b"k", 0, True)
    assert waited_us <= LONGEST_US
    _lose_once(*handles)


def test_threads_of_one_handle_count_exactly(handles: Handles) -> None:
    one, two = handles

    def work(db: ferrisdb.Database) -> None:
        for _ in range(300):
            db.transact(_count)

    threads = [threading.Thread(target=work, args=(db,)) for db in (one, one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one[b"k"] == b"900"
