"""Goal: SCAN returns every key that is there throughout, whatever else comes and goes.

Method: keys of shapes that are hard for cursors of 53 bits, scanned to the end on changing
connections of two workers; between calls other keys are added and removed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import ferrisdb
from ferrisdb.resp.cursors import (
    CURSOR_MAX,
    STEM_US,
    Stems,
    cut,
    far_cursor,
    plain_cursor,
    position_of,
    stem_of,
    write_stem,
)
from tests.support.resp_rig import Client, Rig


def _keys(shape: str, rng: random.Random) -> set[bytes]:
    shapes: dict[str, Callable[[int], bytes]] = {
        "counted": lambda n: b"user:%08d" % n,
        "random": lambda n: rng.randbytes(8),
        "continued": lambda n: b"a" * n,
        "zeros": lambda n: b"\0" * rng.randint(0, 20) + rng.randbytes(rng.randint(0, 2)),
        "far": lambda n: b"p" * 300 + rng.randbytes(3),
        "pairs": lambda n: random.Random(n // 2).randbytes(30) + bytes([n % 2]),
    }
    return {shapes[shape](n) for n in range(500)}


def scan(
    clients: list[Client], *words: str, between: Callable[[], None] | None = None
) -> list[bytes]:
    """Scan to the end, each call on the next connection; returns what was found, in order."""
    cursor, found, calls = b"0", [], 0
    while True:
        reply = clients[calls % len(clients)].ask("SCAN", cursor, *words)
        head, cursor, rest = _parse(reply)
        assert head == 2 and 0 <= int(cursor) <= CURSOR_MAX
        found += rest
        calls += 1
        if cursor == b"0":
            return found
        assert calls < 10_000
        if between is not None:
            between()


def _parse(reply: bytes) -> tuple[int, bytes, list[bytes]]:
    at = 0

    def line() -> bytes:
        nonlocal at
        end = reply.index(b"\r\n", at)
        found, at = reply[at:end], end + 2
        return found

    def blob() -> bytes:
        nonlocal at
        length = int(line()[1:])
        found, at = reply[at : at + length], at + length + 2
        return found

    head = int(line()[1:])
    cursor = blob()
    return head, cursor, [blob() for _ in range(int(line()[1:]))]


@pytest.fixture
def clients(db: ferrisdb.Database) -> list[Client]:
    return [Rig(db).client() for _ in range(2)]


@pytest.mark.parametrize("shape", ["counted", "random", "continued", "zeros", "far", "pairs"])
@pytest.mark.parametrize("count", [1, 10, 400])
def test_every_key_is_found_once(
    db: ferrisdb.Database, clients: list[Client], shape: str, count: int
) -> None:
    keys = _keys(shape, random.Random(7))
    db.put_many([(key, b"") for key in keys])
    found = scan(clients, "COUNT", str(count))
    assert len(found) == len(keys)
    assert set(found) == keys


@pytest.mark.parametrize("shape", ["counted", "continued", "far"])
def test_what_stays_is_found_while_others_come_and_go(
    db: ferrisdb.Database, clients: list[Client], shape: str
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    keys = _keys(shape, rng)
    passing = [key for key in keys if rng.random() < 0.5]
    db.put_many([(key, b"") for key in keys])

    def change() -> None:
        for key in rng.sample(passing, 5):
            db.delete(key)
            db.put(key + rng.randbytes(2), b"")

    found = scan(clients, "COUNT", "7", between=change)
    assert keys - set(passing) <= set(found)


def test_a_pattern_and_a_type_leave_some(db: ferrisdb.Database, clients: list[Client]) -> None:
    db.put_many([(b"k%03d" % n, b"") for n in range(200)] + [(b"other", b"")])
    expected = [b"k%03d" % n for n in range(7, 200, 10)]
    assert scan(clients, "MATCH", "k*7", "COUNT", "20") == expected
    assert scan(clients, "TYPE", "STRING", "MATCH", "o*r") == [b"other"]
    assert scan(clients, "TYPE", "list") == []


def test_a_call_looks_at_some_keys_only(db: ferrisdb.Database, clients: list[Client]) -> None:
    db.put_many([(b"%06d" % n, b"") for n in range(1000)])
    _, cursor, found = _parse(clients[0].ask("SCAN", "0"))
    assert 10 <= len(found) <= 25 and cursor != b"0"
    _, cursor, found = _parse(clients[0].ask("SCAN", "0", "MATCH", "nothing*", "COUNT", "1"))
    assert (cursor, found) == (b"0", [])


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("x", "-ERR invalid cursor"),
        (" 0", "-ERR invalid cursor"),
        ("18446744073709551616", "-ERR invalid cursor"),
        ("18446744073709551615", "*2\r\n$1\r\n0\r\n*0"),
        ("-1", "*2\r\n$1\r\n0\r\n*0"),
        ("77", "*2\r\n$1\r\n0\r\n*0"),
        ("0|COUNT|0", "-ERR syntax error"),
        ("0|COUNT|x", "-ERR value is not an integer or out of range"),
        ("0|MATCH", "-ERR syntax error"),
        ("0|NOPE|1", "-ERR syntax error"),
        ("0|COUNT|1000000000|TYPE|nope", "*2\r\n$1\r\n0\r\n*0"),
    ],
)
def test_odd_arguments_are_answered_as_by_redis(client: Client, words: str, reply: str) -> None:
    client.say("SET a 1")
    assert client.ask("SCAN", *words.split("|")) == f"{reply}\r\n".encode()


def test_within_exec_a_cursor_is_good_too(db: ferrisdb.Database, clients: list[Client]) -> None:
    keys = {b"prefix:%08d" % n for n in range(300)}
    db.put_many([(key, b"") for key in keys])
    one, other = clients
    one.say("MULTI")
    one.say("SCAN 0 COUNT 100")
    reply = one.ask("EXEC")
    _, cursor, found = _parse(reply.removeprefix(b"*1\r\n"))
    while cursor != b"0":
        _, cursor, more = _parse(other.ask("SCAN", cursor, "COUNT", "100"))
        found += more
    assert set(found) == keys


def test_a_cursor_whose_stem_is_gone_is_an_error(rig: Rig, client: Client) -> None:
    cursor = far_cursor(5, b"x")
    assert position_of(rig.service, plain_cursor(b"ab")) == b"ab"
    assert client.ask("SCAN", str(cursor)).startswith(b"-ERR invalid cursor: ")


def test_positions_are_read_back(rig: Rig, db: ferrisdb.Database) -> None:
    rng = random.Random(3)
    for length in (1, 2, 6, 7, 8, 9, 10, 300):
        position = rng.randbytes(length)
        if length <= 6:
            assert position_of(rig.service, plain_cursor(position)) == position
            continue
        stem = stem_of(position)
        with db.transaction() as tx:
            number, _ = write_stem(tx.keyspace(rig.service.stems_space), stem, tx.pin().now_us)
        assert position_of(rig.service, far_cursor(number, position[len(stem) :])) == position


def test_a_cut_is_the_shortest_that_parts_two_keys() -> None:
    rng = random.Random(4)
    for _ in range(500):
        low, high = sorted(rng.choices(b"ab\0\xff", k=rng.randint(0, 6)) for _ in range(2))
        if low == high:
            continue
        found = cut(bytes(low), bytes(high))
        assert bytes(low) < found <= bytes(high)
        assert not bytes(low) < found[:-1] <= bytes(high)


def test_two_stems_never_share_a_number(rig: Rig, db: ferrisdb.Database) -> None:
    numbers = {}
    with db.transaction() as tx:
        writer = tx.keyspace(rig.service.stems_space)
        first, expires_us = write_stem(writer, b"first", 0)
        assert expires_us == STEM_US
    # Another stem in the place where the second one's hash leads.
    with db.transaction() as tx:
        writer = tx.keyspace(rig.service.stems_space)
        now_us = tx.pin().now_us
        wanted, _ = write_stem(writer, b"second", now_us)
        writer.put_until(wanted.to_bytes(4, "big"), b"not the second", now_us + STEM_US)
        other, _ = write_stem(writer, b"second", now_us)
        assert other != wanted
        numbers[other] = b"second"
        assert write_stem(writer, b"second", now_us)[0] == other
    assert numbers[other] != b"first" and first >= 0


def test_a_worker_remembers_what_is_written_for_half_its_life() -> None:
    stems = Stems()
    stems.note(b"stem", 9, 1000 + STEM_US)
    assert stems.number(b"stem", 1000) == 9
    assert stems.number(b"stem", 1000 + STEM_US // 2) is None
    assert stems.number(b"other", 0) is None
