"""Goal: commands on values answer as Redis 7.0 does. Method: dialogues over a real database.

Expected are the replies of redis-server 7.0.15, IFEQ's those that Redis 8.4 documents.
"""

from __future__ import annotations

import pytest

from ferrisdb import limits
from ferrisdb.resp.arguments import EXPIRES_US_MAX
from tests.support.resp_rig import Client, Rig

NULL = "$-1"
SYNTAX = "-ERR syntax error"
NO_INTEGER = "-ERR value is not an integer or out of range"

DIALOGUES: dict[str, list[tuple[str, str]]] = {
    "get and set": [
        ("GET k", NULL),
        ("SET k v", "+OK"),
        ("get k", "$1 v"),
        ("GeT k", "$1 v"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("GET k k", "-ERR wrong number of arguments for 'get' command"),
        ("STRLEN k", ":1"),
        ("STRLEN none", ":0"),
    ],
    "conditions of set": [
        ("SET k v XX", NULL),
        ("SET k v nx", "+OK"),
        ("SET k w NX", NULL),
        ("SET k w Xx", "+OK"),
        ("SET k x NX GET", "$1 w"),
        ("SET k x GET XX", "$1 w"),
        ("SET n x GET", NULL),
        ("GET n", "$1 x"),
        ("SET k v NX XX", SYNTAX),
        ("SET k v NX NX", NULL),
        ("SET k v FOO", SYNTAX),
    ],
    "ifeq": [
        ("SET k v IFEQ v", NULL),
        ("GET k", NULL),
        ("SET k v", "+OK"),
        ("SET k w ifeq x", NULL),
        ("SET k w IFEQ v", "+OK"),
        ("SET k x IFEQ v GET", "$1 w"),
        ("SET k x GET IFEQ w", "$1 w"),
        ("GET k", "$1 x"),
        ("SET k y IFEQ", SYNTAX),
        ("SET k y IFEQ x NX", SYNTAX),
        ("SET k y XX IFEQ x", SYNTAX),
    ],
    "expiries of set": [
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX -1", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854776", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX x", NO_INTEGER),
        ("SET k v EX", SYNTAX),
        ("SET k v EX 10 PX 10", SYNTAX),
        ("SET k v EX 10 KEEPTTL", SYNTAX),
        ("SET k v KEEPTTL EXAT 10", SYNTAX),
        ("SET k v PERSIST", SYNTAX),
        ("GET k", NULL),
        ("SET k v EX 10 EX 20", "+OK"),
        ("SET k v EXAT 1", "+OK"),
        ("GET k", NULL),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("PSETEX k x v", NO_INTEGER),
        ("SETEX k 10 v", "+OK"),
        ("PSETEX k 10000 w", "+OK"),
        ("GET k", "$1 w"),
    ],
    "getex": [
        ("GETEX k", NULL),
        ("GETEX k EX 0", NULL),
        ("GETEX k NX", SYNTAX),
        ("GETEX k KEEPTTL", SYNTAX),
        ("GETEX k EX 10 PERSIST", SYNTAX),
        ("SET k v", "+OK"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
        ("GETEX k PX 10000", "$1 v"),
        ("GETEX k PERSIST", "$1 v"),
        ("GETEX k PXAT 1", "$1 v"),
        ("GET k", NULL),
    ],
    "getdel and getset": [
        ("GETDEL k", NULL),
        ("GETSET k v", NULL),
        ("GETSET k w", "$1 v"),
        ("GETDEL k", "$1 w"),
        ("GET k", NULL),
    ],
    "many at once": [
        ("MSET a 1 b 2 a 3", "+OK"),
        ("MGET a b c a", "*4 $1 3 $1 2 $-1 $1 3"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        ("MSETNX c 1 a 1", ":0"),
        ("GET c", NULL),
        ("MSETNX c 1 d 1 c 2", ":1"),
        ("GET c", "$1 2"),
        ("MSETNX c 1 d", "-ERR wrong number of arguments for 'msetnx' command"),
        ("SETNX c 9", ":0"),
        ("SETNX e 9", ":1"),
    ],
    "append": [
        ("APPEND k ab", ":2"),
        ("APPEND k cd", ":4"),
        ("GET k", "$4 abcd"),
    ],
    "getrange": [
        ("SET k 0123456789", "+OK"),
        ("GETRANGE k 0 3", "$4 0123"),
        ("GETRANGE k -3 -1", "$3 789"),
        ("GETRANGE k 8 99", "$2 89"),
        ("GETRANGE k -99 1", "$2 01"),
        ("SUBSTR k 1 1", "$1 1"),
        ("SUBSTR k 1", "-ERR wrong number of arguments for 'substr' command"),
        ("GETRANGE k x 1", NO_INTEGER),
        ("GETRANGE none 0 x", NO_INTEGER),
        ("GETRANGE k 0 9223372036854775808", NO_INTEGER),
    ],
    "setrange": [
        ("SETRANGE k 5 ab", ":7"),
        ("SETRANGE k 6 cde", ":9"),
        ("GETRANGE k 5 -1", "$4 acde"),
        ("SETRANGE k -1 x", "-ERR offset is out of range"),
        ("SETRANGE k x x", NO_INTEGER),
        (
            "SETRANGE k 16777216 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
    ],
    "counters": [
        ("INCR n", ":1"),
        ("DECR n", ":0"),
        ("DECR n", ":-1"),
        ("INCRBY n 10", ":9"),
        ("DECRBY n -1", ":10"),
        ("GET n", "$2 10"),
        ("INCRBY n x", NO_INTEGER),
        ("INCRBY n 01", NO_INTEGER),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        ("SET n 9223372036854775807", "+OK"),
        ("INCR n", "-ERR increment or decrement would overflow"),
        ("SET n abc", "+OK"),
        ("INCR n", NO_INTEGER),
        ("INCRBYFLOAT n 1", "-ERR value is not a valid float"),
        ("INCRBYFLOAT f 1.5", "$3 1.5"),
        ("INCRBYFLOAT f -1.5", "$1 0"),
        ("INCRBYFLOAT f 5.0e3", "$4 5000"),
        ("INCRBYFLOAT f x", "-ERR value is not a valid float"),
        ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity"),
    ],
    "single bits": [
        ("SETBIT b 7 1", ":0"),
        ("SETBIT b 7 1", ":1"),
        ("SETBIT b 0 1", ":0"),
        ("SETBIT b 15 0", ":0"),
        ("STRLEN b", ":2"),
        ("GETBIT b 0", ":1"),
        ("GETBIT b 1", ":0"),
        ("GETBIT b 999", ":0"),
        ("GETBIT none 0", ":0"),
        ("SETBIT b 0 2", "-ERR bit is not an integer or out of range"),
        ("SETBIT b -1 1", "-ERR bit offset is not an integer or out of range"),
        ("GETBIT b x", "-ERR bit offset is not an integer or out of range"),
        ("SETBIT b 134217728 1", "-ERR bit offset is not an integer or out of range"),
    ],
    "bitcount": [
        ("SET k foobar", "+OK"),
        ("BITCOUNT k", ":26"),
        ("BITCOUNT k 0 0", ":4"),
        ("BITCOUNT k 1 1 BYTE", ":6"),
        ("BITCOUNT k 5 30 bit", ":17"),
        ("BITCOUNT k -5 -1", ":22"),
        ("BITCOUNT k -1 -5", ":0"),
        ("BITCOUNT k 0", SYNTAX),
        ("BITCOUNT k 0 1 FOO", SYNTAX),
        ("BITCOUNT k 0 x", NO_INTEGER),
        ("BITCOUNT none 0 x", ":0"),
    ],
    "bitpos": [
        ("SETRANGE k 1 A", ":2"),
        ("BITPOS k 1", ":9"),
        ("BITPOS k 0", ":0"),
        ("BITPOS k 0 1", ":8"),
        ("BITPOS k 1 2", ":-1"),
        ("BITPOS k 1 10 -1 BIT", ":15"),
        ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
        ("BITPOS none 1", ":-1"),
        ("BITPOS none 0", ":0"),
        ("BITPOS k 1 0 -1 FOO", SYNTAX),
    ],
}


def _encoded(shown: str) -> bytes:
    """Return the bytes of replies shown in one line: errors to its end, else word by word."""
    if shown.startswith(("-", "+")):
        return shown.encode() + b"\r\n"
    return shown.replace(" ", "\r\n").encode() + b"\r\n"


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(client: Client, name: str) -> None:
    for line, reply in DIALOGUES[name]:
        assert client.say(line) == _encoded(reply), line


def test_a_value_of_ones_goes_on_with_zeros_unless_an_end_is_given(client: Client) -> None:
    client.send("SET", "k", b"\xff\xff")
    assert client.say("BITPOS k 0") == b":16\r\n"
    assert client.say("BITPOS k 0 1") == b":16\r\n"
    assert client.say("BITPOS k 0 0 -1") == b":-1\r\n"
    client.send("SET", "k", b"")
    assert client.say("BITPOS k 0") == b":-1\r\n"


# Expiries


def _expires_us(rig: Rig, key: bytes) -> int:
    with rig.db.transaction(read_only=True) as tx:
        return tx.entry(key)[1]


def test_an_expiry_is_exact_to_the_millisecond(rig: Rig, client: Client) -> None:
    client.say("SET k v PXAT 9223372036854776")
    assert _expires_us(rig, b"k") == EXPIRES_US_MAX
    client.say("SET k v PXAT 9223372036854775")
    assert _expires_us(rig, b"k") == 9223372036854775000
    client.say("SET k v PXAT 4102444800123")
    assert _expires_us(rig, b"k") == 4102444800123000
    client.say("GETEX k EXAT 4102444801")
    assert _expires_us(rig, b"k") == 4102444801000000
    before_us = rig.service.clock.wall_us()
    client.say("SET k v PX 100000")
    assert 0 <= _expires_us(rig, b"k") - before_us + 1000 - 100_000_000 < 20_000_000


@pytest.mark.parametrize(
    ("line", "keeps"),
    [
        ("SET k 2", False),
        ("SET k 2 KEEPTTL", True),
        ("SET k 2 XX GET KEEPTTL", True),
        ("GETSET k 2", False),
        ("MSET k 2", False),
        ("APPEND k 2", True),
        ("SETRANGE k 0 2", True),
        ("SETBIT k 0 1", True),
        ("INCR k", True),
        ("DECRBY k 3", True),
        ("INCRBYFLOAT k 0.5", True),
        ("GETEX k", True),
        ("GETEX k PERSIST", False),
    ],
)
def test_what_keeps_an_expiry(rig: Rig, client: Client, line: str, keeps: bool) -> None:
    client.say("SET k 1 EXAT 4102444800")
    assert not (client.say(line) or b"-").startswith(b"-")
    assert _expires_us(rig, b"k") == (4102444800000000 if keeps else 0)


# Bytes and bounds


def test_keys_and_values_are_any_bytes(client: Client) -> None:
    for key in (b"", b"\0\r\n\xff", b"k" * limits.KEY_BYTES_MAX):
        assert client.send("SET", key, b"\0\r\n") == b"+OK\r\n"
        assert client.send("GET", key) == b"$3\r\n\0\r\n\r\n"


def test_an_option_ends_at_a_zero_byte(client: Client) -> None:
    assert client.send("SET", "k", "v", b"XX\0junk") == b"$-1\r\n"


def test_longer_keys_and_values_are_refused(client: Client) -> None:
    long_key = b"k" * (limits.KEY_BYTES_MAX + 1)
    refused = b"-ERR the key has 65536 bytes; at most 65535 are allowed\r\n"
    assert client.send("SET", long_key, "v") == refused
    assert client.send("GET", long_key) == refused
    too_long = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    longest = bytes(limits.VALUE_BYTES_MAX)
    assert client.send("SET", "k", longest + b"x") == too_long
    assert client.send("SET", "k", longest) == b"+OK\r\n"
    assert client.send("APPEND", "k", "x") == too_long
    assert client.send("STRLEN", "k") == b":16777216\r\n"
