"""Goal: KEYS, DBSIZE, RANDOMKEY and FERRIS.RANGE find what is there, and hold nobody up.

Method: a real database with more keys than one slice takes; slices are run one by one.
"""

from __future__ import annotations

import random

import pytest

import ferrisdb
from ferrisdb.options import Options
from ferrisdb.resp import counting, gathering
from tests.support.resp_rig import Client, Rig

COUNT = 20_000


@pytest.fixture
def many(db: ferrisdb.Database) -> list[bytes]:
    keys = [b"key:%05d" % n for n in range(COUNT)]
    db.put_many([(key, b"v") for key in keys])
    return keys


def test_keys_go_in_slices_of_one_moment(rig: Rig, client: Client, many: list[bytes]) -> None:
    assert client.say("KEYS key*9") is None
    # Others are served meanwhile; what they write does not show.
    assert rig.client().say("SET key:99999 v") == b"+OK\r\n"
    reply = client.say("PING")
    assert reply == b"+PONG\r\n"
    rig.server.run_posted()
    (found,) = client.later()
    expected = [key for key in many if key.endswith(b"9")]
    assert found.startswith(b"*%d\r\n" % len(expected))
    assert b"key:99999" not in found and found.count(b"key:") == len(expected)


def test_within_exec_keys_are_the_transactions(client: Client, many: list[bytes]) -> None:
    for line in ("MULTI", "SET key:x v", "KEYS key:?", "DBSIZE", "KEYS nothing*", "EXEC"):
        reply = client.ask(*line.split())
    assert reply == b"*4\r\n+OK\r\n*1\r\n$5\r\nkey:x\r\n:%d\r\n*0\r\n" % (len(many) + 1)


def test_a_reply_too_long_is_an_error(db: ferrisdb.Database, many: list[bytes]) -> None:
    del many
    rig = Rig(db, Options(output_bytes_max=1 << 20))
    client = rig.client()
    db.put_many([(b"%d" % n, b"x" * 1000) for n in range(2000)])
    reply = client.ask("FERRIS.RANGE", "", "")
    assert reply.startswith(b"-ERR the reply would be longer than 1048576 bytes")
    assert client.ask("KEYS", "*") != reply
    assert client.ask("DBSIZE") == b":%d\r\n" % (COUNT + 2000)


def test_a_closed_connection_ends_its_gathering(
    rig: Rig, client: Client, many: list[bytes]
) -> None:
    del many
    assert client.say("KEYS *") is None
    rig.server.close(client.conn)
    rig.server.run_posted()
    assert not client.later()
    assert rig.client().ask("DBSIZE") == b":%d\r\n" % COUNT


def test_gatherings_wait_for_each_other(rig: Rig, many: list[bytes]) -> None:
    del many
    clients = [rig.client() for _ in range(3 * gathering.GATHERINGS_MAX)]
    for client in clients:
        assert client.say("KEYS *7") is None
    rig.server.run_posted()
    replies = {tuple(client.later()) for client in clients}
    assert len(replies) == 1


def test_many_keys_are_counted_in_a_thread(
    client: Client, many: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.say("DBSIZE") == b":%d\r\n" % len(many)
    monkeypatch.setattr(counting, "COUNTED_AT_ONCE", 100)
    assert client.ask("DBSIZE") == b":%d\r\n" % len(many)
    shown = b"db0:keys=%d," % len(many)
    assert shown in client.ask("INFO", "keyspace")
    assert shown in client.ask("INFO", "keyspace")


@pytest.mark.parametrize("count", [0, 1, 2, 50, 100])
def test_randomkey_draws_every_key(db: ferrisdb.Database, client: Client, count: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    keys = {rng.choice([b"", b"a", b"user:"]) + b"%d" % n for n in range(count)}
    db.put_many([(key, b"") for key in keys])
    drawn = {client.ask("RANDOMKEY") for _ in range(5 * count + 20)}
    if not count:
        assert drawn == {b"$-1\r\n"}
        return
    found = {reply.split(b"\r\n")[1] for reply in drawn}
    assert found <= keys
    assert len(found) > count / 3


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("- +", "a aa ab b c"),
        ("| |", "a aa ab b c"),
        ("aa c", "aa ab b"),
        ("aa |", "aa ab b c"),
        ("| ab", "a aa"),
        ("c a", ""),
        ("- + REV", "c b ab aa a"),
        ("- + LIMIT 2", "a aa"),
        ("- + LIMIT 0", ""),
        ("a b rev limit 2", "ab aa"),
        ("- + PREFIX a", "a aa ab"),
        ("aa | PREFIX a REV", "ab aa"),
        ("- b PREFIX b", ""),
    ],
)
def test_ranges_are_half_open(db: ferrisdb.Database, client: Client, words: str, keys: str) -> None:
    db.put_many([(key, key.upper()) for key in (b"a", b"aa", b"ab", b"b", b"c")])
    argv = [word.strip("|") for word in words.split()]
    expected = keys.encode().split()
    blobs = b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in expected)
    found = client.ask("FERRIS.RANGE", *argv, "KEYSONLY")
    assert found == b"*%d\r\n%b" % (len(expected), blobs)
    rows = client.ask("FERRIS.RANGE", *argv)
    assert rows.count(b"*2\r\n$") == len(expected)
    client.say("MULTI")
    client.send("FERRIS.RANGE", *argv)
    assert client.ask("EXEC") == b"*1\r\n" + rows


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("FERRIS.RANGE a", "-ERR wrong number of arguments for 'ferris.range' command"),
        ("FERRIS.RANGE a b LIMIT", "-ERR syntax error"),
        ("FERRIS.RANGE a b LIMIT x", "-ERR value is not an integer or out of range"),
        ("FERRIS.RANGE a b LIMIT -1", "-ERR LIMIT is a number of rows, 0 or more"),
        ("FERRIS.RANGE a b NOPE", "-ERR syntax error"),
        ("FERRIS.DELRANGE a b PREFIX", "-ERR syntax error"),
        ("FERRIS.DELRANGE b a", "+OK"),
        ("FERRIS.CAS k a b NOPE", "-ERR syntax error"),
        ("FERRIS.CAS k a b ABSENT", "-ERR with ABSENT the old value is empty"),
        ("FERRIS.CAS k a b DELETE", "-ERR with DELETE the new value is empty"),
        ("FERRIS.DURABILITY", "$2\r\nos"),
        ("FERRIS.DURABILITY async", "-ERR durability is sync or os"),
        ("FERRIS.DURABILITY os x", "-ERR syntax error"),
    ],
)
def test_what_they_take(client: Client, line: str, reply: str) -> None:
    assert client.ask(*line.split()) == f"{reply}\r\n".encode()


def test_a_range_is_removed_at_once(db: ferrisdb.Database, client: Client) -> None:
    db.put_many([(key, b"") for key in (b"a", b"aa", b"ab", b"b", b"c")])
    assert client.ask("FERRIS.DELRANGE", "aa", "b") == b"+OK\r\n"
    assert list(db) == [b"a", b"b", b"c"]
    assert client.ask("FERRIS.DELRANGE", "", "", "PREFIX", "b") == b"+OK\r\n"
    assert client.ask("FERRIS.DELRANGE", "-", "+") == b"+OK\r\n"
    assert not list(db)


def test_compare_and_set(client: Client) -> None:
    def cas(*words: str) -> bytes:
        return client.ask("FERRIS.CAS", "k", *words)

    assert cas("", "1") == b":0\r\n"
    assert cas("", "1", "ABSENT") == b":1\r\n"
    assert cas("", "2", "absent") == b":0\r\n"
    client.say("PEXPIREAT k 33177117420123")
    assert cas("2", "3") == b":0\r\n"
    assert cas("1", "2") == b":1\r\n"
    assert client.say("GET k") == b"$1\r\n2\r\n"
    assert client.say("PEXPIRETIME k") == b":33177117420123\r\n"
    assert cas("2", "", "DELETE") == b":1\r\n"
    assert cas("", "", "ABSENT", "DELETE") == b":1\r\n"
    assert client.say("EXISTS k") == b":0\r\n"


def test_durability_is_the_connections(rig: Rig, client: Client) -> None:
    assert client.say("FERRIS.DURABILITY SYNC") == b"$4\r\nsync\r\n"
    assert rig.server.configured[client.conn]["durability"] == client.session.durability
    assert rig.client().say("FERRIS.DURABILITY") == b"$2\r\nos\r\n"
