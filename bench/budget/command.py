"""The command `bench budget`: measure rows, show them, write them down."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from ferrisdb.bench import machine
from ferrisdb.bench.budget import table
from ferrisdb.bench.budget.figures import OURS, BudgetError, Figure, Measured, Row
from ferrisdb.bench.budget.rows import ROWS
from ferrisdb.bench.budget.run import Run, Settings
from ferrisdb.bench.engines import ENGINES, OS
from ferrisdb.bench.measuring import versions
from ferrisdb.exit_codes import ExitCode

DEFAULT = Settings()
NAMES = {OURS, *(peer for row in ROWS for asked in row.asked for peer in asked.peers)}


def measure(
    rows: Sequence[Row], settings: Settings, folder: str, say: Callable[[str], None]
) -> Iterator[Measured]:
    """Measure rows, one after the other; one that fails says why, and the next ones go on."""
    with Run(settings, folder, say) as run:
        for row in rows:
            say(f"-- {row.name}: {row.work}")
            begin = time.monotonic()
            figures: tuple[Figure, ...] = ()
            why = None
            try:
                figures = tuple(row.measure(run))
            except BudgetError as error:
                why = str(error)
                say(f"{row.name} was not measured: {why}")
            yield Measured(row, figures, time.monotonic() - begin, why)


def to_json(
    measured: Sequence[Measured], settings: Settings, facts: dict[str, Any]
) -> dict[str, Any]:
    """Return what is written to budget.json."""
    return {
        "machine": facts | {"versions": versions()},
        "engines": {name: kind.settings_of(OS) for name, kind in ENGINES.items() if name in NAMES},
        "settings": asdict(settings),
        "rows": [each.to_json() for each in measured],
    }


def _list_rows(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    del option
    if wanted:
        for row in ROWS:
            click.echo(f"{row.name:12} {row.work}")
            for asked in row.asked:
                click.echo(f"{'':12}   {asked.figure}: {asked.text()}")
        context.exit()


@click.command()
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_rows,
              help="Name the rows, and end.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False), metavar="DIR",
              help="Write budget.json and budget.md there.")  # fmt: skip
@click.option("--folder", type=click.Path(exists=True, file_okay=False), metavar="DIR",
              help="Where the databases lie: on a disk whose sync is worth measuring.")  # fmt: skip
@click.option("--keys", default=DEFAULT.keys, show_default=True, type=click.IntRange(1000),
              help="Keys of the stores that are read.")  # fmt: skip
@click.option("--calls", default=DEFAULT.calls, show_default=True, type=click.IntRange(100),
              help="Reads of one engine in a round.")  # fmt: skip
@click.option("--rounds", default=DEFAULT.rounds, show_default=True, type=click.IntRange(1))
@click.option("--fill-keys", default=DEFAULT.fill_keys, show_default=True,
              type=click.IntRange(1000), help="Keys of each fill.")  # fmt: skip
@click.option("--fill-rounds", default=DEFAULT.fill_rounds, show_default=True,
              type=click.IntRange(1), help="Fills of each engine.")  # fmt: skip
@click.option("--puts", default=DEFAULT.puts, show_default=True, type=click.IntRange(100),
              help="Single puts of a round.")  # fmt: skip
@click.option("--synced-puts", default=DEFAULT.synced_puts, show_default=True,
              type=click.IntRange(10), help="Synced ones of a round.")  # fmt: skip
@click.option("--seconds", default=DEFAULT.seconds, show_default=True,
              type=click.FloatRange(0.1), help="Of a round of several processes.")  # fmt: skip
@click.option("--writers", default=DEFAULT.writers, show_default=True, type=click.IntRange(1),
              help="Processes that write at once.")  # fmt: skip
@click.option("--starved-keys", default=DEFAULT.starved_keys, show_default=True,
              type=click.IntRange(4_000_000),
              help="Keys of which a quarter fits the memory allowed.")  # fmt: skip
@click.option("--start-keys", nargs=2, default=DEFAULT.start_keys, show_default=True,
              type=click.IntRange(1), metavar="SMALL LARGE",
              help="Keys of the two databases that are started.")  # fmt: skip
@click.option("--requests", default=DEFAULT.requests, show_default=True,
              type=click.IntRange(1000), help="Requests of redis-benchmark.")  # fmt: skip
@click.option("--socket-keys", default=DEFAULT.socket_keys, show_default=True,
              type=click.IntRange(1000), help="Keys that it asks for.")  # fmt: skip
@click.option("--reader-count", type=click.IntRange(1),
              help="Reader workers of our service; otherwise its default.")  # fmt: skip
def budget(rows: tuple[str, ...], out: str | None, folder: str | None, **sizes: Any) -> ExitCode:
    """Measure what the project promises, row by row, beside other stores.

    Without a ROW, all of them. Exits with 0 where every row was measured, whether or not it holds.
    """
    known = {row.name: row for row in ROWS}
    for name in rows:
        if name not in known:
            raise click.UsageError(f"no row {name!r}; there are {', '.join(known)}")
    settings = Settings(**sizes)
    facts = machine.facts(folder or tempfile.gettempdir())
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="ferrisdb-budget-", dir=folder) as place:
        chosen = [known[name] for name in rows] or ROWS
        for each in measure(chosen, settings, place, lambda text: click.echo(text, err=True)):
            measured.append(each)
            if out is not None:
                # Behind each row: what was measured stays if the run is broken off.
                _write(out, measured, settings, facts)
    for line in table.lines(measured):
        click.echo(line)
    return ExitCode.UNAVAILABLE if any(each.why for each in measured) else ExitCode.OK


def _write(
    out: str, measured: Sequence[Measured], settings: Settings, facts: dict[str, Any]
) -> None:
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "budget.json"), "w", encoding="utf-8") as file:
        json.dump(to_json(measured, settings, facts), file, indent=1)
        file.write("\n")
    with open(os.path.join(out, "budget.md"), "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in table.markdown(measured))
