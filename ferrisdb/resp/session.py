"""One client's connection: its state, and the way of a command from its words to its reply.

S1  Commands of a connection run one behind the other: what is deferred blocks what follows it.
S2  What a command is refused for is found in Redis's order: unknown, number of words,
    authentication, not within MULTI, permission. A refusal within MULTI makes EXEC fail.
S3  The kernel may execute its hot commands itself only while `is_fast` says so; it is told of a
    change before the reply goes out that the change belongs to.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from ferrisdb.errors import Error
from ferrisdb.resp.command import COMMANDS, NO_AUTH, Command, CommandError, Deferred
from ferrisdb.resp.execution import Single, read
from ferrisdb.resp.failures import failure_of
from ferrisdb.resp.replies import QUEUED, Failure, Reply, encode

if TYPE_CHECKING:
    from ferrisdb.resp.service import Service
    from ferrisdb.resp.watch import Watch

_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")
_WORDS_SHOWN: Final = 128
_PROTECTED: Final = (
    b'ERR %b command not allowed. If the enable-debug-command option is set to "local", you can'
    b" run it from a local connection, otherwise you need to set this option in the configuration"
    b" file, and then restart the server."
)


class ReplyMode(IntEnum):
    """What CLIENT REPLY has asked for."""

    ON = 0
    OFF = 1
    #: Behind CLIENT REPLY SKIP, whose own reply is left out.
    SKIP_NEXT = 2
    #: The next reply is left out.
    SKIP = 3


class Permissions(Protocol):
    """What a session asks its user."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def admin(self) -> bool:
        """Whether it may see and do what concerns others."""

    @property
    def key_prefix(self) -> bytes:
        """What every key that it may name begins with."""

    def refusal(self, command: Command, argv: list[bytes]) -> bytes | None:
        """Return why the user may not run a command, as NOPERM says it; None: it may."""

    @property
    def may_all(self) -> bool:
        """Whether it may run every command on every key."""


class Session:
    """One connection that has sent a command.

    Owner:   its worker's loop.
    """

    __slots__ = (
        "authenticated", "configured", "conn", "created_us", "durability", "executing", "id",
        "in_multi", "is_closed", "is_closing", "is_dirty", "kind", "last_command", "lib_name",
        "lib_ver", "may_differ", "name", "no_evict", "protocol", "queue", "reply_mode", "service",
        "user", "watched",
    )  # fmt: skip

    def __init__(self, service: Service, conn: int, kind: int) -> None:
        self.service = service
        self.conn = conn
        #: Of socket: unix, TCP, TLS.
        self.kind = kind
        #: Unique over all workers of the service.
        self.id = service.next_session_id()
        self.name = b""
        self.lib_name = b""
        self.lib_ver = b""
        #: None: may do everything.
        self.user: Permissions | None = None
        self.authenticated = True
        self.protocol = 2
        self.durability = service.durability
        self.reply_mode = ReplyMode.ON
        self.in_multi = False
        #: How many commands EXEC is executing just now; -1: it is not.
        self.executing = -1
        #: A command was refused since MULTI.
        self.is_dirty = False
        self.queue: list[tuple[Command, list[bytes]]] = []
        self.watched: dict[bytes, Watch] = {}
        self.is_closed = False
        #: It is to be closed behind the reply that goes out now: nothing more is executed.
        self.is_closing = False
        #: The name of what was executed last, as CLIENT LIST shows it.
        self.last_command = b"NULL"
        #: What CLIENT NO-EVICT was told; nobody is evicted.
        self.no_evict = False
        #: What the kernel was told last (S3), and whether that may be out of date.
        self.configured: tuple[Any, ...] = ()
        self.may_differ = True
        self.created_us = service.clock.wall_us()

    # Commands

    def execute(self, argv: list[bytes]) -> bytes | None:
        """Execute a command; returns its encoded reply, None if it comes later."""
        reply: Any
        if self.is_closing:
            return b""
        try:
            command = self._admitted(argv)
            if self.in_multi and not command.is_immediate:
                self.queue.append((command, argv))
                reply = QUEUED
            elif command.alone is not None:
                reply = command.alone(self, argv[command.name_words :])
            elif command.is_data:
                args = argv[command.name_words :]
                if command.is_write:
                    reply = Single(self, command, args).start()
                else:
                    reply = read(self, command, args)
            else:
                self.may_differ = True
                reply = command.handler(self, argv[command.name_words :])
        except (CommandError, Error) as error:
            reply = Failure(failure_of(error))
        if isinstance(reply, Deferred):
            if not reply.is_resolved:
                reply.then(self._answer_later)
                return None
            reply = reply.reply
        return self._answer(reply)

    def _answer_later(self, reply: Reply) -> None:
        if self.is_closed:
            return
        self.service.server.reply(self.conn, self._answer(reply))

    def _answer(self, reply: Reply) -> bytes:
        """Encode a command's reply, unless CLIENT REPLY leaves it out."""
        if self.reply_mode is ReplyMode.ON:
            encoded = encode(reply, self.protocol)
        else:
            encoded = b""
            self.may_differ = True
            if self.reply_mode is ReplyMode.SKIP_NEXT:
                self.reply_mode = ReplyMode.SKIP
            elif self.reply_mode is ReplyMode.SKIP:
                self.reply_mode = ReplyMode.ON
        if self.may_differ:
            self.configure()
        return encoded

    def configure(self) -> None:
        """Tell the kernel what it may do for this connection, if that has changed (S3)."""
        self.may_differ = False
        wanted = (self.is_fast(), self.protocol, self.durability, self.authenticated)
        if wanted != self.configured:
            self.configured = wanted
            fast, protocol, durability, authenticated = wanted
            self.service.server.configure(
                self.conn,
                fast=fast,
                protocol=protocol,
                durability=durability,
                authenticated=authenticated,
            )

    def is_fast(self) -> bool:
        """Tell whether the kernel may execute its hot commands for this connection by itself."""
        return (
            self.authenticated
            and not self.in_multi
            and not self.is_closing
            and self.reply_mode is ReplyMode.ON
            and (self.user is None or self.user.may_all)
        )

    # What a command is refused for (S2)

    def _admitted(self, argv: list[bytes]) -> Command:
        """Return the command that a request names.

        Raises:  CommandError, it is refused.
        """
        command = COMMANDS.get(argv[0].lower())
        try:
            command = _found(command, argv)
            self.last_command = command.name
            if "protected" in command.flags and not self.service.settings.debug_commands:
                raise CommandError(_PROTECTED % command.name.upper())
            if not self.authenticated and "no_auth" not in command.flags:
                raise CommandError(NO_AUTH)
            if self.in_multi and "no_multi" in command.flags:
                raise CommandError(b"ERR Command not allowed inside a transaction")
            if self.user is not None and (why := self.user.refusal(command, argv)) is not None:
                raise CommandError(b"NOPERM " + why)
        except CommandError as error:
            if argv[0].lower() == b"exec":
                self.discard()
                text = error.text.removeprefix(b"ERR ")
                raise CommandError(b"EXECABORT Transaction discarded because of: " + text) from None
            if self.in_multi:
                self.is_dirty = True
            raise
        return command

    def close(self) -> None:
        """Close the connection behind the reply that goes out now."""
        self.is_closing = self.may_differ = True
        server = self.service.server
        server.post(lambda: server.close(self.conn, flush=True))

    # Transactions

    def discard(self) -> None:
        """End MULTI without executing anything, and watch nothing any more."""
        self.in_multi = False
        self.is_dirty = False
        self.queue = []
        self.watched = {}


def _found(command: Command | None, argv: list[bytes]) -> Command:
    """Return the command or subcommand, once its number of words is right."""
    if command is None:
        raise CommandError(_unknown(argv))
    if command.subcommands and len(argv) > 1:
        inner = command.subcommands.get(argv[1].lower())
        if inner is None:
            raise CommandError(
                _line(
                    b"ERR unknown subcommand '%b'. Try %b HELP."
                    % (_shown(argv[1]), command.name.upper())
                )
            )
        command = inner
    if not command.takes(len(argv)):
        raise CommandError(b"ERR wrong number of arguments for '%b' command" % command.name)
    return command


def _unknown(argv: list[bytes]) -> bytes:
    args = b""
    for arg in argv[1:]:
        if len(args) >= _WORDS_SHOWN:
            break
        args += b"'%b' " % _shown(arg, _WORDS_SHOWN - len(args))
    return _line(
        b"ERR unknown command '%b', with args beginning with: %b" % (_shown(argv[0]), args)
    )


def _shown(word: bytes, chars: int = _WORDS_SHOWN) -> bytes:
    # As C prints it: up to a zero byte.
    return word.partition(b"\0")[0][:chars]


def _line(text: bytes) -> bytes:
    return text.translate(_LINE_BREAKS)
