"""Commands on the connection itself: PING ECHO SELECT QUIT RESET AUTH HELLO.

HELLO says "redis" and REDIS_VERSION, whose protocol and commands these are, because clients decide
by it what they may send; INFO has FerrisDB's own version.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ferrisdb.resp.arguments import int32, integer, option
from ferrisdb.resp.authentication import WRONG_PASSWORD
from ferrisdb.resp.command import (
    DATABASE_OUT_OF_RANGE,
    SYNTAX_ERROR,
    CommandError,
    Deferred,
    control,
    error_line,
)
from ferrisdb.resp.replies import OK, Failure, Reply, Simple
from ferrisdb.resp.session import ReplyMode
from ferrisdb.resp.users import DEFAULT, User

if TYPE_CHECKING:
    from ferrisdb.resp.session import Session

REDIS_VERSION: Final = b"7.0.15"

_PONG: Final = Simple(b"PONG")
_RESET: Final = Simple(b"RESET")
_BAD_NAME: Final = b"ERR Client names cannot contain spaces, newlines or special characters."
_HELLO_NEEDS_AUTH: Final = (
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH"
    b" <user> <pass> option can be used to authenticate the client and select the RESP protocol"
    b" version at the same time"
)


@control("ping", -1, "fast")
def ping(session: Session, args: list[bytes]) -> Reply:
    """Return PONG, or the argument."""
    del session
    if len(args) > 1:
        raise CommandError(b"ERR wrong number of arguments for 'ping' command")
    return args[0] if args else _PONG


@control("echo", 2, "loading stale fast")
def echo(session: Session, args: list[bytes]) -> Reply:
    """Return the argument."""
    del session
    return args[0]


@control("select", 2, "loading stale fast")
def select(session: Session, args: list[bytes]) -> Reply:
    """Take database 0, the only one."""
    del session
    if int32(args[0]) != 0:
        raise CommandError(DATABASE_OUT_OF_RANGE)
    return OK


@control("quit", -1, "noscript loading stale fast no_auth allow_busy")
def quit_(session: Session, args: list[bytes]) -> Reply:
    """Close the connection behind the answer."""
    del args
    session.close()
    return OK


@control("reset", 1, "noscript loading stale fast no_auth allow_busy")
def reset(session: Session, args: list[bytes]) -> Reply:
    """Make the connection as it was when it began."""
    del args
    session.discard()
    session.protocol = 2
    session.name = b""
    session.reply_mode = ReplyMode.ON
    session.durability = session.service.durability
    session.service.start_over(session)
    return _RESET


# AUTH


def _admit(session: Session, user: User) -> None:
    session.user = user
    session.authenticated = True
    session.may_differ = True


@control("auth", -2, "noscript loading stale fast no_auth allow_busy")
def auth(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Become a user by its password."""
    if len(args) > 2:
        raise CommandError(SYNTAX_ERROR)
    service = session.service
    service.reload()
    if len(args) == 1:
        service.authentication.require_password_of_default()
        args = [DEFAULT.encode(), *args]
    answered = Deferred()

    def decide(user: Any) -> None:
        if user is None:
            answered.resolve(Failure(WRONG_PASSWORD))
        elif isinstance(user, Failure):
            answered.resolve(user)
        else:
            _admit(session, user)
            answered.resolve(OK)

    service.authentication.verify(*args).then(decide)
    return answered


# HELLO


def check_name(name: bytes) -> None:
    """Raise CommandError unless a connection may have this name: CLIENT LIST is split by spaces."""
    if any(not 0x21 <= byte <= 0x7E for byte in name):
        raise CommandError(_BAD_NAME)


@control("hello", -1, "noscript loading stale fast no_auth allow_busy")
def hello(session: Session, args: list[bytes]) -> Reply | Deferred:
    """Agree about the protocol, with AUTH and a name at the same time if wanted."""
    protocol = 0
    if args:
        protocol = integer(args[0], b"ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError(b"NOPROTO unsupported protocol version")
    return _Hello(session, protocol, args[1:]).go_on(0)


class _Hello(Deferred):
    """A HELLO whose options are followed one behind the other; AUTH takes its time."""

    __slots__ = ("_protocol", "_session", "_words")

    def __init__(self, session: Session, protocol: int, words: list[bytes]) -> None:
        super().__init__()
        self._session = session
        self._protocol = protocol
        self._words = words

    def go_on(self, at: int) -> Deferred:
        """Follow the options from one of them on."""
        try:
            self._follow(at)
        except CommandError as error:
            self.resolve(Failure(error.text))
        return self

    def _follow(self, at: int) -> None:
        session, words = self._session, self._words
        while at < len(words):
            name, left = option(words[at]), len(words) - at - 1
            if name == b"auth" and left >= 2:
                session.service.reload()
                verified = session.service.authentication.verify(*words[at + 1 : at + 3])
                verified.then(partial(self._verified, at + 3))
                return
            if name == b"setname" and left >= 1:
                check_name(words[at + 1])
                session.name = words[at + 1]
                at += 2
            else:
                raise CommandError(
                    error_line(b"ERR Syntax error in HELLO option '", words[at], b"'")
                )
        if not session.authenticated:
            raise CommandError(_HELLO_NEEDS_AUTH)
        if self._protocol:
            session.protocol = self._protocol
        self.resolve(_greeting(session))

    def _verified(self, behind: int, user: Any) -> None:
        if user is None:
            self.resolve(Failure(WRONG_PASSWORD))
        elif isinstance(user, Failure):
            self.resolve(user)
        else:
            _admit(self._session, user)
            self.go_on(behind)


def _greeting(session: Session) -> Reply:
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION,
        b"proto": session.protocol,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
