"""Commands on the whole database: compact, checkpoint."""

from __future__ import annotations

import click

from ferrisdb.cli import arguments

_give_up = click.option(
    "--give-up",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Longest time that the work itself may take; otherwise as long as it takes.",
)


@click.command(short_help="Merge what is stored, deletes and all.")
@arguments.directory
@click.option("--start", "first", metavar="KEY", help="First key of the range.")
@click.option("--end", metavar="KEY", help="The range ends before this key.")
@_give_up
@arguments.escape
@arguments.keyspace
@arguments.service
def compact(
    directory: str,
    first: str | None,
    end: str | None,
    give_up: float | None,
    escape: bool,
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    """Merge what DIR stores of a range of keys, or of all, and wait until that is done.

    What was overwritten or deleted gives its space back. The service does so by itself, where
    it pays; this does it at once, at the cost of reading and writing all of the range.
    """
    bounds = arguments.to_bounds(first, end, None, escape)
    with arguments.open_keyspace(directory, keyspace, no_start, timeout) as db:
        db.compact(bounds.get("start"), bounds.get("end"), timeout=give_up)


@click.command(short_help="Make a copy that opens as a database.")
@arguments.directory
@click.argument("target", metavar="TARGET")
@_give_up
@arguments.service
def checkpoint(
    directory: str, target: str, give_up: float | None, no_start: bool, timeout: float
) -> None:
    """Make TARGET, absent or empty, a copy of DIR as it is at one moment.

    Others read and write meanwhile. Tables are linked where TARGET lies on the same file
    system, so the copy takes little space until DIR has changed. TARGET opens as a database of
    its own, with its own settings; it appears under its name once it is complete and on disk.
    """
    with arguments.open_database(directory, no_start, timeout) as db:
        db.checkpoint(target, timeout=give_up)
