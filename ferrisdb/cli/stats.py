"""The command that shows what a service knows about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import click

from ferrisdb.cli import arguments


@click.command()
@arguments.directory
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@arguments.service
def stats(directory: str, as_json: bool, no_start: bool, timeout: float) -> None:
    """Print the service's figures, one `name value` a line."""
    with arguments.open_database(directory, no_start, timeout) as db:
        figures = db.stats()
    if as_json:
        click.echo(json.dumps(figures, indent=2, default=str))
        return
    rows = list(_flat("", figures))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _flat(prefix: str, figures: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            for index, row in enumerate(value):
                yield from _row(f"{prefix}{name}.", index, row)
        else:
            yield f"{prefix}{name}", value


def _row(prefix: str, index: int, row: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Show a row of a list on one line; lists within it, such as a client's snapshots, below."""
    name = f"{prefix}{row.get('index', row.get('number', index))}"
    figures = {key: value for key, value in row.items() if not isinstance(value, list)}
    yield name, ", ".join(f"{key} {_short(value)}" for key, value in figures.items())
    yield from _flat(f"{name}.", {key: row[key] for key in row.keys() - figures.keys()})


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value
