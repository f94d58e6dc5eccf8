"""The command that lists key spaces, and drops one."""

from __future__ import annotations

import click

from ferrisdb.cli import arguments
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode


@click.command(short_help="List key spaces, or drop one.")
@arguments.directory
@click.option("--drop", metavar="NAME", help="Remove this key space and all its keys.")
@arguments.service
def keyspaces(directory: str, drop: str | None, no_start: bool, timeout: float) -> None:
    """Print the names of DIR's key spaces, one a line; the default one has none.

    `put` and `import` with --keyspace create them.
    """
    with arguments.open_database(directory, no_start, timeout) as db:
        if drop is None:
            for name in db.keyspaces():
                click.echo(name)
        elif not db.drop_keyspace(drop):
            raise CommandFailure(f"no key space {drop!r} in {directory}", ExitCode.ABSENT)
