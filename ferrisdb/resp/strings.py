"""Commands on whole values and parts of them: GET, SET and their kin, APPEND, GETRANGE, SETRANGE.

Checks come in the order in which Redis 7.0 makes them, for it shows in which error is answered.
IFEQ is Redis 8.4's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ferrisdb.limits import VALUE_BYTES_MAX
from ferrisdb.resp.arguments import expiry_us, integer, option
from ferrisdb.resp.command import SYNTAX_ERROR, TOO_LONG, CommandError, data
from ferrisdb.resp.replies import OK, Reply

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call

_UNITS_MS: Final = {b"ex": 1000, b"px": 1, b"exat": 1000, b"pxat": 1}
_CONDITIONS: Final = (b"nx", b"xx", b"ifeq")


class Options(NamedTuple):
    """What stands behind SET's value or GETEX's key.

    Shape:  condition, "nx", "xx", "ifeq" or none; unit, "ex", "px", "exat", "pxat", "keepttl",
            "persist" or none; amount, of the first four.
    """

    condition: bytes
    expected: bytes
    returns_old: bool
    unit: bytes
    amount: bytes


_NO_OPTIONS: Final = Options(b"", b"", False, b"", b"")


def _options(words: list[bytes], keeping: bytes, is_set: bool) -> Options:
    """Read the options of SET or GETEX.

    Shape:   keeping, the option that goes with no time: "keepttl" or "persist".
    Raises:  CommandError, an unknown one, or two that exclude each other.
    """
    condition = expected = unit = amount = b""
    returns_old = False
    at = 0
    while at < len(words):
        name = option(words[at])
        takes = name in _UNITS_MS or (name == b"ifeq" and is_set)
        if takes and at + 1 == len(words):
            raise CommandError(SYNTAX_ERROR)
        # The same option again is no contradiction: the last one counts.
        if name in _UNITS_MS and unit in (b"", name):
            unit, amount = name, words[at + 1]
        elif name == keeping and unit in (b"", name):
            unit = name
        elif is_set and name in _CONDITIONS and condition in (b"", name):
            condition = name
            if takes:
                expected = words[at + 1]
        elif is_set and name == b"get":
            returns_old = True
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 2 if takes else 1
    return Options(condition, expected, returns_old, unit, amount)


def _until(call: Call, options: Options) -> int:
    """Return the expiry in µs that the options say, 0 if they say none."""
    unit = options.unit
    if unit not in _UNITS_MS:
        return 0
    base_ms = call.now_us // 1000 if unit in (b"ex", b"px") else 0
    return expiry_us(options.amount, call.name, _UNITS_MS[unit], base_ms)


@data("get", 2, "readonly fast")
def get(call: Call) -> Reply:
    """Return the key's value."""
    return call.get(call.args[0])


@data("set", -3, "write denyoom")
def set_(call: Call) -> Reply:
    """Set the key, on a condition, with an expiry, returning what it held: as the options say."""
    args = call.args
    key, value = args[0], args[1]
    if len(args) == 2:
        call.put(key, value)
        return OK
    options = _options(args[2:], b"keepttl", True)
    until_us = _until(call, options)
    condition, returns_old = options.condition, options.returns_old
    old: bytes | None = None
    if condition or returns_old or options.unit == b"keepttl":
        old, held_us = call.entry(key)
        if options.unit == b"keepttl":
            until_us = held_us
        if (
            (condition == b"nx" and old is not None)
            or (condition == b"xx" and old is None)
            or (condition == b"ifeq" and old != options.expected)
        ):
            return old if returns_old else None
    call.put(key, value, until_us)
    return old if returns_old else OK


@data("setnx", 3, "write denyoom fast")
def setnx(call: Call) -> Reply:
    """Set the key if it is absent; tell whether it was."""
    key, value = call.args
    if call.get(key) is not None:
        return 0
    call.put(key, value)
    return 1


@data("setex", 4, "write denyoom")
def setex(call: Call) -> Reply:
    """Set the key for so many seconds."""
    return _set_for(call, 1000)


@data("psetex", 4, "write denyoom")
def psetex(call: Call) -> Reply:
    """Set the key for so many milliseconds."""
    return _set_for(call, 1)


def _set_for(call: Call, unit_ms: int) -> Reply:
    key, amount, value = call.args
    call.put(key, value, expiry_us(amount, call.name, unit_ms, call.now_us // 1000))
    return OK


@data("getex", -2, "write fast")
def getex(call: Call) -> Reply:
    """Return the key's value and change its expiry as the options say."""
    key = call.args[0]
    options = _NO_OPTIONS
    if len(call.args) > 1:
        options = _options(call.args[1:], b"persist", False)
    value, held_us = call.entry(key)
    if value is None or not options.unit:
        return value
    until_us = _until(call, options)
    if until_us != held_us:
        call.put(key, value, until_us)
    return value


@data("getdel", 2, "write fast")
def getdel(call: Call) -> Reply:
    """Return the key's value and delete it."""
    value = call.get(call.args[0])
    if value is not None:
        call.delete(call.args[0])
    return value


@data("getset", 3, "write denyoom fast")
def getset(call: Call) -> Reply:
    """Set the key; return what it held."""
    key, value = call.args
    old = call.get(key)
    call.put(key, value)
    return old


@data("mget", -2, "readonly fast", keys=(1, -1, 1))
def mget(call: Call) -> Reply:
    """Return the values of keys."""
    return call.multi_get(call.args)


def _pairs(call: Call) -> list[tuple[bytes, bytes]]:
    if len(call.args) % 2:
        raise CommandError(b"ERR wrong number of arguments for '%b' command" % call.name)
    return list(zip(call.args[::2], call.args[1::2], strict=True))


@data("mset", -3, "write denyoom", keys=(1, -1, 2))
def mset(call: Call) -> Reply:
    """Set many keys."""
    for key, value in _pairs(call):
        call.put(key, value)
    return OK


@data("msetnx", -3, "write denyoom", keys=(1, -1, 2))
def msetnx(call: Call) -> Reply:
    """Set many keys if all of them are absent; tell whether they were."""
    pairs = _pairs(call)
    for key, _ in pairs:
        if call.get(key) is not None:
            return 0
    for key, value in pairs:
        call.put(key, value)
    return 1


@data("strlen", 2, "readonly fast")
def strlen(call: Call) -> Reply:
    """Return how many bytes the value has."""
    return len(call.get(call.args[0]) or b"")


@data("append", 3, "write denyoom fast")
def append(call: Call) -> Reply:
    """Append to the value; return how many bytes it has then."""
    key, more = call.args
    value, until_us = call.entry(key)
    whole = (value or b"") + more
    if len(whole) > VALUE_BYTES_MAX:
        raise CommandError(TOO_LONG)
    call.put(key, whole, until_us)
    return len(whole)


@data("getrange", 4, "readonly")
def getrange(call: Call) -> Reply:
    """Return a part of the value; indexes from the end are negative, both ends included."""
    key, first, last = call.args
    start, end = integer(first), integer(last)
    value = call.get(key)
    if not value or (start < 0 and end < 0 and start > end):
        return b""
    start = max(start + len(value), 0) if start < 0 else start
    end = max(end + len(value), 0) if end < 0 else end
    return value[start : end + 1]


data("substr", 4, "readonly")(getrange)


@data("setrange", 4, "write denyoom")
def setrange(call: Call) -> Reply:
    """Overwrite a part of the value, zero bytes before it if it was shorter; return its length."""
    key, at, part = call.args
    offset = integer(at)
    if offset < 0:
        raise CommandError(b"ERR offset is out of range")
    held, until_us = call.entry(key)
    value = held or b""
    if not part:
        return len(value)
    end = offset + len(part)
    if end > VALUE_BYTES_MAX:
        raise CommandError(TOO_LONG)
    whole = b"".join((value[:offset].ljust(offset, b"\0"), part, value[end:]))
    call.put(key, whole, until_us)
    return len(whole)
