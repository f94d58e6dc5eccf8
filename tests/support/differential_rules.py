"""Say where replies may differ from Redis's, and why, and compare them there.

Errors are never compared leniently: where one server refuses, both do, in the same words.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.support.resp_wire import AGGREGATES, Node

NOT_SENT = {
    "SET IFEQ, WAITAOF, CLIENT SETINFO": "Redis 7.0 doesn't know them yet",
    "FERRIS.*": "Redis will never know them",
    "WAIT with good arguments": "waits for durability here, for replicas there",
    "HELP subcommands": "a text of each server's own",
    "keys over 65,535 bytes, values over 16 MiB": "FerrisDB's limits are lower, with its own error",
    "inline requests with a zero byte": "Redis waits for ever for their end",
    "HELLO within MULTI": "replies that come before its own are encoded for the new protocol, too",
    "SCAN with a cursor of an earlier SCAN": "a cursor means something to its own server alone; "
    "the test follows each server's cursors to the end",
}
"""What the grammar never makes, and why."""

DIFFERENCES = {
    "TTL, PTTL, EXPIRETIME, PEXPIRETIME": "the servers' clocks are read at different moments: "
    "numbers may differ by as much as the slowest step of the run took; and FerrisDB keeps times "
    "in µs, which end in the year 294,247: what Redis keeps for longer ends then",
    "SCAN, KEYS": "the order is FerrisDB's by key, Redis's by hash; the set is compared",
    "DBSIZE": "Redis counts what has expired until it comes to remove it: FerrisDB's count is not "
    "above, and the same some moments later, if it was the only command of its pipeline",
    "RANDOMKEY": "any key is right, none is not",
    "TIME, LASTSAVE": "clocks; the shape is compared",
    "MEMORY USAGE, OBJECT IDLETIME": "figures of the implementation; null or number is compared",
    "OBJECT ENCODING": "FerrisDB stores bytes; int where they are one, else embstr, or raw when "
    "long: Redis also remembers how a value was made",
    "CLIENT ID, CLIENT INFO, CLIENT LIST": "ids, addresses, ages and memory; name, db, resp and "
    "user are compared",
    "HELLO": "server, version, id; the other fields are compared",
    "INFO, CONFIG GET, CONFIG SET": "what there is to tell and to set is each server's own; that "
    "it answers or refuses is compared",
    "COMMAND": "FerrisDB lists its own commands; name, arity and keys of each are compared",
}
"""Where replies may differ, and why; by `LENIENT` in code."""


def shape(node: Node) -> object:
    if node.value is None or node.kind not in AGGREGATES:
        return node.kind, node.value is None
    return node.kind, len(node.value)


def _same_shape(ours: Node, theirs: Node) -> bool:
    return shape(ours) == shape(theirs)


def _same_kind(ours: Node, theirs: Node) -> bool:
    return ours.kind == theirs.kind


def _answers(ours: Node, theirs: Node) -> bool:
    """Take any answer for any answer; errors never come here."""
    del ours, theirs
    return True


def _same_set(ours: Node, theirs: Node) -> bool:
    one, other = ours.plain(), theirs.plain()
    return ours.kind == theirs.kind and sorted(one) == sorted(other)


def _same_fields(ours: Node, theirs: Node) -> bool:
    """Compare what a client can choose in a line of CLIENT LIST."""
    kept = []
    for node in (ours, theirs):
        lines = node.plain().replace(b"txt:", b"").splitlines()
        fields = [dict(word.partition(b"=")[::2] for word in line.split(b" ")) for line in lines]
        names = (b"name", b"db", b"resp", b"user")
        kept.append(sorted(tuple(line.get(name) for name in names) for line in fields))
    return ours.kind == theirs.kind and kept[0] == kept[1]


def _same_hello(ours: Node, theirs: Node) -> bool:
    free = {b"server", b"version", b"id"}
    if ours.kind != theirs.kind:
        return False
    told = []
    for node in (ours, theirs):
        fields = node.value
        pairs = dict(
            zip((n.plain() for n in fields[::2]), (n.plain() for n in fields[1::2]), strict=True)
        )
        told.append({name: None if name in free else value for name, value in pairs.items()})
    return told[0] == told[1]


def _same_commands(ours: Node, theirs: Node) -> bool:
    """Compare name, arity, first and last key and step."""
    if len(theirs.value) > 10:
        return ours.kind == theirs.kind  # it was asked for all
    if shape(ours) != shape(theirs):
        return False
    for one, other in zip(ours.value, theirs.value, strict=True):
        told = [None if n.value is None else n.plain() for n in (one, other)]
        cut = [None if row is None else (row[:2], row[3:6]) for row in told]
        if cut[0] != cut[1]:
            return False
    return True


def _not_more(ours: Node, theirs: Node) -> bool:
    return ours.kind == theirs.kind and 0 <= ours.plain() <= theirs.plain()


LENIENT: dict[bytes, Callable[[Node, Node], bool]] = {
    b"KEYS": _same_set,
    b"SCAN": _same_kind,
    b"DBSIZE": _not_more,
    b"RANDOMKEY": _same_shape,
    b"TIME": _same_shape,
    b"LASTSAVE": _same_shape,
    b"MEMORY USAGE": _same_shape,
    b"OBJECT IDLETIME": _same_shape,
    b"OBJECT ENCODING": _same_shape,
    b"CLIENT ID": _same_shape,
    b"CLIENT INFO": _same_fields,
    b"CLIENT LIST": _same_fields,
    b"HELLO": _same_hello,
    b"INFO": _same_kind,
    b"CONFIG GET": _answers,
    b"CONFIG SET": _answers,
    b"COMMAND": _same_kind,
    b"COMMAND COUNT": _same_kind,
    b"COMMAND LIST": _same_kind,
    b"COMMAND DOCS": _same_kind,
    b"COMMAND INFO": _same_commands,
}
CLOCKS = {b"TTL": 1000, b"EXPIRETIME": 1000, b"PTTL": 1, b"PEXPIRETIME": 1}
"""Milliseconds that the reply's unit has."""
EXPIRY_MS_MAX = (2**63 - 1) // 1000
"""FerrisDB's latest expiry."""
