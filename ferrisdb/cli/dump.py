"""The command that prints what a file of a database says."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator

import click

from ferrisdb.cli import arguments, text
from ferrisdb.engine.dump import DumpOptions, Line, dump_file, dumpable, summaries
from ferrisdb.format.filenames import DIR
from ferrisdb.seams import RealFileSystem


@click.command()
@arguments.directory
@click.argument("name", required=False)
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Stop behind N entries or edits."
)
@click.option("--keys-only", is_flag=True, help="Print no values.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def dump(
    directory: str, name: str | None, limit: int | None, keys_only: bool, as_json: bool
) -> None:
    """Print what the file NAME of DIR says: 000012.wal, 000013.sst, MANIFEST-000007 or CURRENT.

    Without NAME, list the files. A line begins with its place in the file. Reads that one file
    and writes nothing, beside a running service too. Where a checksum doesn't match, the line
    says DAMAGED, and the dump goes on behind it as far as it can.
    """
    fs, at = RealFileSystem(), DIR(os.fspath(directory))
    if name is None:
        _list(fs, at, as_json)
        return
    try:
        dumpable(name)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    options = DumpOptions(keys_only, _shown)
    for line in _limited(dump_file(fs, at, name, options), limit):
        click.echo(_as_json(line) if as_json else _as_text(line))


def _shown(raw: bytes) -> str:
    # As `scan` prints it, and what is no text besides, so that --escape reads it back.
    return "".join(
        character if character.isprintable() else _escaped(character)
        for character in text.escape(raw).decode("utf-8", "surrogateescape")
    )


def _escaped(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _limited(lines: Iterable[Line], limit: int | None) -> Iterator[Line]:
    if limit is None:
        yield from lines
        return
    count = 0
    for line in lines:
        if line.is_item:
            count += 1
            if count > limit:
                return
        yield line


def _as_text(line: Line) -> str:
    return f"{line.offset:08x}  {'  ' * line.depth}{line.text}"


def _as_json(line: Line) -> str:
    return json.dumps({"offset": line.offset, "text": line.text, **line.fields}, default=str)


def _list(fs: RealFileSystem, at: DIR, as_json: bool) -> None:
    rows = list(summaries(fs, at))
    if as_json:
        names = ("name", "kind", "bytes", "summary")
        for row in rows:
            click.echo(json.dumps(dict(zip(names, row, strict=True))))
        return
    width = max(itertools.chain((len(name) for name, *_ in rows), (0,)))
    for name, kind, size, summary in rows:
        click.echo(f"{name:<{width}}  {kind:<12} {size:>12}  {summary}".rstrip())
