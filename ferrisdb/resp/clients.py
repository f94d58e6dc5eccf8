"""CLIENT: what a connection says of itself, what others see of it, and how it is closed.

LIST and KILL are about the connections of all workers. Who is no admin sees those of its own user.
Of tracking, pausing and unblocking there is nothing. CLIENT LIST shows two fields more than
Redis 7.0: lib-name and lib-ver of 7.2, and the durability of the connection's writes.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.kernel import layout
from ferrisdb.resp.arguments import integer, option
from ferrisdb.resp.command import (
    SYNTAX_ERROR,
    CommandError,
    Deferred,
    control,
    error_line,
    help_lines,
)
from ferrisdb.resp.connection import check_name
from ferrisdb.resp.replies import OK, Failure, Reply, Verbatim
from ferrisdb.resp.session import ReplyMode
from ferrisdb.resp.users import DEFAULT

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.session import Session

_KIND_UNIX: Final = 0

_TYPES: Final = (b"normal", b"slave", b"replica", b"pubsub", b"master")
"""The kinds of clients that Redis knows; all of ours are normal ones."""


@dataclass(frozen=True, slots=True)
class ClientFilter:
    """Which connections are meant: those that agree in all that is given.

    Shape:   asker, the id of who asks.
    """

    asker: int
    ids: frozenset[int] | None = None
    address: str | None = None
    local_address: str | None = None
    type: bytes = b"normal"
    user: str | None = None
    skips_asker: bool = False


# What every worker answers


def lines(service: Service, wanted: ClientFilter) -> list[tuple[int, bytes]]:
    """Return id and line of this worker's connections."""
    return [(one.id, line_of(one)) for one in _matching(service, wanted)]


def kill(service: Service, wanted: ClientFilter) -> tuple[int, bool]:
    """Close this worker's connections, but the asker's; returns how many, and if it is meant."""
    found = _matching(service, wanted)
    for session in found:
        if session.id != wanted.asker:
            service.server.close(session.conn, flush=False)
    return len(found), any(session.id == wanted.asker for session in found)


def _matching(service: Service, wanted: ClientFilter) -> list[Session]:
    found = []
    if wanted.type != b"normal":
        return []
    for session in service.all_sessions():
        if wanted.ids is not None and session.id not in wanted.ids:
            continue
        if wanted.skips_asker and session.id == wanted.asker:
            continue
        if wanted.user is not None and user_name(session) != wanted.user:
            continue
        if wanted.address is not None or wanted.local_address is not None:
            remote, local = _addresses(session)
            if wanted.address not in (None, remote) or wanted.local_address not in (None, local):
                continue
        found.append(session)
    return found


# Lines


def user_name(session: Session) -> str:
    """Return the name of a session's user."""
    return DEFAULT if session.user is None else session.user.name


def line_of(session: Session) -> bytes:
    """Return a connection as CLIENT LIST shows it."""
    service = session.service
    figures = service.server.describe(session.conn)
    now_ns = service.clock.monotonic_ns()
    remote, local = _addresses(session)
    durability = "sync" if session.durability == layout.DURABILITY_SYNC else "os"
    output_bytes = figures["output_bytes"]
    fields = {
        "id": session.id,
        "addr": remote,
        "laddr": local,
        "fd": figures["fd"],
        "name": session.name.decode(),
        "age": max(0, now_ns - figures["created_ns"]) // 10**9,
        "idle": max(0, now_ns - figures["active_ns"]) // 10**9,
        "flags": _flags(session),
        "db": 0,
        "sub": 0,
        "psub": 0,
        "ssub": 0,
        "multi": len(session.queue) if session.in_multi else session.executing,
        "qbuf": figures["input_bytes"],
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": sum(len(word) for _, argv in session.queue for word in argv),
        "rbs": output_bytes,
        "rbp": output_bytes,
        "obl": output_bytes,
        "oll": 0,
        "omem": output_bytes,
        "tot-mem": figures["input_bytes"] + output_bytes,
        "events": "rw" if output_bytes else "r",
        "cmd": session.last_command.decode(),
        "user": user_name(session),
        "redir": -1,
        "resp": session.protocol,
        "lib-name": session.lib_name.decode(),
        "lib-ver": session.lib_ver.decode(),
        "durability": durability,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()).encode() + b"\n"


def _flags(session: Session) -> str:
    marks = (
        ("x", session.in_multi or session.executing >= 0),
        ("c", session.is_closing),
        ("U", session.kind == _KIND_UNIX),
        ("e", session.no_evict),
    )
    return "".join(mark for mark, holds in marks if holds) or "N"


def _addresses(session: Session) -> tuple[str, str]:
    """Return the remote and the local address of a connection."""
    if session.kind == _KIND_UNIX:
        path = DIR(session.service.attached.path).fixed(FileKind.SOCKET)
        return f"{path}:0", f"{path}:0"
    fd = session.service.server.describe(session.conn)["fd"]
    try:
        with socket.socket(fileno=os.dup(fd)) as end:
            return _shown(end.getpeername()), _shown(end.getsockname())
    except OSError:
        return "?:0", "?:0"  # as Redis says of who has just gone


def _shown(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# The commands


@control("client|id", 2, "noscript loading stale")
def client_id(session: Session, args: list[bytes]) -> Reply:
    """Return the connection's id, which no other has had."""
    del args
    return session.id


@control("client|getname", 2, "noscript loading stale")
def client_getname(session: Session, args: list[bytes]) -> Reply:
    """Return the connection's name."""
    del args
    return session.name or None


@control("client|setname", 3, "noscript loading stale")
def client_setname(session: Session, args: list[bytes]) -> Reply:
    """Give the connection a name; an empty one takes it away."""
    check_name(args[0])
    session.name = args[0]
    return OK


@control("client|setinfo", 4, "noscript loading stale")
def client_setinfo(session: Session, args: list[bytes]) -> Reply:
    """Note the client library's name or version, as Redis 7.2 does."""
    name, value = option(args[0]), args[1]
    if name not in (b"lib-name", b"lib-ver"):
        raise CommandError(error_line(b"ERR Unrecognized option '", args[0], b"'"))
    if any(not 0x21 <= byte <= 0x7E for byte in value):
        raise CommandError(
            args[0].join([b"ERR ", b" cannot contain spaces, newlines or special characters."])
        )
    if name == b"lib-name":
        session.lib_name = value
    else:
        session.lib_ver = value
    return OK


@control("client|reply", 3, "noscript loading stale")
def client_reply(session: Session, args: list[bytes]) -> Reply:
    """Have replies sent, or not, or not the next one."""
    mode = option(args[0])
    if mode == b"on":
        session.reply_mode = ReplyMode.ON
    elif mode == b"off":
        session.reply_mode = ReplyMode.OFF
    elif mode != b"skip":
        raise CommandError(SYNTAX_ERROR)
    elif session.reply_mode is not ReplyMode.OFF:
        session.reply_mode = ReplyMode.SKIP_NEXT
    return OK


@control("client|no-evict", 3, "admin noscript loading stale")
def client_no_evict(session: Session, args: list[bytes]) -> Reply:
    """Take note that the connection should not be evicted; none is."""
    switch = option(args[0])
    if switch not in (b"on", b"off"):
        raise CommandError(SYNTAX_ERROR)
    session.no_evict = switch == b"on"
    return OK


@control("client|info", 2, "noscript loading stale")
def client_info(session: Session, args: list[bytes]) -> Reply:
    """Return what CLIENT LIST shows of this connection."""
    del args
    return Verbatim(line_of(session))


@control("client|list", -2, "admin noscript loading stale")
def client_list(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Return a line for each connection of all workers, or of those that are meant."""
    wanted = ClientFilter(session.id)
    order: list[int] | None = None
    kind = option(args[0]) if args else b""
    if len(args) == 2 and kind == b"type":
        wanted = replace(wanted, type=_type(args[1]))
    elif len(args) > 1 and kind == b"id":
        order = [integer(word, b"ERR Invalid client ID") for word in args[1:]]
        wanted = replace(wanted, ids=frozenset(order))
    elif args:
        raise CommandError(SYNTAX_ERROR)
    if session.user is not None and not session.user.admin:
        wanted = replace(wanted, user=user_name(session))
    answered = Deferred()

    def show(answers: list[list[tuple[int, bytes]] | None]) -> None:
        found = dict(line for answer in answers for line in answer or ())
        shown = sorted(found) if order is None else [one for one in order if one in found]
        answered.resolve(Verbatim(b"".join(found[one] for one in shown)))

    session.service.peers.ask(("clients", wanted)).then(show)
    return answered


def _type(word: bytes) -> bytes:
    kind = option(word)
    if kind not in _TYPES:
        raise CommandError(error_line(b"ERR Unknown client type '", word, b"'"))
    return kind


@control("client|kill", -3, "admin noscript loading stale")
def client_kill(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Close the connections of all workers that are meant."""
    is_old_form = len(args) == 1
    if is_old_form:
        wanted = ClientFilter(session.id, address=_text(args[0]))
    else:
        wanted = _kill_filter(session, args)
    answered = Deferred()

    def tell(answers: list[tuple[int, bool] | None]) -> None:
        told = [answer for answer in answers if answer is not None]
        count = sum(number for number, _ in told)
        if any(is_meant for _, is_meant in told):
            session.close()
        if is_old_form:
            answered.resolve(OK if count else Failure(b"ERR No such client"))
        else:
            answered.resolve(count)

    session.service.peers.ask(("kill", wanted)).then(tell)
    return answered


def _kill_filter(session: Session, args: list[bytes]) -> ClientFilter:
    """Read the options of CLIENT KILL.

    Raises:  CommandError.
    """
    wanted = ClientFilter(session.id, skips_asker=True)
    for at in range(0, len(args), 2):
        name, rest = option(args[at]), args[at + 1 : at + 2]
        if not rest:
            raise CommandError(SYNTAX_ERROR)
        word = rest[0]
        if name == b"id":
            number = integer(word, b"ERR client-id should be greater than 0")
            if number < 1:
                raise CommandError(b"ERR client-id should be greater than 0")
            wanted = replace(wanted, ids=frozenset([number]))
        elif name == b"type":
            wanted = replace(wanted, type=_type(word))
        elif name == b"addr":
            wanted = replace(wanted, address=_text(word))
        elif name == b"laddr":
            wanted = replace(wanted, local_address=_text(word))
        elif name == b"user":
            known = session.service.authentication.users.by_name
            if _text(word) != DEFAULT and _text(word) not in known:
                raise CommandError(error_line(b"ERR No such user '", word, b"'"))
            wanted = replace(wanted, user=_text(word))
        elif name == b"skipme" and option(word) in (b"yes", b"no"):
            wanted = replace(wanted, skips_asker=option(word) == b"yes")
        else:
            raise CommandError(SYNTAX_ERROR)
    return wanted


def _text(word: bytes) -> str:
    return word.partition(b"\0")[0].decode("utf-8", "replace")


@control("client|help", 2, "loading stale")
def client_help(session: Session, args: list[bytes]) -> Reply:
    """Return what there is of CLIENT."""
    del session, args
    return help_lines(
        b"CLIENT",
        b"""\
GETNAME
    Return the name of the current connection.
ID
    Return the ID of the current connection.
INFO
    Return information about the current client connection.
KILL <ip:port>
    Kill connection made from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Kill connections. Options are:
    * ADDR (<ip:port>|<unixsocket>:0)
    * LADDR (<ip:port>|<unixsocket>:0)
    * ID <client-id>
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
    * USER <username>
    * SKIPME (YES|NO)
LIST [TYPE <type> | ID <client-id> [<client-id> ...]]
    Return information about client connections.
REPLY (ON|OFF|SKIP)
    Control the replies sent to the current connection.
SETINFO (LIB-NAME|LIB-VER) <text>
    Tell the name or the version of the client's library.
SETNAME <name>
    Assign the name <name> to the current connection.
NO-EVICT (ON|OFF)
    Accepted, without effect: no connection is evicted.""",
    )
