"""The command that prints keys in order."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from ferrisdb.cli import arguments, text

WRITE_BYTES = 1 << 16
"""Rows are written together until they are this long: one system call for hundreds of rows."""


@click.command()
@arguments.directory
@click.option("--start", "first", metavar="KEY", help="First key of the range.")
@click.option("--end", metavar="KEY", help="The range ends before this key.")
@click.option("--prefix", metavar="KEY", help="The keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N rows.")
@click.option("--reverse", is_flag=True, help="Print the last key of the range first.")
@click.option("--keys-only", is_flag=True, help="Print no values.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(text.FORMATTERS)),
    default="tsv",
    show_default=True,
    help="How to print a row; `import` reads tsv and jsonl.",
)
@arguments.escape
@arguments.service
def scan(
    directory: str,
    first: str | None,
    end: str | None,
    prefix: str | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
    form: str,
    escape: bool,
    no_start: bool,
    timeout: float,
) -> None:
    r"""Print keys and values in key order, as they were at one moment.

    A row of tsv is key, tab, value; tab, newline, carriage return and backslash inside them
    are printed as \t \n \r \\.
    """
    if prefix is not None and (first is not None or end is not None):
        raise click.UsageError("--prefix is a range of its own: leave --start and --end out")
    bounds: dict[str, Any] = {
        name: arguments.to_bytes(bound, escape)
        for name, bound in (("start", first), ("end", end), ("prefix", prefix))
        if bound is not None
    }
    to_line = text.FORMATTERS[form]
    with arguments.open_database(directory, no_start, timeout) as db:
        if keys_only:
            keys = db.scan(**bounds, limit=limit, reverse=reverse, keys_only=True)
            _print(to_line(key, None) for key in keys)
        else:
            rows = db.scan(**bounds, limit=limit, reverse=reverse)
            _print(to_line(key, value) for key, value in rows)


def _print(lines: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    waiting = bytearray()
    for line in lines:
        waiting += line
        if len(waiting) >= WRITE_BYTES:
            out.write(waiting)
            waiting.clear()
    out.write(waiting)
    out.flush()
