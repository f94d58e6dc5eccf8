"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

EXEC runs what was queued in one transaction: it reads one moment, and is committed whole. A
command that fails in it is answered with its error, and the others stand, as in Redis. A conflict
on keys that are not watched is run again; a watched key that has changed makes EXEC answer null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrisdb.resp.command import CommandError, Deferred, control
from ferrisdb.resp.execution import Exec
from ferrisdb.resp.replies import OK, Reply
from ferrisdb.resp.watch import look

if TYPE_CHECKING:
    from ferrisdb.resp.session import Session


@control("multi", 1, "noscript loading stale fast allow_busy")
def multi(session: Session, args: list[bytes]) -> Reply:
    """Begin to queue commands."""
    del args
    if session.in_multi:
        raise CommandError(b"ERR MULTI calls can not be nested")
    session.in_multi = True
    return OK


@control("exec", 1, "noscript loading stale skip_slowlog")
def execute(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Execute what was queued since MULTI."""
    del args
    if not session.in_multi:
        raise CommandError(b"ERR EXEC without MULTI")
    queue, watched, is_dirty = session.queue, session.watched, session.is_dirty
    session.discard()
    if is_dirty:
        raise CommandError(b"EXECABORT Transaction discarded because of previous errors.")
    return Exec(session, queue, watched).start()


@control("discard", 1, "noscript loading stale fast allow_busy")
def discard(session: Session, args: list[bytes]) -> Reply:
    """Forget what was queued since MULTI, and what is watched."""
    del args
    if not session.in_multi:
        raise CommandError(b"ERR DISCARD without MULTI")
    session.discard()
    return OK


@control("watch", -2, "noscript loading stale fast allow_busy", keys=(1, -1, 1))
def watch(session: Session, args: list[bytes]) -> Reply:
    """Have the next EXEC answer null if one of the keys changes until then."""
    if session.in_multi:
        raise CommandError(b"ERR WATCH inside MULTI is not allowed")
    # A key that is watched already stays watched from then on.
    session.watched = look(session.service, args) | session.watched
    return OK


@control("unwatch", 1, "noscript loading stale fast allow_busy")
def unwatch(session: Session, args: list[bytes]) -> Reply:
    """Watch nothing any more."""
    del args
    session.watched = {}
    return OK
