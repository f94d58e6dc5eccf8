"""The registry of commands, and how one is declared.

A data command reads and writes keys through a `Call`, and may be run again from the start when its
commit meets a conflict; so it has no effect but through its call. A control command changes its
session or the service, and is run once, also within EXEC.

    @data("getdel", 2, "write fast", keys=(1, 1, 1))
    def getdel(call: Call) -> Reply: ...

    @control("client|setname", 3, "noscript loading stale")
    def client_setname(session: Session, args: list[bytes]) -> Reply: ...

`args` never has the command's name in it, nor a subcommand's. The arity counts all words, as in
Redis: negative is a minimum. The positions of keys count all words, too: 1 is the first behind
the command's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ferrisdb.resp.replies import Reply, Simple

if TYPE_CHECKING:
    from ferrisdb.resp.call import Call
    from ferrisdb.resp.session import Session

SYNTAX_ERROR: Final = b"ERR syntax error"
NOT_AN_INTEGER: Final = b"ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = b"ERR value is not a valid float"
NO_SUCH_KEY: Final = b"ERR no such key"
TOO_LONG: Final = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
NO_AUTH: Final = b"NOAUTH Authentication required."
DATABASE_OUT_OF_RANGE: Final = b"ERR DB index is out of range"

_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


class CommandError(Exception):
    """What a command answers instead of a reply; what it wrote is not written.

    Shape:   text, the whole error line without its `-`.
    """

    def __init__(self, text: bytes | str) -> None:
        super().__init__(text)
        self.text = text.encode() if isinstance(text, str) else text


def error_line(before: bytes, word: bytes, behind: bytes = b"") -> bytes:
    """Return an error that repeats a word of the client's, as C prints it: up to a zero byte."""
    return (before + word.partition(b"\0")[0] + behind).translate(_LINE_BREAKS)


def help_lines(name: bytes, text: bytes) -> Reply:
    """Return what a container's HELP answers: a status line for each line of a text."""
    lines = [
        b"%b <subcommand> [<arg> [value] [opt] ...]. Subcommands are:" % name,
        *text.split(b"\n"),
        b"HELP",
        b"    Prints this help.",
    ]
    return [Simple(line) for line in lines]


class Deferred:
    """A reply that comes later: the connection's next commands wait for it.

    `resolve` is to be called once, in the loop's thread (`server.post` leads there).
    """

    __slots__ = ("_then", "is_resolved", "reply")

    def __init__(self) -> None:
        self._then: Callable[[Reply], None] | None = None
        self.is_resolved = False
        self.reply: Reply = None

    def resolve(self, reply: Reply) -> None:
        """Give the reply; a `Failure` is one, too."""
        assert not self.is_resolved, "one command has one reply"
        self.is_resolved = True
        self.reply = reply
        if self._then is not None:
            self._then(reply)

    def then(self, fn: Callable[[Reply], None]) -> None:
        """Have `fn` called with the reply, at once if there is one."""
        if self.is_resolved:
            fn(self.reply)
        else:
            self._then = fn


DataHandler: TypeAlias = "Callable[[Call], Reply]"
ControlHandler: TypeAlias = "Callable[[Session, list[bytes]], Reply | Deferred]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or one subcommand of a container.

    Shape:   name, lower case, "client|setname" of a subcommand; arity and key positions, see
             the module; subcommands, of a container, by their own names.
    """

    name: bytes
    arity: int
    flags: frozenset[str]
    first_key: int
    last_key: int
    key_step: int
    handler: Any
    is_data: bool
    subcommands: dict[bytes, Command] = field(default_factory=dict)
    #: How many words of a request are its name.
    name_words: int = 1
    is_write: bool = False
    #: Within MULTI it is executed and not queued.
    is_immediate: bool = False
    #: A data command's way outside of EXEC: a control handler that may take its time.
    alone: Any = None

    def takes(self, count: int) -> bool:
        """Tell whether a request of so many words has the right number of them."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def keys(self, argv: list[bytes]) -> list[bytes]:
        """Return the keys that a request names."""
        if not self.first_key:
            return []
        last = self.last_key if self.last_key >= 0 else len(argv) + self.last_key
        return argv[self.first_key : last + 1 : self.key_step]


COMMANDS: dict[bytes, Command] = {}
"""All commands by their names; full once `ferrisdb.resp.all_commands` is imported."""

_IMMEDIATE: Final = frozenset([b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"])


def data(
    name: str,
    arity: int,
    flags: str,
    keys: tuple[int, int, int] = (1, 1, 1),
    *,
    alone: ControlHandler | None = None,
) -> Callable[[DataHandler], DataHandler]:
    """Declare a data command, which "write" among its flags lets write.

    Shape:   alone, what runs in its place outside of EXEC, with a session and no transaction: for
             what reads too much to do it at once.
    """

    def declare(handler: DataHandler) -> DataHandler:
        _register(name, arity, flags, keys, handler, True, alone)
        return handler

    return declare


def control(
    name: str, arity: int, flags: str, keys: tuple[int, int, int] = (0, 0, 0)
) -> Callable[[ControlHandler], ControlHandler]:
    """Declare a control command."""

    def declare(handler: ControlHandler) -> ControlHandler:
        _register(name, arity, flags, keys, handler, False)
        return handler

    return declare


def _register(
    name: str,
    arity: int,
    flags: str,
    keys: tuple[int, int, int],
    handler: Any,
    is_data: bool,
    alone: ControlHandler | None = None,
) -> None:
    full = name.encode()
    container, _, sub = full.partition(b"|")
    words = frozenset(flags.split())
    command = Command(
        full,
        arity,
        words,
        *keys,
        handler,
        is_data,
        name_words=2 if sub else 1,
        is_write="write" in words,
        is_immediate=full in _IMMEDIATE,
        alone=alone,
    )
    if not sub:
        held = COMMANDS.setdefault(full, command)
    else:
        # Redis's containers take two words at least, and have no keys of their own.
        outer = Command(container, -2, frozenset(), 0, 0, 0, None, False)
        held = COMMANDS.setdefault(container, outer).subcommands.setdefault(sub, command)
    assert held is command, f"{name} is declared twice"
