"""Commands on the service: TIME LASTSAVE OBJECT MEMORY WAIT WAITAOF DEBUG SHUTDOWN.

WAIT and WAITAOF are barriers of durability: an empty commit by "sync" is durable only if all that
was committed before it is, whoever wrote it. There are no replicas, so none is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.resp.arguments import integer, option, read_integer
from ferrisdb.resp.command import (
    SYNTAX_ERROR,
    CommandError,
    Deferred,
    control,
    data,
    error_line,
    help_lines,
)
from ferrisdb.resp.failures import failure_of_status
from ferrisdb.resp.replies import OK, Failure, Reply
from ferrisdb.resp.threads import later

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call
    from ferrisdb.resp.session import Session

EMBEDDED_BYTES_MAX: Final = 44
"""Longest string that Redis keeps with its object."""

SHARED_INTEGER_COUNT: Final = 10_000
"""Integers from 0 on that Redis has one object for."""

_SHARED_REFCOUNT: Final = (1 << 31) - 1
_ENTRY_BYTES: Final = 48
"""What an entry takes beside key and value in a memtable, about."""

_PAUSE_S_MAX: Final = 86_400.0


@control("time", 1, "loading stale fast")
def time(session: Session, args: list[bytes]) -> Reply:
    """Return the seconds since the epoch, and the microseconds of the current one."""
    del args
    seconds, micros = divmod(session.service.clock.wall_us(), 10**6)
    return [b"%d" % seconds, b"%d" % micros]


@control("lastsave", 1, "loading stale fast")
def lastsave(session: Session, args: list[bytes]) -> Reply:
    """Return when this worker began: nothing is saved apart from being written."""
    del args
    return session.service.started_us // 10**6


# OBJECT and MEMORY


def _encoding(value: bytes) -> bytes:
    if read_integer(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= EMBEDDED_BYTES_MAX else b"raw"


@data("object|encoding", 3, "readonly", keys=(2, 2, 1))
def object_encoding(call: Call) -> Reply:
    """Return how Redis would keep the value if it was set just now."""
    value = call.get(call.args[0])
    return None if value is None else _encoding(value)


@data("object|refcount", 3, "readonly", keys=(2, 2, 1))
def object_refcount(call: Call) -> Reply:
    """Return how many references to the value Redis would have."""
    value = call.get(call.args[0])
    if value is None:
        return None
    number = read_integer(value)
    is_shared = number is not None and 0 <= number < SHARED_INTEGER_COUNT
    return _SHARED_REFCOUNT if is_shared else 1


@data("object|idletime", 3, "readonly", keys=(2, 2, 1))
def object_idletime(call: Call) -> Reply:
    """Return 0: it is not remembered when a key was read."""
    return None if call.get(call.args[0]) is None else 0


@data("object|freq", 3, "readonly", keys=(2, 2, 1))
def object_freq(call: Call) -> Reply:
    """Say that it is not remembered how often a key is read."""
    if call.get(call.args[0]) is None:
        return None
    raise CommandError(
        b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note"
        b" that when switching between policies at runtime LRU and LFU data will take some time"
        b" to adjust."
    )


@control("object|help", 2, "loading stale")
def object_help(session: Session, args: list[bytes]) -> Reply:
    """Return what there is of OBJECT."""
    del session, args
    return help_lines(
        b"OBJECT",
        b"""\
ENCODING <key>
    Return the kind of internal representation used in order to store the value
    associated with a <key>.
FREQ <key>
    Return the access frequency index of the <key>. The returned integer is
    proportional to the logarithm of the recent access frequency of the key.
IDLETIME <key>
    Return the idle time of the <key>, that is the approximated number of
    seconds elapsed since the last access to the key.
REFCOUNT <key>
    Return the number of references of the value associated with the specified
    <key>.""",
    )


@data("memory|usage", -3, "readonly", keys=(2, 2, 1))
def memory_usage(call: Call) -> Reply:
    """Return the bytes that key and value take in a memtable, about."""
    key, *words = call.args
    for at in range(0, len(words), 2):
        if option(words[at]) != b"samples" or at + 1 == len(words):
            raise CommandError(SYNTAX_ERROR)
        if integer(words[at + 1]) < 0:
            raise CommandError(SYNTAX_ERROR)
    value = call.get(key)
    return None if value is None else len(key) + len(value) + _ENTRY_BYTES


@control("memory|help", 2, "loading stale")
def memory_help(session: Session, args: list[bytes]) -> Reply:
    """Return what there is of MEMORY."""
    del session, args
    return help_lines(
        b"MEMORY",
        b"""\
USAGE <key> [SAMPLES <count>]
    Return the bytes that <key> and its value take in a memtable.""",
    )


# WAIT and WAITAOF


class _Barrier(Deferred):
    """Resolved once all that was committed before is durable.

    Shape:   outcome, the reply then.
    """

    __slots__ = ("_outcome",)

    def __init__(self, session: Session, outcome: Reply) -> None:
        super().__init__()
        self._outcome = outcome
        session.service.server.submit(self, BatchBuffer(DEFAULT_PREFIX), layout.DURABILITY_SYNC)

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Take the commit's answer."""
        del seq, applied, fits, result
        self.resolve(Failure(failure_of_status(status)) if status else self._outcome)


def _check_timeout(word: bytes) -> None:
    if integer(word, b"ERR timeout is not an integer or out of range") < 0:
        raise CommandError(b"ERR timeout is negative")


@control("wait", 3, "noscript")
def wait(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Wait until all writes so far are durable; returns the number of replicas, which is 0."""
    integer(args[0])
    _check_timeout(args[1])
    return _Barrier(session, 0)


@control("waitaof", 4, "noscript")
def waitaof(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Wait until all writes so far are durable here; returns 1, and 0 replicas (Redis 7.2)."""
    if not 0 <= integer(args[0]) <= 1:
        raise CommandError(b"ERR value is out of range, value must between 0 and 1")
    if integer(args[1]) < 0:
        raise CommandError(b"ERR value is out of range, must be positive")
    _check_timeout(args[2])
    return _Barrier(session, [1, 0])


# DEBUG and SHUTDOWN


@control("debug", -2, "admin noscript loading stale protected")
def debug(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Do what tests want, if the service's settings allow it: SLEEP."""
    name = option(args[0])
    if name == b"help" and len(args) == 1:
        return help_lines(
            b"DEBUG",
            b"SLEEP <seconds>\n    Answer in <seconds>; others are served meanwhile.",
        )
    if name != b"sleep" or len(args) != 2:
        raise CommandError(
            error_line(
                b"ERR unknown subcommand or wrong number of arguments for '",
                args[0][:128],
                b"'. Try DEBUG HELP.",
            )
        )
    answered = Deferred()
    later(session.service.server.post, _seconds(args[1])).then(lambda _: answered.resolve(OK))
    return answered


def _seconds(word: bytes) -> float:
    # As C's strtod, what is no number is 0.
    try:
        seconds = float(word)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _PAUSE_S_MAX) if seconds == seconds else 0.0  # noqa: PLR0124


@control("shutdown", -1, "admin noscript loading stale no_multi allow_busy")
def shutdown(session: Session, args: list[bytes]) -> Reply | Deferred:
    """End the service cleanly; all that was answered is kept, whatever the options say."""
    names = [option(word) for word in args]
    known = {b"nosave", b"save", b"now", b"force", b"abort"}
    given = set(names)
    if (
        not given <= known
        or (b"abort" in given and len(given) > 1)
        or given >= {b"save", b"nosave"}
    ):
        raise CommandError(SYNTAX_ERROR)
    if b"abort" in given:
        raise CommandError(b"ERR No shutdown in progress.")
    session.service.peers.shut_down()
    # There is no answer but the end of the connection.
    return Deferred()
