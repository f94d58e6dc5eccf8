"""Commands that count: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT. They keep a key's expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrisdb.resp import longdouble
from ferrisdb.resp.arguments import INTEGER_MAX, INTEGER_MIN, integer
from ferrisdb.resp.command import NOT_A_FLOAT, CommandError, data
from ferrisdb.resp.replies import Reply

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call


def _add(call: Call, delta: int) -> int:
    value, until_us = call.entry(call.args[0])
    total = (integer(value) if value is not None else 0) + delta
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise CommandError(b"ERR increment or decrement would overflow")
    call.put(call.args[0], b"%d" % total, until_us)
    return total


@data("incr", 2, "write denyoom fast")
def incr(call: Call) -> Reply:
    """Add one."""
    return _add(call, 1)


@data("decr", 2, "write denyoom fast")
def decr(call: Call) -> Reply:
    """Take one away."""
    return _add(call, -1)


@data("incrby", 3, "write denyoom fast")
def incrby(call: Call) -> Reply:
    """Add a number."""
    return _add(call, integer(call.args[1]))


@data("decrby", 3, "write denyoom fast")
def decrby(call: Call) -> Reply:
    """Take a number away."""
    delta = integer(call.args[1])
    if delta == INTEGER_MIN:
        raise CommandError(b"ERR decrement would overflow")
    return _add(call, -delta)


@data("incrbyfloat", 3, "write denyoom fast")
def incrbyfloat(call: Call) -> Reply:
    """Add a decimal number; return the sum as it is stored."""
    key, delta = call.args
    value, until_us = call.entry(key)
    one = longdouble.ZERO if value is None else longdouble.read(value)
    other = longdouble.read(delta)
    if one is None or other is None:
        raise CommandError(NOT_A_FLOAT)
    total = None
    if isinstance(one, longdouble.Number) and isinstance(other, longdouble.Number):
        total = longdouble.add(one, other)
    if total is None:
        raise CommandError(b"ERR increment would produce NaN or Infinity")
    text = longdouble.show(total)
    call.put(key, text, until_us)
    return text
