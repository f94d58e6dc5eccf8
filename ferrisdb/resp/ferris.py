"""What FerrisDB has beyond Redis: ordered ranges, compare-and-set, figures, durability.

    FERRIS.RANGE start end [PREFIX prefix] [LIMIT count] [REV] [KEYSONLY]
        The rows of [start, end) in the order of their keys, bytewise, the last first with REV: a
        list of [key, value], or of keys with KEYSONLY. PREFIX: only keys that begin so.
    FERRIS.DELRANGE start end [PREFIX prefix]
        Removes the same: one delete of a range, whatever the number of keys. OK.
    FERRIS.CAS key old new [ABSENT] [DELETE]
        Sets the key to `new` if it holds `old`; 1, or 0 if it did not. ABSENT: if it is absent, and
        `old` is empty. DELETE: removes it, and `new` is empty. An expiry is kept.
    FERRIS.STATS
        The figures that `Database.stats` has, as JSON.
    FERRIS.DURABILITY [sync|os]
        How durable a write of this connection is before it is answered; returns which it is now.

A bound is a key as it is, binary too. An empty one is none: nothing lies below the empty key that
a start could leave out, and an end there would leave nothing. `- +`, which would be an empty
range, is the whole key space, too.

A user with a key prefix sees and removes what lies under it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ferrisdb.kernel import layout
from ferrisdb.resp.arguments import integer, option
from ferrisdb.resp.command import SYNTAX_ERROR, CommandError, Deferred, control, data
from ferrisdb.resp.counting import is_empty, visible, within_prefix
from ferrisdb.resp.gathering import Bounds, Gathering
from ferrisdb.resp.replies import OK, Reply, Verbatim
from ferrisdb.statistics import collect

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session

_DURABILITIES: Final = {b"sync": layout.DURABILITY_SYNC, b"os": layout.DURABILITY_OS}


class _Range(NamedTuple):
    """What FERRIS.RANGE is asked for."""

    bounds: Bounds
    limit: int | None
    reverse: bool
    keys_only: bool


def _bounds(session: Session, start: bytes, end: bytes, prefix: bytes) -> Bounds:
    """Return the range that is meant, as far as the session's user may see it."""
    whole = (start, end) == (b"-", b"+")
    bounds: Bounds = (None, None) if whole else (start or None, end or None)
    own_start, _ = visible(session)
    return within_prefix(within_prefix(bounds, prefix), own_start or b"")


def _parse(session: Session, args: list[bytes]) -> _Range:
    """Read the arguments of FERRIS.RANGE.

    Raises:  CommandError.
    """
    prefix = b""
    limit: int | None = None
    reverse = keys_only = False
    words = iter(args[2:])
    for word in words:
        name = option(word)
        if name == b"rev":
            reverse = True
        elif name == b"keysonly":
            keys_only = True
        elif name in (b"limit", b"prefix"):
            value = next(words, None)
            if value is None:
                raise CommandError(SYNTAX_ERROR)
            if name == b"prefix":
                prefix = value
            else:
                limit = integer(value)
                if limit < 0:
                    raise CommandError(b"ERR LIMIT is a number of rows, 0 or more")
        else:
            raise CommandError(SYNTAX_ERROR)
    return _Range(_bounds(session, args[0], args[1], prefix), limit, reverse, keys_only)


def range_alone(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Run FERRIS.RANGE outside of EXEC."""
    wanted = _parse(session, args)
    if is_empty(wanted.bounds) or wanted.limit == 0:
        return []
    return Gathering(
        session,
        wanted.bounds,
        limit=wanted.limit,
        reverse=wanted.reverse,
        keys_only=wanted.keys_only,
    ).start()


@data("ferris.range", -3, "readonly", keys=(0, 0, 0), alone=range_alone)
def range_(call: Call) -> Reply:
    """Return rows in the order of their keys."""
    wanted = _parse(call.session, call.args)
    if is_empty(wanted.bounds):
        return []
    return list(
        call.scan(
            *wanted.bounds,
            limit=wanted.limit,
            reverse=wanted.reverse,
            keys_only=wanted.keys_only,
        )
    )


@data("ferris.delrange", -3, "write", keys=(0, 0, 0))
def delrange(call: Call) -> Reply:
    """Remove all keys of a range."""
    start, end, *words = call.args
    if words and (len(words) != 2 or option(words[0]) != b"prefix"):
        raise CommandError(SYNTAX_ERROR)
    bounds = _bounds(call.session, start, end, words[1] if words else b"")
    if not is_empty(bounds):
        call.delete_range(*bounds)
    return OK


@data("ferris.cas", -4, "write denyoom fast")
def cas(call: Call) -> Reply:
    """Set the key to a value, or remove it, if it holds another one, or is absent."""
    key, old, new, *words = call.args
    names = [option(word) for word in words]
    if not set(names) <= {b"absent", b"delete"}:
        raise CommandError(SYNTAX_ERROR)
    if b"absent" in names and old:
        raise CommandError(b"ERR with ABSENT the old value is empty")
    if b"delete" in names and new:
        raise CommandError(b"ERR with DELETE the new value is empty")
    value, expires_us = call.entry(key)
    if value != (None if b"absent" in names else old):
        return 0
    if b"delete" not in names:
        call.put(key, new, expires_us)
    elif value is not None:
        call.delete(key)
    return 1


def _stats(service: Service) -> Reply:
    # Let go first: what asks is not to show among those that pin.
    pin = service.attached.take_pin()
    version: Any = pin.view.page
    pin.release()
    return Verbatim(json.dumps(collect(service.attached, version)).encode())


@control("ferris.stats", 1, "loading stale")
def stats(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Return the figures of the database, as JSON."""
    del args
    service = session.service
    return service.counting.run(lambda: _stats(service))


@control("ferris.durability", -1, "noscript loading stale fast")
def durability(session: Session, args: list[bytes]) -> Reply:
    """Choose how durable this connection's writes are before they are answered."""
    if len(args) > 1:
        raise CommandError(SYNTAX_ERROR)
    if args:
        code = _DURABILITIES.get(option(args[0]))
        if code is None:
            raise CommandError(b"ERR durability is sync or os")
        session.durability = code
    return next(name for name, code in _DURABILITIES.items() if code == session.durability)
