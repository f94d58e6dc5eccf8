"""The command that imports a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

import click

from ferrisdb.cli import arguments, text
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.cli.importer import Importer
from ferrisdb.exit_codes import ExitCode

if TYPE_CHECKING:
    from tqdm import tqdm

JSONL_SUFFIXES = (".jsonl", ".ndjson")
"""Names that say what a file holds; anything else is TSV unless --format says otherwise."""


@click.command("import", short_help="Import rows from a TSV or JSON-lines file.")
@arguments.new_directory
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(text.PARSERS)),
    help="What a line holds; otherwise judged by FILE's name, .jsonl and .ndjson or else tsv.",
)
@click.option(
    "--batch",
    "batch_rows",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="Rows of one batch.",
)
@click.option(
    "--from-line",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Pass over the lines before N.",
)
@click.option("--skip-bad", is_flag=True, help="Report lines that can't be read, and go on.")
@click.option(
    "--durability",
    type=click.Choice(["os", "sync"]),
    default="os",
    show_default=True,
    help="Durability of each batch; at the end everything is synced in either case.",
)
@arguments.keyspace
@arguments.service
def load(
    directory: str,
    file: str,
    form: str | None,
    batch_rows: int,
    from_line: int,
    skip_bad: bool,
    durability: str,
    keyspace: str,
    no_start: bool,
    timeout: float,
) -> None:
    r"""Import FILE (`-`: standard input), one row a line, later lines over earlier ones.

    tsv: key, tab, value, with \t \n \r \\ \xNN for a tab, newline, carriage return, backslash
    or any byte inside them.

    jsonl: {"key": "...", "value": "..."}, or key_b64 and value_b64 for bytes as Base64.

    At a line that can't be read the import stops: every row before it is imported, none behind
    it; the message names the line. --from-line goes on from there.
    """
    with (
        _open_input(file) as source,
        arguments.open_keyspace(directory, keyspace, no_start, timeout, create=True) as db,
        _progress(source) as bar,
    ):
        task = Importer(db, file, durability, batch_rows, skip_bad, bar)
        task.run(source, text.PARSERS[form_of(file, form)], from_line)
    click.echo(task.summary())


def form_of(file: str, form: str | None) -> str:
    """Return what a line of a file holds: what was said, or else what its name says."""
    if form is not None:
        return form
    return "jsonl" if file.endswith(JSONL_SUFFIXES) else "tsv"


@contextmanager
def _open_input(file: str) -> Iterator[BinaryIO]:
    """Open the file, or standard input for `-`.

    Raises:  CommandFailure, if it can't be read.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = click.open_file(file, "rb")
    except OSError as error:
        code = ExitCode.NO_PERMISSION if isinstance(error, PermissionError) else ExitCode.NO_INPUT
        raise CommandFailure(f"{file}: {error.strerror}", code) from error
    with source:
        yield cast("BinaryIO", source)


@contextmanager
def _progress(source: BinaryIO) -> Iterator[tqdm[NoReturn]]:
    """Show how much of the file is read, on standard error, where that is a terminal."""
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() or not source.seekable()
    total = None if hidden else os.fstat(source.fileno()).st_size
    bar: tqdm[NoReturn] = tqdm(
        total=total, unit="B", unit_scale=True, disable=hidden, leave=False, file=sys.stderr
    )
    with bar:
        yield bar
