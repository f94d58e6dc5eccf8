"""Commands on single keys, whatever they hold, and on all of them at once.

DEL UNLINK EXISTS TOUCH TYPE RENAME RENAMENX COPY FLUSHDB FLUSHALL. There is one database, 0; the
named key spaces of FerrisDB are no databases of Redis and are out of these commands' reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferrisdb.resp.arguments import int32, option
from ferrisdb.resp.command import (
    DATABASE_OUT_OF_RANGE,
    NO_SUCH_KEY,
    SYNTAX_ERROR,
    CommandError,
    data,
)
from ferrisdb.resp.replies import OK, Reply, Simple

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call

STRING: Final = Simple(b"string")
NONE: Final = Simple(b"none")


def _delete(call: Call) -> Reply:
    count = 0
    for key in call.args:
        # A key that is named twice is gone the second time.
        if call.get(key) is not None:
            call.delete(key)
            count += 1
    return count


@data("del", -2, "write", keys=(1, -1, 1))
def del_(call: Call) -> Reply:
    """Remove keys; returns how many there were."""
    return _delete(call)


@data("unlink", -2, "write fast", keys=(1, -1, 1))
def unlink(call: Call) -> Reply:
    """Remove keys, as DEL: space is always taken back in the background."""
    return _delete(call)


def _count(call: Call) -> Reply:
    return sum(value is not None for value in call.multi_get(call.args))


@data("exists", -2, "readonly fast", keys=(1, -1, 1))
def exists(call: Call) -> Reply:
    """Return how many of the keys there are, one that is named twice counting twice."""
    return _count(call)


@data("touch", -2, "readonly fast", keys=(1, -1, 1))
def touch(call: Call) -> Reply:
    """Return how many of the keys there are: no access is remembered."""
    return _count(call)


@data("type", 2, "readonly fast")
def type_(call: Call) -> Reply:
    """Return "string", or "none" for an absent key."""
    return NONE if call.get(call.args[0]) is None else STRING


def _rename(call: Call, only_if_absent: bool) -> bool:
    """Give a key another name; tell whether that was done."""
    key, new = call.args
    value, expires_us = call.entry(key)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    if key == new or (only_if_absent and call.get(new) is not None):
        return False
    call.put(new, value, expires_us)
    call.delete(key)
    return True


@data("rename", 3, "write", keys=(1, 2, 1))
def rename(call: Call) -> Reply:
    """Give a key another name, in place of what has it."""
    _rename(call, False)
    return OK


@data("renamenx", 3, "write fast", keys=(1, 2, 1))
def renamenx(call: Call) -> Reply:
    """Give a key another name, if nothing has it; tell whether that was done."""
    return int(_rename(call, True))


@data("copy", -3, "write denyoom", keys=(1, 2, 1))
def copy(call: Call) -> Reply:
    """Copy a key with its expiry; tell whether that was done."""
    key, new, *words = call.args
    replaces = False
    at = 0
    while at < len(words):
        name = option(words[at])
        if name == b"replace":
            replaces = True
        elif name == b"db" and at + 1 < len(words):
            at += 1
            if int32(words[at]) != 0:
                raise CommandError(DATABASE_OUT_OF_RANGE)
        else:
            raise CommandError(SYNTAX_ERROR)
        at += 1
    if key == new:
        raise CommandError(b"ERR source and destination objects are the same")
    value, expires_us = call.entry(key)
    if value is None or (not replaces and call.get(new) is not None):
        return 0
    call.put(new, value, expires_us)
    return 1


def _flush(call: Call) -> Reply:
    if len(call.args) > 1 or (call.args and option(call.args[0]) not in (b"sync", b"async")):
        raise CommandError(SYNTAX_ERROR)
    call.delete_range(None, None)
    call.session.service.reclaim()
    return OK


@data("flushdb", -1, "write", keys=(0, 0, 0))
def flushdb(call: Call) -> Reply:
    """Remove all keys of database 0: one delete of a range, whatever their number."""
    return _flush(call)


@data("flushall", -1, "write", keys=(0, 0, 0))
def flushall(call: Call) -> Reply:
    """Remove all keys, as FLUSHDB: there is one database."""
    return _flush(call)
