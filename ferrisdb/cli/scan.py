"""The command that prints keys in order."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, BinaryIO

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
@arguments.keyspace
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
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    r"""Print keys and values in key order, as they were at one moment.

    A row of tsv is key, tab, value; tab, newline, carriage return and backslash inside them
    are printed as \t \n \r \\.
    """
    bounds: dict[str, Any] = arguments.to_bounds(first, end, prefix, escape)
    to_line = text.FORMATTERS[form]
    with arguments.open_keyspace(directory, keyspace, no_start, timeout) as db:
        if keys_only:
            keys = db.scan(**bounds, limit=limit, reverse=reverse, keys_only=True)
            write_lines(sys.stdout.buffer, (to_line(key, None) for key in keys))
        else:
            rows = db.scan(**bounds, limit=limit, reverse=reverse)
            write_lines(sys.stdout.buffer, (to_line(key, value) for key, value in rows))


def write_lines(out: BinaryIO, lines: Iterable[bytes]) -> int:
    """Write lines, many at a time; returns how many they were."""
    waiting = bytearray()
    count = 0
    for line in lines:
        count += 1
        waiting += line
        if len(waiting) >= WRITE_BYTES:
            out.write(waiting)
            waiting.clear()
    out.write(waiting)
    out.flush()
    return count
