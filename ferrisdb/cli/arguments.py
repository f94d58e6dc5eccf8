"""What several commands take: the directory, how to reach the service, bytes as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ferrisdb.cli import text

if TYPE_CHECKING:
    from ferrisdb.database import Database
    from ferrisdb.keyspace import Keyspace

_Command = TypeVar("_Command", bound=Callable[..., Any])

new_directory = click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
"""A directory that may be yet to make."""

directory = click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False)
)
"""A directory that is there: a mistyped name must not become an empty database."""

escape = click.option(
    "--escape", is_flag=True, help=r"Read \t \n \r \\ \xNN in keys and values as escapes."
)

durability = click.option(
    "--durability",
    type=click.Choice(["sync", "os"]),
    default="sync",
    show_default=True,
    help="When a write counts as done: on the disk, or with the operating system.",
)


def service(command: _Command) -> _Command:
    """Add the options that say how to reach the service."""
    no_start = click.option(
        "--no-start",
        is_flag=True,
        help="Fail if no service runs for DIR, instead of starting one that leaves when idle.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0.001, max=86_400),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for the service.",
    )
    return no_start(timeout(command))


keyspace = click.option(
    "--keyspace", default="", metavar="NAME", help="The key space; otherwise the default one."
)


@contextmanager
def open_keyspace(
    directory: str, name: str, no_start: bool, timeout: float, *, create: bool = False
) -> Iterator[Keyspace]:
    """Attach to a directory's service for one of its key spaces, and detach at the end.

    Raises:  KeyspaceDroppedError, it isn't there and `create` is False.
    """
    with open_database(directory, no_start, timeout) as db:
        yield db.keyspace(name, create=create)


def open_database(directory: str, no_start: bool, timeout: float) -> Database:
    """Attach to a directory's service; the caller closes the handle."""
    # Imported here: help and usage errors must not pay for NumPy and the kernel.
    from ferrisdb.database import open_database as attach

    return attach(directory, start=not no_start, timeout=timeout)


def to_bytes(argument: str, escaped: bool) -> bytes:
    """Return the bytes of a key or value given as an argument.

    Raises:  click.UsageError, for an unknown escape.
    """
    try:
        return text.from_argument(argument, escaped)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None


def to_bounds(
    first: str | None, end: str | None, prefix: str | None, escaped: bool
) -> dict[str, bytes]:
    """Return the bounds that were given, by the names that `Database.scan` has for them.

    Raises:  click.UsageError, for an unknown escape, and a prefix beside another bound.
    """
    if prefix is not None and (first is not None or end is not None):
        raise click.UsageError("--prefix is a range of its own: leave --start and --end out")
    return {
        name: to_bytes(bound, escaped)
        for name, bound in (("start", first), ("end", end), ("prefix", prefix))
        if bound is not None
    }
