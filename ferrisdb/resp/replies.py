"""Encode replies for RESP2 and RESP3.

| reply        | RESP2            | RESP3         |
| ---          | ---              | ---           |
| None         | `$-1`            | `_`           |
| NULL_ARRAY   | `*-1`            | `_`           |
| bool         | `:1` `:0`        | `#t` `#f`     |
| int          | `:n`             | `:n`          |
| float        | bulk             | `,n`          |
| bytes        | bulk             | bulk          |
| list, tuple  | `*n`             | `*n`          |
| dict         | `*2n`, flat      | `%n`          |
| Simple       | `+text`          | `+text`       |
| Failure      | `-text`          | `-text`       |
| Verbatim     | bulk             | `=n` `txt:`   |
| Members      | `*n`             | `~n`          |
| Push         | `*n`             | `>n`          |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

Reply: TypeAlias = Any
"""None, bool, int, float, bytes, list, tuple, dict or one of the classes below, nested at will."""


class _Text:
    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.text == self.text

    def __hash__(self) -> int:
        return hash((type(self), self.text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class Simple(_Text):
    """A status line, `+OK`; its text has no line break."""

    __slots__ = ()


class Failure(_Text):
    """An error line, `-ERR ...`: all of it behind the `-`, its code first."""

    __slots__ = ()


class Verbatim(_Text):
    """Text for people: INFO, CLIENT LIST."""

    __slots__ = ()


class _Items:
    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.items!r})"


class Members(_Items):
    """A set."""

    __slots__ = ()


class Push(_Items):
    """A message out of turn."""

    __slots__ = ()


class NullArray:
    """What a transaction that was not executed answers; there is one, NULL_ARRAY."""

    __slots__ = ()


NULL_ARRAY: Final = NullArray()
OK: Final = Simple(b"OK")
QUEUED: Final = Simple(b"QUEUED")


def encode(reply: Reply, protocol: int) -> bytes:
    """Return the reply's bytes; protocol is 2 or 3."""
    kind = type(reply)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if kind is int:
        return b":%d\r\n" % reply
    if reply is OK:
        return b"+OK\r\n"
    if reply is None:
        return b"$-1\r\n" if protocol == 2 else b"_\r\n"
    pieces: list[bytes] = []
    _append(reply, protocol, pieces)
    return b"".join(pieces)


def _append(reply: Reply, protocol: int, pieces: list[bytes]) -> None:
    kind = type(reply)
    if kind is list or kind is tuple:
        pieces.append(b"*%d\r\n" % len(reply))
        for item in reply:
            # Most are bulk strings; a list may have a million of them.
            if type(item) is bytes:
                pieces.append(b"$%d\r\n%b\r\n" % (len(item), item))
            else:
                _append(item, protocol, pieces)
        return
    one = _ENCODERS.get(kind)
    if one is not None:
        pieces.append(one(reply, protocol))
    elif kind is dict:
        pieces.append(b"%%%d\r\n" % len(reply) if protocol == 3 else b"*%d\r\n" % (2 * len(reply)))
        for key, value in reply.items():
            _append(key, protocol, pieces)
            _append(value, protocol, pieces)
    elif kind is Members or kind is Push:
        mark = b"*" if protocol == 2 else b"~" if kind is Members else b">"
        pieces.append(b"%b%d\r\n" % (mark, len(reply.items)))
        for item in reply.items:
            _append(item, protocol, pieces)
    else:
        raise TypeError(f"a {kind.__name__} is no reply")


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _verbatim(reply: Reply, protocol: int) -> bytes:
    if protocol == 2:
        return _bulk(reply.text)
    return b"=%d\r\ntxt:%b\r\n" % (len(reply.text) + 4, reply.text)


def _double(reply: Reply, protocol: int) -> bytes:
    text = b"%.17g" % reply
    return b",%b\r\n" % text if protocol == 3 else _bulk(text)


def _bool(reply: Reply, protocol: int) -> bytes:
    if protocol == 3:
        return b"#t\r\n" if reply else b"#f\r\n"
    return b":1\r\n" if reply else b":0\r\n"


_ENCODERS: Final[dict[type, Callable[[Reply, int], bytes]]] = {
    bytes: lambda reply, _: _bulk(reply),
    int: lambda reply, _: b":%d\r\n" % reply,
    bool: _bool,
    float: _double,
    type(None): lambda _, protocol: b"$-1\r\n" if protocol == 2 else b"_\r\n",
    NullArray: lambda _, protocol: b"*-1\r\n" if protocol == 2 else b"_\r\n",
    Simple: lambda reply, _: b"+%b\r\n" % reply.text,
    Failure: lambda reply, _: b"-%b\r\n" % reply.text,
    Verbatim: _verbatim,
}
