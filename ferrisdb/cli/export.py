"""The command that writes rows to a file that `import` reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import click

from ferrisdb.cli import arguments, text
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.cli.load import form_of
from ferrisdb.cli.scan import write_lines
from ferrisdb.errors import Error
from ferrisdb.exit_codes import ExitCode


@click.command(short_help="Export rows to a TSV or JSON-lines file.")
@arguments.directory
@click.argument("file", metavar="[FILE]", default="-")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(text.PARSERS)),
    help="What a line holds; otherwise judged by FILE's name, .jsonl and .ndjson or else tsv.",
)
@click.option("--start", "first", metavar="KEY", help="First key of the range.")
@click.option("--end", metavar="KEY", help="The range ends before this key.")
@click.option("--prefix", metavar="KEY", help="The keys that begin with this.")
@arguments.escape
@arguments.keyspace
@arguments.service
def export(
    directory: str,
    file: str,
    form: str | None,
    first: str | None,
    end: str | None,
    prefix: str | None,
    escape: bool,
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    """Write every row to FILE (standard output without one, or for `-`), as `import` reads it.

    The rows are those of one moment, in key order, one a line. FILE gets its name when it is
    complete and replaces what had that name. When a key is to expire is not exported.
    """
    bounds: dict[str, Any] = arguments.to_bounds(first, end, prefix, escape)
    to_line = text.FORMATTERS[form_of(file, form)]
    with (
        arguments.open_keyspace(directory, keyspace, no_start, timeout) as db,
        _open_output(file) as out,
    ):
        count = write_lines(out, (to_line(key, value) for key, value in db.scan(**bounds)))
    if file != "-":
        click.echo(f"{count:,} rows exported")


@contextmanager
def _open_output(file: str) -> Iterator[BinaryIO]:
    """Open the file under another name, which it loses at the end; `-`: standard output.

    Raises:  CommandFailure, if it can't be written.
    """
    if file == "-":
        yield sys.stdout.buffer
        return
    try:
        with click.open_file(file, "wb", atomic=True) as out:
            yield cast("BinaryIO", out)
    except OSError as error:
        if isinstance(error, Error):
            raise
        refused = isinstance(error, PermissionError)
        code = ExitCode.NO_PERMISSION if refused else ExitCode.STORAGE
        raise CommandFailure(f"{file}: {error.strerror}", code) from error
