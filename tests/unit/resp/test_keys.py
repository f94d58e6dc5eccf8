"""Goal: commands on keys and their expiry answer as redis-server 7.0.15 does, errors included.

Method: conversations, each on an empty database; the replies are a real redis-server's, but those
of moments that depend on the clock.
"""

from __future__ import annotations

import pytest

from tests.support.resp_rig import Client

INVALID = "-ERR invalid expire time in '{}' command"
BOTH = "-ERR NX and XX, GT or LT options at the same time are not compatible"
RANGE = "-ERR value is out of range, value must between -2147483648 and 2147483647"
INTEGER = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"

CONVERSATIONS: dict[str, list[tuple[str, str]]] = {
    "del and exists": [
        ("MSET a 1 b 2", "+OK"),
        ("EXISTS a a nokey b", ":3"),
        ("TOUCH a a nokey", ":2"),
        ("DEL a a nokey", ":1"),
        ("UNLINK b a", ":1"),
        ("EXISTS a b", ":0"),
        ("DEL", "-ERR wrong number of arguments for 'del' command"),
    ],
    "type": [("SET a 1", "+OK"), ("TYPE a", "+string"), ("TYPE nokey", "+none")],
    "rename": [
        ("RENAME nokey a", "-ERR no such key"),
        ("RENAMENX nokey nokey", "-ERR no such key"),
        ("SET a 1 PXAT 33177117420123", "+OK"),
        ("RENAME a a", "+OK"),
        ("RENAMENX a a", ":0"),
        ("SET b 2", "+OK"),
        ("RENAMENX a b", ":0"),
        ("RENAME a b", "+OK"),
        ("GET b", "$1\r\n1"),
        ("PEXPIRETIME b", ":33177117420123"),
        ("RENAMENX b c", ":1"),
        ("EXISTS a b c", ":1"),
    ],
    "copy": [
        ("COPY nokey b", ":0"),
        ("COPY nokey nokey", "-ERR source and destination objects are the same"),
        ("SET a 1 PXAT 33177117420123", "+OK"),
        ("COPY a b", ":1"),
        ("PEXPIRETIME b", ":33177117420123"),
        ("SET a 2", "+OK"),
        ("COPY a b", ":0"),
        ("COPY a b REPLACE DB 0", ":1"),
        ("GET b", "$1\r\n2"),
        ("PEXPIRETIME b", ":-1"),
        ("COPY a b DB", SYNTAX),
        ("COPY a b nope", SYNTAX),
        ("COPY a b DB 1", "-ERR DB index is out of range"),
        ("COPY a b DB x", INTEGER),
        ("COPY a b DB 2147483648", RANGE),
    ],
    "flush": [
        ("SET a 1", "+OK"),
        ("FLUSHDB nope", SYNTAX),
        ("FLUSHALL ASYNC SYNC", SYNTAX),
        ("FLUSHALL async", "+OK"),
        ("EXISTS a", ":0"),
        ("SET a 1", "+OK"),
        ("FLUSHDB", "+OK"),
        ("DBSIZE", ":0"),
    ],
    "expiry": [
        ("EXPIRE nokey 10", ":0"),
        ("TTL nokey", ":-2"),
        ("PEXPIRETIME nokey", ":-2"),
        ("SET a 1", "+OK"),
        ("TTL a", ":-1"),
        ("EXPIRETIME a", ":-1"),
        ("PERSIST a", ":0"),
        ("PERSIST nokey", ":0"),
        ("EXPIREAT a 33177117420", ":1"),
        ("EXPIRETIME a", ":33177117420"),
        ("PEXPIREAT a 33177117420499", ":1"),
        ("EXPIRETIME a", ":33177117420"),
        ("PEXPIREAT a 33177117420500", ":1"),
        ("EXPIRETIME a", ":33177117421"),
        ("PERSIST a", ":1"),
        ("PEXPIRETIME a", ":-1"),
        ("GET a", "$1\r\n1"),
    ],
    "a moment that has passed deletes": [
        ("SET a 1", "+OK"),
        ("EXPIRE a 0", ":1"),
        ("EXISTS a", ":0"),
        ("SET a 1", "+OK"),
        ("PEXPIREAT a 1", ":1"),
        ("EXISTS a", ":0"),
        ("SET a 1", "+OK"),
        ("EXPIRE a -9223372036854775", ":1"),
        ("EXISTS a", ":0"),
    ],
    "conditions": [
        ("SET a 1", "+OK"),
        ("EXPIREAT a 33177117420 GT", ":0"),
        ("EXPIREAT a 33177117420 XX", ":0"),
        ("EXPIREAT a 33177117420 LT", ":1"),
        ("EXPIREAT a 33177117421 nx", ":0"),
        ("EXPIREAT a 33177117420 GT", ":0"),
        ("EXPIREAT a 33177117420 LT", ":0"),
        ("EXPIREAT a 33177117421 XX GT", ":1"),
        ("EXPIREAT a 33177117419 LT XX", ":1"),
        ("EXPIRETIME a", ":33177117419"),
        ("EXPIREAT a 1 GT", ":0"),
        ("EXPIREAT a 1 LT", ":1"),
        ("EXISTS a", ":0"),
    ],
    "what an expiry may not be": [
        ("EXPIRE a x", INTEGER),
        ("EXPIRE a x NX nope", "-ERR Unsupported option nope"),
        ("EXPIRE a x NX XX", BOTH),
        ("EXPIRE a x NX GT", BOTH),
        ("EXPIRE a x GT LT", "-ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE a 9223372036854776", INVALID.format("expire")),
        ("EXPIRE a 9223372036854775", INVALID.format("expire")),
        ("EXPIRE a -9223372036854776", INVALID.format("expire")),
        ("EXPIREAT a 9223372036854776", INVALID.format("expireat")),
        ("PEXPIRE a 9223372036854775807", INVALID.format("pexpire")),
        ("PEXPIREAT a 9223372036854775807", ":0"),
        ("EXPIRE a", "-ERR wrong number of arguments for 'expire' command"),
    ],
    "object": [
        ("MSET a 12 b 012 c 99999 d 9223372036854775808", "+OK"),
        ("OBJECT ENCODING a", "$3\r\nint"),
        ("OBJECT ENCODING b", "$6\r\nembstr"),
        ("OBJECT ENCODING d", "$6\r\nembstr"),
        ("OBJECT ENCODING nokey", "$-1"),
        ("OBJECT REFCOUNT a", ":2147483647"),
        ("OBJECT REFCOUNT b", ":1"),
        ("OBJECT REFCOUNT c", ":1"),
        ("OBJECT IDLETIME a", ":0"),
        ("OBJECT IDLETIME nokey", "$-1"),
        ("OBJECT FREQ nokey", "$-1"),
        ("OBJECT NOPE a", "-ERR unknown subcommand 'NOPE'. Try OBJECT HELP."),
        ("MEMORY USAGE nokey", "$-1"),
        ("MEMORY USAGE a SAMPLES", SYNTAX),
        ("MEMORY USAGE a SAMPLES -1", SYNTAX),
        ("MEMORY USAGE a SAMPLES x", INTEGER),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_it_answers_as_redis_does(client: Client, name: str) -> None:
    for line, reply in CONVERSATIONS[name]:
        assert client.ask(*line.split()) == f"{reply}\r\n".encode(), line


def test_an_option_is_repeated_without_line_breaks(client: Client) -> None:
    assert client.send("EXPIRE", "a", "1", b"f\r\no\0x") == b"-ERR Unsupported option f  o\r\n"


def test_a_time_to_live_is_what_is_left(client: Client) -> None:
    client.say("SET a 1")
    assert client.say("EXPIRE a 100") == b":1\r\n"
    assert client.say("TTL a") in (b":99\r\n", b":100\r\n")
    left_ms = int((client.say("PTTL a") or b"")[1:])
    assert 90_000 < left_ms <= 100_000
    assert client.say("PEXPIRE a 1") == b":1\r\n"
    while client.say("EXISTS a") == b":1\r\n":
        pass
    assert client.say("TTL a") == b":-2\r\n"


def test_a_long_value_is_raw(client: Client) -> None:
    client.send("SET", "a", "x" * 44)
    client.send("SET", "b", "x" * 45)
    assert client.say("OBJECT ENCODING a") == b"$6\r\nembstr\r\n"
    assert client.say("OBJECT ENCODING b") == b"$3\r\nraw\r\n"
    assert client.say("MEMORY USAGE b") == b":94\r\n"


def test_flushing_leaves_other_key_spaces(client: Client) -> None:
    db = client.db
    db.keyspace("other").put(b"k", b"v")
    client.say("SET a 1")
    assert client.say("FLUSHALL") == b"+OK\r\n"
    assert db.keyspace("other").get(b"k") == b"v"
    db.keyspace("other").clear()
