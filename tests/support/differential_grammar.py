"""Make random requests out of every command of ours that Redis 7.0 has, right ones and wrong ones.

The grammar gives the required words of each command and a pool of options; taking any of the pool
in any order makes the odd and the contradictory combinations. Now and then a word is dropped,
doubled or replaced. `units` makes whole scenes of them: pipelines, MULTI blocks, a WATCH that
another connection spoils, keys that expire, cursors.

Nothing depends on replies or on the clock, so a seed always makes the same units.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.resp_wire import encode

Request = tuple[bytes, ...]

CONNECTIONS = 3
"""How many there are; 1 begins with RESP3, and HELLO may change any."""

KEYS = [
    b"k1", b"k2", b"k3", b"k4", b"k5", b"k6", b"n1", b"n2", b"n3", b"", b"\x00\xff\r\n",
    "ключ".encode(), b"a*[b]?\\c", b"key:" + b"x" * 300,
]  # fmt: skip

VALUES = [
    b"", b"0", b"1", b"-1", b"10", b"12345678901", b"9223372036854775807", b"-9223372036854775808",
    b"9223372036854775808", b"3.0e3", b"5.0", b"-0", b"007", b"+5", b" 12", b"12 ", b"0x10",
    b"nan", b"inf", b"-inf", b"1e400", b"0.1", b"1.5", b"3.141592653589793238", b"17179869184",
    b"ohmytext", b"mynewtext", b"\x00", b"\xff\xfe\x00\x80", b"x" * 100, b"$5\r\nhello\r\n",
]  # fmt: skip

INTEGERS = [
    b"0", b"1", b"-1", b"2", b"3", b"5", b"7", b"10", b"100", b"-100", b"9223372036854775807",
    b"-9223372036854775808", b"9223372036854775808", b"abc", b"", b"1.5", b" 1", b"01", b"1e3",
]  # fmt: skip

FLOATS = [
    b"0", b"1", b"-1", b"0.1", b"1.5", b"-2.25", b"1e3", b"5.0e3", b"3.0", b"1e-10", b"1e17",
    b"123456789.123456789", b"nan", b"inf", b"-inf", b"abc", b"", b" 1", b"1 ", b"0x1p3", b".5",
    b"1e308", b"1e5000", b"0.30000000000000004",
]  # fmt: skip

OFFSETS = [b"0", b"1", b"2", b"5", b"7", b"8", b"20", b"100", b"400", b"-1", b"-2", b"-100"]
BAD_OFFSETS = [b"abc", b"", b"1.5", b"536870912", b"4294967295", b"4294967296", b"9999999999999"]

PATTERNS = [
    b"*", b"k*", b"k?", b"k[1-3]", b"k[^1]", b"n*", b"", b"a\\*\\[*", b"*\xff*", b"[", b"k[3-1]",
    b"\\", b"**", b"nope", b"k[", b"?", b"K1", b"k[12", b"k[1-", b"[\\k]1", "кл*".encode(),
]  # fmt: skip

ODD_WORDS = [
    b"", b"NX", b"XX", b"GET", b"EX", b"1000000000", b"-1", b"abc", b"KEEPTTL", b"MATCH", b"\xff",
    b"*", b"k1", b"BYTE", b"0",
]  # fmt: skip

BEFORE_AUTHENTICATION: list[list[Request]] = [
    # What one says who has not authenticated yet; each on a connection of its own.
    [(b"GET", b"k")], [(b"PING",)], [(b"NOPE",)], [(b"GET",)], [(b"CLIENT", b"ID")],
    [(b"COMMAND",)], [(b"AUTH",)], [(b"AUTH", b"wrong")], [(b"AUTH", b"default", b"wrong")],
    [(b"MULTI",)], [(b"AUTH", b"nobody", b"wrong")], [(b"AUTH", b"a", b"b", b"c")], [(b"HELLO",)],
    [(b"EXEC",)],
    [(b"HELLO", b"3")], [(b"HELLO", b"2")], [(b"HELLO", b"4")], [(b"HELLO", b"3", b"AUTH", b"x")],
    [(b"HELLO", b"3", b"AUTH", b"default", b"wrong"), (b"PING",)], [(b"QUIT",)], [(b"RESET",)],
    [(b"HELLO", b"abc")], [(b"HELLO", b"3", b"SETNAME", b"me")], [(b"SELECT", b"0")],
    [(b"ECHO", b"x")],
    [(b"AUTH", b"x" * 20_000)], [(b"MGET", *[b"k"] * 20)], [(b"AUTH", b"")],
    [(b"CONFIG", b"GET", b"*")],
    [(b"DISCARD",)], [(b"WATCH", b"k")], [(b"SHUTDOWN",)], [(b"FLUSHALL",)], [(b"QUIT", b"x")],
    [(b"AUTH", b"wrong"), (b"SET", b"k", b"v"), (b"GET", b"k")], [(b"CLIENT",)],
    [(b"DEBUG", b"SLEEP", b"9")],
]  # fmt: skip

COMMANDS: dict[str, tuple[float, str, str]] = {
    # name: (weight, required words, options)
    "PING": (2, "", "value"),
    "ECHO": (1, "value", ""),
    "SELECT": (1, "database", ""),
    "AUTH": (1, "value", "value"),
    "HELLO": (2, "", "protocol SETNAME:name nope AUTH:name"),
    "CLIENT ID": (1, "", ""),
    "CLIENT GETNAME": (1, "", ""),
    "CLIENT SETNAME": (2, "name", ""),
    "CLIENT INFO": (1, "", ""),
    "CLIENT LIST": (1, "", "TYPE:client_type"),
    "CLIENT NO-EVICT": (1, "onoff", ""),
    "CLIENT NOPE": (1, "", "value"),
    # With nothing behind it, COMMAND answers long: seldom.
    "COMMAND COUNT": (0.5, "", ""),
    "COMMAND INFO": (0.5, "command", "command command"),
    "COMMAND DOCS": (0.5, "command", "command"),
    "COMMAND LIST": (0.1, "", ""),
    "COMMAND NOPE": (0.5, "", "value"),
    "INFO": (1, "", "section section"),
    "CONFIG GET": (1, "parameter", ""),
    "CONFIG SET": (1, "nope value", ""),
    "CONFIG NOPE": (1, "", "value"),
    "CONFIG RESETSTAT": (1, "", ""),
    "DBSIZE": (2, "", ""),
    "TIME": (1, "", ""),
    "LASTSAVE": (1, "", ""),
    "MEMORY USAGE": (1, "key", "SAMPLES:int"),
    "MEMORY NOPE": (1, "", "value"),
    "OBJECT ENCODING": (2, "key", ""),
    "OBJECT FREQ": (1, "key", ""),
    "OBJECT IDLETIME": (1, "key", ""),
    "OBJECT NOPE": (1, "key", ""),
    "GET": (10, "key", ""),
    "SET": (30, "key value", "NX XX GET KEEPTTL EX:ttl PX:ttl_ms EXAT:at PXAT:at_ms"),
    "GETEX": (8, "key", "PERSIST EX:ttl PX:ttl_ms EXAT:at PXAT:at_ms"),
    "GETDEL": (3, "key", ""),
    "GETSET": (3, "key value", ""),
    "SETNX": (3, "key value", ""),
    "SETEX": (3, "key ttl value", ""),
    "PSETEX": (3, "key ttl_ms value", ""),
    "MGET": (4, "key*", ""),
    "MSET": (4, "pair*", ""),
    "MSETNX": (3, "pair*", ""),
    "APPEND": (5, "key value", ""),
    "STRLEN": (3, "key", ""),
    "GETRANGE": (6, "key offset offset", ""),
    "SUBSTR": (3, "key offset offset", ""),
    "SETRANGE": (6, "key offset value", ""),
    "SETBIT": (6, "key offset bit", ""),
    "GETBIT": (4, "key offset", ""),
    "BITCOUNT": (6, "key", "range BYTE BIT"),
    "BITPOS": (6, "key bit", "offset range BYTE BIT"),
    "LCS": (6, "key key", "LEN IDX MINMATCHLEN:int WITHMATCHLEN"),
    "INCR": (6, "number", ""),
    "DECR": (4, "number", ""),
    "INCRBY": (6, "number int", ""),
    "DECRBY": (4, "number int", ""),
    "INCRBYFLOAT": (8, "number float", ""),
    "DEL": (5, "key*", ""),
    "UNLINK": (2, "key*", ""),
    "EXISTS": (4, "key*", ""),
    "TOUCH": (2, "key*", ""),
    "TYPE": (3, "key", ""),
    "RENAME": (5, "key key", ""),
    "RENAMENX": (4, "key key", ""),
    "COPY": (6, "key key", "REPLACE DB:database"),
    "RANDOMKEY": (1, "", ""),
    "KEYS": (4, "pattern", ""),
    "SCAN": (2, "cursor", "MATCH:pattern COUNT:int TYPE:type"),
    "EXPIRE": (6, "key ttl", "NX XX GT LT"),
    "PEXPIRE": (5, "key ttl_ms", "NX XX GT LT"),
    "EXPIREAT": (5, "key at", "NX XX GT LT"),
    "PEXPIREAT": (5, "key at_ms", "NX XX GT LT"),
    "TTL": (4, "key", ""),
    "PTTL": (4, "key", ""),
    "EXPIRETIME": (4, "key", ""),
    "PEXPIRETIME": (4, "key", ""),
    "PERSIST": (4, "key", ""),
    "FLUSHDB": (1, "", "ASYNC SYNC"),
    "FLUSHALL": (1, "", "ASYNC SYNC"),
    "EXEC": (1, "", ""),
    "DISCARD": (1, "", ""),
    "WATCH": (1, "key*", ""),
    "UNWATCH": (1, "", ""),
    "NOPE": (2, "", "value key int"),
}

NOT_IN_A_BLOCK = {b"EXEC", b"DISCARD", b"HELLO"}

FIXED: list[Request] = [
    # What must not be mutated, as a word less would stop the server or silence the connection.
    (b"SHUTDOWN", b"nope"), (b"SHUTDOWN", b"ABORT"), (b"SHUTDOWN", b"SAVE", b"NOSAVE"),
    (b"CLIENT", b"KILL"), (b"CLIENT", b"KILL", b"ID", b"99999999999"),
    (b"CLIENT", b"KILL", b"ID", b"abc"), (b"CLIENT", b"KILL", b"nowhere:1"),
    (b"CLIENT", b"KILL", b"ADDR", b"nowhere:1"), (b"CLIENT", b"KILL", b"NOPE", b"1"),
    (b"CLIENT", b"KILL", b"TYPE", b"nope"), (b"CLIENT", b"KILL", b"USER", b"nobody"),
    (b"CLIENT", b"KILL", b"ID", b"1", b"SKIPME", b"maybe"),
    (b"CLIENT", b"REPLY"), (b"CLIENT", b"REPLY", b"maybe"), (b"CLIENT", b"LIST", b"ID", b"abc"),
    (b"CLIENT",), (b"COMMAND", b"INFO", b"nope"), (b"CONFIG",), (b"MEMORY",), (b"OBJECT",),
    (b"DEBUG", b"SLEEP", b"0"), (b"DEBUG",), (b"WATCH",), (b"MULTI", b"x"), (b"EXEC", b"x"),
    (b"DISCARD", b"x"), (b"UNWATCH", b"x"), (b"QUIT", b"x", b"y"), (b"RESET", b"x"),
    (b"WAIT",), (b"WAIT", b"abc", b"0"), (b"WAIT", b"0", b"abc"), (b"WAIT", b"0", b"-1"),
]  # fmt: skip

RAW: list[bytes] = [
    # Bytes that are no array of blobs; each on a connection of its own, with a PING behind.
    b"PING\r\n", b"PING\n", b"\r\n\r\nPING\r\n", b"  PING  hello \r\n", b"*0\r\n", b"*-1\r\n",
    b'SET k1 "a b\\x41\\n\\"" \r\n', b"SET k1 'a b\\'c\\n'\r\nGET k1\r\n", b'PING "\r\n',
    b"PING 'x\r\n", b'PING "a"b\r\n', b"PING ''\r\n", b"NOPE\r\n", b"nope a b c\r\n",
    b"*1\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", b"*x\r\n", b"*\r\n",
    b"*1\r\n:1\r\n", b"*1\r\n$x\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$-5\r\n", b"*1\r\nPING\r\n",
    b"*1048577\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n", b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n", b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n", b"*1\r\n$0\r\n\r\n",
    b"*-2\r\n", b"* 1\r\n", b"*1 \r\n", b"*+1\r\n$4\r\nPING\r\n", b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$ 4\r\nPING\r\n", b"*01\r\n$4\r\nPING\r\n", b"GET\r\n", b"get a b\r\n",
    b"\xff\xfe\r\n", b"SET \"\\xff\\x00\" v\r\nEXISTS \"\\xff\\x00\"\r\n", b"*1\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$-1\r\n", b"a" * 70_000 + b"\r\n", b"*" + b"1" * 70_000,
    b"*1\r\n$" + b"1" * 70_000, b"+PING\r\n", b"%1\r\n", b"EXEC\r\nMULTI\r\nMULTI\r\nEXEC\r\n",
]  # fmt: skip


def _real(rng: random.Random) -> float:
    return rng.uniform(-1, 1) * 10.0 ** rng.randint(-8, 12)


def _value(rng: random.Random) -> bytes:
    chance = rng.random()
    if chance < 0.6:
        return rng.choice(VALUES)
    if chance < 0.8:
        return b"%d" % rng.randint(-1000, 1000)
    return rng.randbytes(rng.randint(1, 60))


def _ttl(rng: random.Random, unit: int) -> bytes:
    chance = rng.random()
    if chance < 0.8:
        # No two alike: GT and LT must not depend on which came within the same millisecond.
        return b"%d" % (rng.randint(1_000, 10_000_000) * unit)
    if chance < 0.9:
        return rng.choice([b"0", b"-1", b"-1000", b"abc", b"", b"1.5"])
    return rng.choice([b"9223372036854775807", b"-9223372036854775808", b"99999999999999999999"])


def _at(rng: random.Random, unit: int) -> bytes:
    chance = rng.random()
    if chance < 0.8:
        return b"%d" % (4_102_444_800 * unit + rng.randint(0, 10**9))
    return rng.choice([b"1000", b"0", b"-5", b"abc", b"9223372036854775807", b"99999999999999999"])


_WORDS: dict[str, Callable[[random.Random], bytes]] = {
    "key": lambda rng: rng.choice(KEYS),
    "number": lambda rng: rng.choice(KEYS if rng.random() < 0.2 else KEYS[6:9]),
    "value": _value,
    "int": lambda rng: rng.choice(INTEGERS),
    "float": lambda rng: (
        rng.choice(FLOATS) if rng.random() < 0.6 else b"%.*f" % (rng.randint(0, 12), _real(rng))
    ),
    "offset": lambda rng: rng.choice(OFFSETS if rng.random() < 0.95 else BAD_OFFSETS),
    "bit": lambda rng: rng.choice([b"0", b"1", b"0", b"1", b"2", b"-1", b"x"]),
    "pattern": lambda rng: rng.choice(PATTERNS),
    "cursor": lambda rng: rng.choice([b"0", b"0", b"0", b"abc", b"-1", b"", b"0 "]),
    "type": lambda rng: rng.choice([b"string", b"STRING", b"list", b"nope", b""]),
    "database": lambda rng: rng.choice([b"0", b"0", b"0", b"1", b"-1", b"abc", b"99999999999"]),
    "protocol": lambda rng: rng.choice([b"2", b"3", b"2", b"3", b"1", b"4", b"abc", b"-1"]),
    "name": lambda rng: rng.choice([b"me", b"", b"two words", b"\xff", b"a-b.c", b"new\nline"]),
    "onoff": lambda rng: rng.choice([b"on", b"OFF", b"maybe"]),
    "client_type": lambda rng: rng.choice([b"normal", b"pubsub", b"nope", b"NORMAL"]),
    "command": lambda rng: rng.choice([b"get", b"SET", b"mset", b"nope", b"incr", b"exec"]),
    "section": lambda rng: rng.choice([b"server", b"all", b"everything", b"clients", b"nope"]),
    "parameter": lambda rng: rng.choice([b"nope", b"", b"no*pe", b"requirepas"]),
    "nope": lambda rng: rng.choice([b"nope", b"", b"maybe-later"]),
    "ttl": lambda rng: _ttl(rng, 1),
    "ttl_ms": lambda rng: _ttl(rng, 1000),
    "at": lambda rng: _at(rng, 1),
    "at_ms": lambda rng: _at(rng, 1000),
}


def _words(rng: random.Random, spec: str) -> list[bytes]:
    kind, _, following = spec.partition(":")
    if spec == "pair*":
        return [_WORDS[w](rng) for _ in range(rng.randint(1, 4)) for w in ("key", "value")]
    if spec.endswith("*"):
        return [_WORDS[spec[:-1]](rng) for _ in range(rng.randint(1, 4))]
    if spec == "range":
        return [_WORDS["offset"](rng), _WORDS["offset"](rng)]
    if kind[0].isupper():
        word = kind if rng.random() < 0.8 else kind.lower()
        return [word.encode(), *(_words(rng, following) if following else [])]
    return [_WORDS[kind](rng)]


def _mutated(rng: random.Random, words: list[bytes]) -> list[bytes]:
    """Return the words, sometimes with one argument too few, too many or another."""
    at = rng.randrange(len(words))
    chance = rng.random()
    if chance < 0.3 and at > 0:
        return words[:at] + words[at + 1 :]
    if chance < 0.7:
        return [*words, rng.choice(ODD_WORDS)]
    if chance < 0.85 and at > 0:
        return [*words[:at], rng.choice(ODD_WORDS), *words[at + 1 :]]
    return words[: at + 1] + words[at:] if at > 0 else words[:1]


_NAMES = list(COMMANDS)
_WEIGHTS = [weight for weight, _, _ in COMMANDS.values()]


def request(rng: random.Random) -> Request:
    """Return one random request."""
    if rng.random() < 0.01:
        return rng.choice(FIXED)
    name = rng.choices(_NAMES, _WEIGHTS)[0]
    _, required, optional = COMMANDS[name]
    if rng.random() < 0.15:
        name = name.lower()
    words = [part.encode() for part in name.split()]
    for spec in required.split():
        words += _words(rng, spec)
    pool = optional.split()
    if pool:
        count = rng.choices([0, 1, 2, 3], [4, 5, 2, 1])[0]
        for spec in rng.sample(pool, min(count, len(pool))):
            words += _words(rng, spec)
    if rng.random() < (0.01 if words[0].upper() == b"COMMAND" else 0.06):
        words = _mutated(rng, words)
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Step:
    """What is sent at once on one connection, and how many replies it has."""

    connection: int
    requests: tuple[Request, ...] = ()
    reply_count: int = 0
    pause_s: float = 0.0
    raw: bytes = b""
    """Bytes for a connection of its own, in place of requests."""

    def encoded(self) -> bytes:
        """Return the bytes to send."""
        return b"".join(encode(*words) for words in self.requests)


Unit = tuple[Step, ...]
"""Steps that belong together; a failing run is made shorter by whole units first."""


def step(connection: int, *requests: Request, pause_s: float = 0.0) -> Step:
    """Return a step with a reply for each request."""
    return Step(connection, requests, len(requests), pause_s)


def _block(rng: random.Random) -> list[Request]:
    inner = [request(rng) for _ in range(rng.randint(0, 6))]
    inner = [words for words in inner if words[0].upper() not in NOT_IN_A_BLOCK]
    if rng.random() < 0.1:
        inner.insert(rng.randint(0, len(inner)), rng.choice([(b"MULTI",), (b"WATCH", b"k1")]))
    return [(b"MULTI",), *inner, rng.choice([(b"EXEC",)] * 5 + [(b"DISCARD",)])]


def _single(rng: random.Random) -> Unit:
    return (step(rng.randrange(CONNECTIONS), request(rng)),)


def _pipeline(rng: random.Random) -> Unit:
    count = rng.choice([2, 5, 20, 60])
    return (step(rng.randrange(CONNECTIONS), *(request(rng) for _ in range(count))),)


def _multi(rng: random.Random) -> Unit:
    connection = rng.randrange(CONNECTIONS)
    block = _block(rng)
    if rng.random() < 0.5:
        return (step(connection, *block),)
    return tuple(step(connection, words) for words in block)


def _watch(rng: random.Random) -> Unit:
    """One watches, perhaps another writes, one tries to commit."""
    mine, other = rng.sample(range(CONNECTIONS), 2)
    keys = rng.sample(KEYS, rng.randint(1, 3))
    steps = [step(mine, (b"WATCH", *keys))]
    for _ in range(rng.randint(0, 2)):
        steps.append(step(rng.choice([mine, other]), request(rng)))
    if rng.random() < 0.2:
        steps.append(step(mine, rng.choice([(b"UNWATCH",), (b"WATCH", b"k6")])))
    block = _block(rng)
    cut = rng.randint(1, len(block) - 1)
    steps.append(step(mine, *block[:cut]))
    if rng.random() < 0.3:
        steps.append(step(other, request(rng)))
    steps.append(step(mine, *block[cut:]))
    return tuple(steps)


def _expiring(rng: random.Random) -> Unit:
    """A key expires and is looked at: at once nothing of it is left."""
    key = rng.choice(KEYS)
    value = _value(rng)
    sets: list[list[Request]] = [
        [(b"SET", key, value, b"PX", b"30")],
        [(b"PSETEX", key, b"30", value)],
        [(b"SET", key, value), (b"PEXPIRE", key, b"30")],
        [(b"SET", key, value), (b"GETEX", key, b"PX", b"30")],
    ]
    connection, other = rng.randrange(CONNECTIONS), rng.randrange(CONNECTIONS)
    looks: list[Request] = [
        (b"GET", key), (b"EXISTS", key), (b"TTL", key), (b"TYPE", key), (b"PERSIST", key),
        (b"SET", key, b"v", b"XX"), (b"SET", key, b"v", b"NX", b"GET"), (b"APPEND", key, b"x"),
        (b"INCR", key), (b"RENAME", key, b"k1"), (b"COPY", key, b"k2"), (b"DEL", key),
        (b"SETNX", key, b"1"), (b"EXPIRE", key, b"5000"), (b"KEYS", b"*"), (b"STRLEN", key),
        (b"SET", key, b"v", b"KEEPTTL"), (b"MGET", key, key), (b"GETDEL", key),
    ]  # fmt: skip
    seen = rng.sample(looks, rng.randint(1, 4))
    # EXISTS has Redis remove what has expired, which its DBSIZE would count for a while.
    behind = step(other, *seen, (b"EXISTS", key))
    return (step(connection, *rng.choice(sets), pause_s=0.1), behind)


def _watch_expiring(rng: random.Random) -> Unit:
    """A watched key expires before EXEC."""
    key = rng.choice(KEYS)
    mine = rng.randrange(CONNECTIONS)
    return (
        step(mine, (b"SET", key, b"v", b"PX", b"40"), (b"WATCH", key), pause_s=0.12),
        step(mine, (b"MULTI",), (b"GET", key), (b"EXEC",), (b"EXISTS", key)),
    )


def _silent(rng: random.Random) -> Unit:
    connection = rng.randrange(CONNECTIONS)
    quiet = [
        (b"SET", rng.choice(KEYS), _value(rng)),
        (b"INCR", b"n1"),
        (b"GET", b"k1"),
        (b"NOPE",),
        (b"GET",),
        (b"PING",),
    ]
    if rng.random() < 0.5:
        skipped = ((b"CLIENT", b"REPLY", b"SKIP"), rng.choice(quiet), (b"ECHO", b"heard"))
        return (Step(connection, skipped, 1),)
    inner = rng.sample(quiet, rng.randint(0, 4))
    requests = ((b"CLIENT", b"REPLY", b"OFF"), *inner, (b"CLIENT", b"REPLY", b"ON"))
    return (Step(connection, requests, 1),)


def _large(rng: random.Random) -> Unit:
    value = rng.randbytes(rng.choice([3_000, 20_000, 100_000]))
    requests: list[Request] = [
        (b"SET", b"k1", value), (b"STRLEN", b"k1"), (b"GETRANGE", b"k1", b"-50", b"-1"),
        (b"APPEND", b"k1", value[:500]), (b"GET", b"k1"), (b"BITCOUNT", b"k1"),
        (b"BITPOS", b"k1", b"1", b"100"), (b"SETRANGE", b"k1", b"150000", b"end"),
        (b"COPY", b"k1", b"k2"), (b"GET", b"k2"), (b"DEL", b"k1", b"k2"),
    ]  # fmt: skip
    return (step(rng.randrange(CONNECTIONS), *requests),)


def _leave(rng: random.Random) -> Unit:
    connection = rng.randrange(CONNECTIONS)
    if rng.random() < 0.5:
        return (step(connection, (b"RESET",), (b"CLIENT", b"GETNAME"), (b"GET", b"k1")),)
    return (step(connection, (b"SET", b"k1", b"before"), (b"QUIT",)),)


def _raw(rng: random.Random) -> Unit:
    return (Step(-1, raw=rng.choice(RAW)),)


_SCENES: list[tuple[float, Callable[[random.Random], Unit]]] = [
    (40, _single), (30, _pipeline), (10, _multi), (8, _watch), (0.3, _expiring),
    (0.1, _watch_expiring), (1.5, _silent), (0.5, _large), (1, _leave), (2, _raw),
]  # fmt: skip


def units(seed: int) -> Iterator[Unit]:
    """Yield scenes for ever."""
    rng = random.Random(seed)
    weights = [weight for weight, _ in _SCENES]
    while True:
        yield rng.choices(_SCENES, weights)[0][1](rng)
