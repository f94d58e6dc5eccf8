"""COMMAND: what commands there are, told in Redis's form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ferrisdb.resp.arguments import option
from ferrisdb.resp.command import COMMANDS, SYNTAX_ERROR, Command, CommandError, control, help_lines
from ferrisdb.resp.command_table import CATEGORIES, FACTS
from ferrisdb.resp.glob import matcher
from ferrisdb.resp.replies import Members, Reply, Simple

if TYPE_CHECKING:
    from ferrisdb.resp.session import Session

_FLAGS: Final = (
    "write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking", "loading",
    "stale", "skip_monitor", "skip_slowlog", "asking", "fast", "no_auth", "no_mandatory_keys",
    "no_async_loading", "no_multi", "movablekeys", "allow_busy",
)  # fmt: skip
"""The flags that are told, in Redis's order; others are our own."""


def _lookup(name: bytes) -> Command | None:
    """Return a command by its full name, `container|subcommand` for one of a container."""
    container, _, sub = name.lower().partition(b"|")
    command = COMMANDS.get(container)
    if command is None or not sub:
        return command
    return command.subcommands.get(sub)


def _all() -> Iterator[Command]:
    """Yield every command, subcommands behind their container."""
    for command in COMMANDS.values():
        yield command
        yield from command.subcommands.values()


def _categories(command: Command) -> set[str]:
    """Return the categories of ACL that a command is in."""
    flags = command.flags
    found = {"fast" if "fast" in flags else "slow"}
    if "write" in flags:
        found.add("write")
    if "readonly" in flags:
        found.add("read")
    if "admin" in flags:
        found |= {"admin", "dangerous"}
    fact = FACTS.get(command.name)
    return found | fact.categories if fact is not None else found


def _statuses(words: Iterator[str] | tuple[str, ...]) -> Members:
    return Members([Simple(word.encode()) for word in words])


def _info(command: Command | None) -> Reply:
    """Return what COMMAND INFO tells of one command."""
    if command is None:
        return None
    categories = _categories(command)
    fact = FACTS.get(command.name)
    tips = () if fact is None else fact.tips
    return [
        command.name,
        command.arity,
        _statuses(flag for flag in _FLAGS if flag in command.flags),
        command.first_key,
        command.last_key,
        command.key_step,
        _statuses(f"@{name}" for name in CATEGORIES if name in categories),
        Members([tip.encode() for tip in tips]),
        Members(_key_specs(command)),
        _subcommands(command),
    ]


def _subcommands(command: Command) -> Reply:
    if not command.subcommands:
        return Members([])
    return [_info(inner) for inner in command.subcommands.values()]


def _key_specs(command: Command) -> list[Reply]:
    if not command.first_key:
        return []
    fact = FACTS.get(command.name)
    groups = fact.key_flags if fact is not None and fact.key_flags else (("RW",),)
    if len(groups) > 1:
        # Each key on its own, for each is used in another way.
        return [_key_spec(flags, command.first_key + at, 0, 1) for at, flags in enumerate(groups)]
    last = command.last_key
    if last > 0:
        last -= command.first_key
    return [_key_spec(groups[0], command.first_key, last, command.key_step)]


def _key_spec(flags: tuple[str, ...], first: int, last: int, step: int) -> Reply:
    return {
        b"flags": _statuses(flags),
        b"begin_search": {b"type": b"index", b"spec": {b"index": first}},
        b"find_keys": {
            b"type": b"range",
            b"spec": {b"lastkey": last, b"keystep": step, b"limit": 0},
        },
    }


def _docs(command: Command) -> Reply:
    """Return what COMMAND DOCS tells of one command: its summary is its handler's first line."""
    found: dict[bytes, Reply] = {}
    text = getattr(command.handler, "__doc__", None)
    if text:
        found[b"summary"] = text.splitlines()[0].encode()
    elif command.subcommands:
        found[b"summary"] = b"A container of commands."
    fact = FACTS.get(command.name)
    if fact is not None:
        found[b"since"] = fact.since.encode()
        found[b"group"] = fact.group.encode()
    else:
        found[b"group"] = b"generic"
    if command.subcommands:
        found[b"subcommands"] = {one.name: _docs(one) for one in command.subcommands.values()}
    return found


@control("command", -1, "loading stale")
def command_(session: Session, args: list[bytes]) -> Reply:
    """Return what there is to know of all commands."""
    del session, args
    return [_info(command) for command in COMMANDS.values()]


@control("command|count", 2, "loading stale")
def command_count(session: Session, args: list[bytes]) -> Reply:
    """Return how many commands there are."""
    del session, args
    return len(COMMANDS)


@control("command|info", -2, "loading stale")
def command_info(session: Session, args: list[bytes]) -> Reply:
    """Return what there is to know of some commands, null for each that isn't one."""
    if not args:
        return command_(session, args)
    return [_info(_lookup(name)) for name in args]


@control("command|docs", -2, "loading stale")
def command_docs(session: Session, args: list[bytes]) -> Reply:
    """Return what commands are for."""
    del session
    if not args:
        return {command.name: _docs(command) for command in COMMANDS.values()}
    found = [command for name in args if (command := _lookup(name)) is not None]
    return {command.name: _docs(command) for command in found}


@control("command|list", -2, "loading stale")
def command_list(session: Session, args: list[bytes]) -> Reply:
    """Return the names of all commands, or of those that a filter leaves."""
    del session
    if not args:
        return [command.name for command in _all()]
    if len(args) != 3 or option(args[0]) != b"filterby":
        raise CommandError(SYNTAX_ERROR)
    kind, value = option(args[1]), args[2]
    if kind == b"module":
        return []
    if kind == b"aclcat":
        category = option(value).decode("latin-1")
        return [command.name for command in _all() if category in _categories(command)]
    if kind == b"pattern":
        matches = matcher(value, ignore_case=True)
        return [command.name for command in _all() if matches(command.name)]
    raise CommandError(SYNTAX_ERROR)


def _named(args: list[bytes]) -> Command:
    """Return the command that a request's words name, once it has keys and their number is right.

    Raises:  CommandError.
    """
    command = COMMANDS.get(args[0].lower())
    if command is not None and command.subcommands and len(args) > 1:
        command = command.subcommands.get(args[1].lower())
    if command is None:
        raise CommandError(b"ERR Invalid command specified")
    if not command.first_key:
        raise CommandError(b"ERR The command has no key arguments")
    if not command.takes(len(args)):
        raise CommandError(b"ERR Invalid number of arguments specified for command")
    return command


@control("command|getkeys", -4, "loading stale")
def command_getkeys(session: Session, args: list[bytes]) -> Reply:
    """Return the keys that a request names."""
    del session
    return _named(args).keys(args)


@control("command|getkeysandflags", -4, "loading stale")
def command_getkeysandflags(session: Session, args: list[bytes]) -> Reply:
    """Return the keys that a request names, each with what is done to it."""
    del session
    command = _named(args)
    fact = FACTS.get(command.name)
    groups = fact.key_flags if fact is not None and fact.key_flags else (("RW",),)
    if command.name == b"set":
        reads = any(option(word) == b"get" for word in args[3:])
        groups = (("RW", "access", "update"),) if reads else (("OW", "update"),)
    return [
        [key, _statuses(groups[min(at, len(groups) - 1)])]
        for at, key in enumerate(command.keys(args))
    ]


@control("command|help", 2, "loading stale")
def command_help(session: Session, args: list[bytes]) -> Reply:
    """Return what there is of COMMAND."""
    del session, args
    return help_lines(
        b"COMMAND",
        b"""\
(no subcommand)
    Return details about all commands.
COUNT
    Return the total number of commands.
LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]
    Return the names of commands.
INFO [<command-name> ...]
    Return details about the commands, about all if none is given.
DOCS [<command-name> ...]
    Return what the commands are for, all if none is given.
GETKEYS <full-command>
    Return the keys from a full command.
GETKEYSANDFLAGS <full-command>
    Return the keys and the access flags from a full command.""",
    )
