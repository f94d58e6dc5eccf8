"""Operations of the model test: what they are, drawn from bytes, done to a database or to a dict.

An operation is a tuple, its name first, so that it can be logged, sent to another process and done
again. `Actor` does it to a database; `Model` says what must come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import ferrisdb
from ferrisdb.keys import prefix_end

Op = tuple[Any, ...]

OP_BYTES: Final = 8
LIVE_TTL_S: Final = 3600.0
DEAD_TTL_S: Final = 1e-6
SNAPSHOTS_MAX: Final = 6

_SHORT = [b"", b"\0", b"\xff", b"a", b"b", b"aa", b"ab", b"ba", b"a\0", b"a\xff", b"\xff\xff"]
_SHARED = [b"shared-prefix-of-keys/" + tail for tail in (b"", b"0", b"1", b"10", b"11", b"9\xff")]
_NUMBERED = [b"n%02d" % n for n in range(30)]
_LONG = [b"long" * 500 + tail for tail in (b"", b"a", b"b")] + [b"x" * 65_534 + b"y", b"x" * 65_535]
#: Keys of single operations; small, so that they meet, and the simplest first.
KEYS: Final = [b"k", *_SHORT, *_SHARED, *_NUMBERED, *_LONG]
_PREFIXES = [b"", b"a", b"n", b"n1", b"shared-prefix", b"\xff", b"\xff\xff", b"long", b"x", b"row"]
_SIZES = [
    *[(share, size) for share, size in ((16, 0), (122, 12), (70, 200), (36, 1500))],
    *[(share, size) for share, size in ((8, 9000), (3, 30_000), (1, 60_000))],
]
_SIZE_OF_BYTE = [size for share, size in _SIZES for _ in range(share)]
_DURABILITIES = ("os", "os", "os", "sync", "async")

#: (share of 256, name); the simplest first.
_SHARES = [
    *[(52, "put"), (24, "get"), (20, "scan"), (20, "delete"), (12, "multi_get")],
    *[(10, "delete_range"), (24, "batch"), (8, "bulk"), (8, "contains"), (8, "pop")],
    *[(8, "setdefault"), (4, "popitem"), (6, "put_live"), (6, "put_dead"), (4, "len")],
    *[(12, "snapshot"), (16, "snapshot_read"), (8, "snapshot_close"), (4, "cursor"), (2, "bool")],
]
_NAMES = [name for share, name in _SHARES for _ in range(share)]
assert len(_NAMES) == len(_SIZE_OF_BYTE) == 256


@dataclass(slots=True)
class Moment:
    """A snapshot, or an iterator that is yet to be read: what it must show."""

    actor: int
    rows: dict[bytes, bytes]
    #: How the iterator scans; None for a snapshot.
    scan: Op | None = None
    #: The service was restarted behind it: it may say that it is too old.
    may_be_gone: bool = False


@dataclass(slots=True)
class Model:
    """What the database must hold, and what open snapshots must show."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    moments: dict[int, Moment] = field(default_factory=dict)

    def do(self, op: Op) -> Any:
        """Carry out an operation; return what it must answer."""
        name, *given = op
        if name in ("snapshot", "cursor"):
            actor, number, scan = given
            self.moments[number] = Moment(actor, dict(self.rows), scan)
            return None
        if name == "snapshot_read":
            number, inner = given
            return _answer(self.moments[number].rows, inner)
        if name == "snapshot_close":
            moment = self.moments.pop(given[0])
            return None if moment.scan is None else _answer(moment.rows, moment.scan)
        return _answer(self.rows, op)


def _answer(rows: dict[bytes, bytes], op: Op) -> Any:
    name, *given = op
    match name:
        case "put":
            key, value, ttl = given[:3]
            if ttl == DEAD_TTL_S:
                rows.pop(key, None)
            else:
                rows[key] = value
        case "delete":
            rows.pop(given[0], None)
        case "delete_range":
            start, end = given[:2]
            for key in [k for k in rows if (start or b"") <= k and (end is None or k < end)]:
                del rows[key]
        case "batch":
            for inner in given[0]:
                _answer(rows, inner)
        case "bulk":
            rows.update(given[0])
            return len(given[0])
        case "get":
            return rows.get(given[0])
        case "contains":
            return given[0] in rows
        case "multi_get":
            return [rows.get(key) for key in given[0]]
        case "pop":
            return rows.pop(given[0], None)
        case "setdefault":
            return rows.setdefault(*given)
        case "popitem":
            return (key := min(rows), rows.pop(key)) if rows else None
        case "len":
            return len(rows)
        case "bool":
            return bool(rows)
        case "scan":
            return _scan(rows, *given)
        case _:
            raise ValueError(f"no operation {name!r}")
    return None


def _scan(
    rows: dict[bytes, bytes],
    start: bytes | None,
    end: bytes | None,
    prefix: bytes | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
) -> list[Any]:
    low, high = start or b"", end
    if prefix is not None:
        low, high = prefix, prefix_end(prefix)
    keys = sorted((k for k in rows if low <= k and (high is None or k < high)), reverse=reverse)
    if limit is not None:
        del keys[limit:]
    return keys if keys_only else [(key, rows[key]) for key in keys]


class Actor:
    """A handle of one process, and the snapshots and iterators that it holds."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self.db = ferrisdb.open(path, durability="os", timeout=timeout_s)
        self._held: dict[int, Any] = {}

    def do(self, op: Op) -> Any:
        """Carry out an operation on the database; return its answer."""
        name, *given = op
        if name == "snapshot":
            self._held[given[1]] = self.db.snapshot()
            return None
        if name == "cursor":
            self._held[given[1]] = _do_scan(self.db, given[2])
            return None
        if name == "snapshot_read":
            return self._read(self._held[given[0]], given[1])
        if name == "snapshot_close":
            held = self._held.pop(given[0])
            if isinstance(held, ferrisdb.Snapshot):
                held.close()
                return None
            return list(held)
        return self._do(op)

    def close(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self.db.close()

    def _read(self, source: Any, op: Op) -> Any:
        name, *given = op
        match name:
            case "get":
                return source.get(*given)
            case "contains":
                return given[0] in source
            case "multi_get":
                return source.multi_get(given[0])
            case "len":
                return len(source)
            case "scan":
                return list(_do_scan(source, op))
        raise ValueError(f"no reading operation {name!r}")

    def _do(self, op: Op) -> Any:
        db = self.db
        name, *given = op
        match name:
            case "put":
                key, value, ttl, durability = given
                return db.put(key, value, ttl=ttl, durability=durability)
            case "delete":
                return db.delete(given[0], durability=given[1])
            case "delete_range":
                return db.delete_range(given[0], given[1], durability=given[2])
            case "batch":
                with db.write_batch(durability=given[1]) as batch:
                    for inner, *words in given[0]:
                        if inner == "put":
                            batch.put(words[0], words[1], ttl=words[2])
                        elif inner == "delete":
                            batch.delete(words[0])
                        else:
                            batch.delete_range(words[0], words[1])
                return None
            case "bulk":
                return db.put_many(given[0], durability=given[1])
            case "pop":
                return db.pop(given[0], None)
            case "setdefault":
                return db.setdefault(*given)
            case "popitem":
                try:
                    return db.popitem()
                except KeyError:
                    return None
            case "bool":
                return bool(db)
            case "drain":
                return db.attached.drain()
        return self._read(db, op)


def _do_scan(source: Any, op: Op) -> Iterator[Any]:
    _, start, end, prefix, limit, reverse, keys_only = op
    if prefix is not None:
        rows = source.scan(prefix=prefix, limit=limit, reverse=reverse, keys_only=keys_only)
    else:
        rows = source.scan(start, end, limit=limit, reverse=reverse, keys_only=keys_only)
    found: Iterator[Any] = rows
    return found


class Drawn:
    """One operation, read from bytes that Hypothesis has drawn."""

    def __init__(self, drawn: bytes, number: int, moments: dict[int, Moment], actors: int) -> None:
        """Shape: number, of the operation: it tells values apart and names snapshots."""
        self._bytes = drawn
        self._number = number
        self._moments = moments
        self.name = _NAMES[drawn[0]]
        #: Who does it.
        self.actor = drawn[1] % 8 % actors
        self._durability = _DURABILITIES[drawn[1] // 8 % len(_DURABILITIES)]

    def op(self) -> Op:
        """Return the operation; one that needs a snapshot takes one where there is none."""
        name, drawn = self.name, self._bytes
        if name == "snapshot" and len(self._moments) >= SNAPSHOTS_MAX:
            name = "snapshot_close"
        if name in ("snapshot_read", "snapshot_close"):
            return self._of_snapshot(name)
        if name in ("snapshot", "cursor"):
            scan = None if name == "snapshot" else self._scan()
            return (name, self.actor, self._number, scan)
        if name == "batch":
            return (name, tuple(self._batch()), self._durability)
        if name == "bulk":
            return (name, tuple(self._rows()), self._durability)
        if name.startswith(("put", "delete")):
            return (*self._write(name, drawn, 0), self._durability)
        if name == "setdefault":
            return (name, _key(drawn[2]), self._value(drawn[3], 0))
        if name == "pop":
            return (name, _key(drawn[2]))
        return self._read(name)

    def _of_snapshot(self, name: str) -> Op:
        numbers = list(self._moments)
        if not numbers:
            return ("snapshot", self.actor, self._number, None)
        number = numbers[self._bytes[7] % len(numbers)]
        self.actor = self._moments[number].actor
        if name == "snapshot_close" or self._moments[number].scan is not None:
            return ("snapshot_close", number)
        kinds = ("scan", "get", "multi_get", "scan", "len", "contains")
        return (name, number, self._read(kinds[self._bytes[6] % len(kinds)]))

    def _read(self, name: str) -> Op:
        drawn = self._bytes
        match name:
            case "get" | "contains":
                return (name, _key(drawn[2]))
            case "multi_get":
                keys = [_key(drawn[2] + n * drawn[3]) for n in range(1 + drawn[4] % 12)]
                return (name, (*keys, b"absent", b"row%03d" % drawn[5]))
            case "scan":
                return self._scan()
        return (name,)

    def _scan(self) -> Op:
        drawn = self._bytes
        reverse, keys_only = bool(drawn[5] & 1), drawn[5] & 14 == 2
        limit = None if drawn[5] & 48 else drawn[6] % 9
        if drawn[4] % 3 == 0:
            prefix = _PREFIXES[drawn[2] % len(_PREFIXES)]
            return ("scan", None, None, prefix, limit, reverse, keys_only)
        start, end = _bounds(drawn)
        return ("scan", start, end, None, limit, reverse, keys_only)

    def _write(self, name: str, drawn: bytes, n: int) -> Op:
        key = _key(drawn[2])
        match name:
            case "delete":
                return (name, key)
            case "delete_range":
                start, end = _bounds(drawn)
                if drawn[4] % 3 == 0:
                    start = _PREFIXES[drawn[2] % len(_PREFIXES)]
                    end = prefix_end(start)
                if drawn[5] & 7 and (start is None or end is None):
                    # Not too often everything.
                    start, end = b"n", b"n%02d" % (drawn[3] % 30)
                if len(start or b"") + len(end or b"") > 100_000:
                    # Two of the longest keys do not fit half of the smallest memtable.
                    end = None
                return (name, start, end)
        ttl = {"put_live": LIVE_TTL_S, "put_dead": DEAD_TTL_S}.get(name)
        return ("put", key, self._value(drawn[3], n), ttl)

    def _batch(self) -> Iterator[Op]:
        names = ("put", "put", "delete", "put", "delete_range", "put_live", "put_dead", "delete")
        more = hashlib.blake2b(self._bytes).digest()
        for n in range(1 + self._bytes[2] % 8):
            drawn = more[n * 8 : n * 8 + 8]
            # A batch takes at most half a memtable: no value and no key of the largest.
            small = bytes([*drawn[:2], drawn[2] % (len(KEYS) - 2), drawn[3] % 230, *drawn[4:]])
            yield self._write(names[drawn[0] % len(names)], small, n)

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        drawn = self._bytes
        for n in range(10 + drawn[2] % 80):
            number = (drawn[3] + n * (1 + drawn[4] % 5)) % 300
            yield b"row%03d" % number, self._value(130 + drawn[5] % 90, n)

    def _value(self, size_byte: int, n: int) -> bytes:
        """Return a value that no other operation writes, of a drawn size."""
        size = _SIZE_OF_BYTE[size_byte]
        token = b"%d.%d;" % (self._number, n)
        return (token * (size // len(token) + 1))[:size]


def _key(drawn: int) -> bytes:
    return KEYS[drawn % len(KEYS)]


def _bounds(drawn: bytes) -> tuple[bytes | None, bytes | None]:
    start = None if drawn[2] % 11 == 10 else _key(drawn[2] // 2)
    end = None if drawn[3] % 11 == 10 else _key(drawn[3] // 2)
    if start is not None and end is not None and start > end and drawn[4] & 1:
        start, end = end, start
    return start, end


def shown(thing: Any) -> str:
    """Return an operation or an answer as text, long bytes cut short."""
    if isinstance(thing, bytes) and len(thing) > 40:
        return f"{thing[:16]!r}..{thing[-6:]!r}*{len(thing)}"
    if isinstance(thing, list | tuple):
        inside = ", ".join(shown(part) for part in thing)
        return f"[{inside}]" if isinstance(thing, list) else f"({inside})"
    return repr(thing)
