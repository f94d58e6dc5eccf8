"""When keys expire: EXPIRE and its kin, TTL and its kin, PERSIST.

Redis counts in milliseconds, and so do these commands; what is kept is µs. A moment later than
`EXPIRES_US_MAX` is kept as that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferrisdb.resp.arguments import EXPIRES_US_MAX, INTEGER_MAX, integer, option
from ferrisdb.resp.command import CommandError, data, error_line
from ferrisdb.resp.replies import Reply

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call

_OPTIONS: Final = (b"nx", b"xx", b"gt", b"lt")


def _conditions(words: list[bytes]) -> set[bytes]:
    """Read NX, XX, GT and LT.

    Raises:  CommandError, an unknown one, or two that exclude each other.
    """
    found = set()
    for word in words:
        name = option(word)
        if name not in _OPTIONS:
            raise CommandError(error_line(b"ERR Unsupported option ", word))
        found.add(name)
    if b"nx" in found and len(found) > 1:
        raise CommandError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
    if b"gt" in found and b"lt" in found:
        raise CommandError(b"ERR GT and LT options at the same time are not compatible")
    return found


def _moment_ms(call: Call, unit_ms: int, base_ms: int) -> int:
    """Return the moment that the second argument means, in ms; it may have passed.

    Raises:  CommandError, no integer, or more than fits.
    """
    number = integer(call.args[1])
    overflows = unit_ms > 1 and abs(number) > INTEGER_MAX // unit_ms
    if overflows or number * unit_ms > INTEGER_MAX - base_ms:
        raise CommandError(b"ERR invalid expire time in '%b' command" % call.name)
    return number * unit_ms + base_ms


def _excluded(conditions: set[bytes], when_ms: int, held_ms: int | None) -> bool:
    """Tell whether a condition keeps the expiry as it is; held_ms is None for never."""
    if b"nx" in conditions and held_ms is not None:
        return True
    if held_ms is None:
        # Never is later than any moment.
        return bool(conditions & {b"xx", b"gt"})
    return (b"gt" in conditions and when_ms <= held_ms) or (
        b"lt" in conditions and when_ms >= held_ms
    )


def _expire(call: Call, unit_ms: int, is_relative: bool) -> Reply:
    conditions = _conditions(call.args[2:])
    now_ms = call.now_us // 1000
    when_ms = _moment_ms(call, unit_ms, now_ms if is_relative else 0)
    key = call.args[0]
    value, expires_us = call.entry(key)
    if value is None:
        return 0
    if _excluded(conditions, when_ms, expires_us // 1000 if expires_us else None):
        return 0
    if when_ms <= now_ms:
        call.delete(key)
    else:
        call.put(key, value, min(when_ms * 1000, EXPIRES_US_MAX))
    return 1


@data("expire", -3, "write fast")
def expire(call: Call) -> Reply:
    """Give the key seconds to live."""
    return _expire(call, 1000, True)


@data("pexpire", -3, "write fast")
def pexpire(call: Call) -> Reply:
    """Give the key milliseconds to live."""
    return _expire(call, 1, True)


@data("expireat", -3, "write fast")
def expireat(call: Call) -> Reply:
    """Give the key until a moment to live, in seconds since the epoch."""
    return _expire(call, 1000, False)


@data("pexpireat", -3, "write fast")
def pexpireat(call: Call) -> Reply:
    """Give the key until a moment to live, in milliseconds since the epoch."""
    return _expire(call, 1, False)


def _expiry(call: Call, *, in_ms: bool, is_relative: bool) -> Reply:
    value, expires_us = call.entry(call.args[0])
    if value is None:
        return -2
    if not expires_us:
        return -1
    shown_ms = expires_us // 1000
    if is_relative:
        shown_ms = max(0, shown_ms - call.now_us // 1000)
    return shown_ms if in_ms else (shown_ms + 500) // 1000


@data("ttl", 2, "readonly fast")
def ttl(call: Call) -> Reply:
    """Return how many seconds the key has to live; -1 without an expiry, -2 if it is absent."""
    return _expiry(call, in_ms=False, is_relative=True)


@data("pttl", 2, "readonly fast")
def pttl(call: Call) -> Reply:
    """Return how many milliseconds the key has to live; -1 and -2 as TTL."""
    return _expiry(call, in_ms=True, is_relative=True)


@data("expiretime", 2, "readonly fast")
def expiretime(call: Call) -> Reply:
    """Return when the key expires, in seconds since the epoch; -1 and -2 as TTL."""
    return _expiry(call, in_ms=False, is_relative=False)


@data("pexpiretime", 2, "readonly fast")
def pexpiretime(call: Call) -> Reply:
    """Return when the key expires, in milliseconds since the epoch; -1 and -2 as TTL."""
    return _expiry(call, in_ms=True, is_relative=False)


@data("persist", 2, "write fast")
def persist(call: Call) -> Reply:
    """Take the key's expiry away; tell whether it had one."""
    key = call.args[0]
    value, expires_us = call.entry(key)
    if value is None or not expires_us:
        return 0
    call.put(key, value)
    return 1
