"""The command `ferrisdb bench`, and the commands behind it.

A command lives in a module of its own and is imported when it is named, so that each needs only
the packages that it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ferrisdb.bench.scale import DISTRIBUTIONS, THETA
from ferrisdb.cli.lazy_group import LazyGroup
from ferrisdb.exit_codes import ExitCode

_Command = TypeVar("_Command", bound=Callable[..., Any])

COMMANDS: Final[dict[str, str]] = {
    "load": "ferrisdb.bench.load.command:load",
    "compare": "ferrisdb.bench.report_commands:compare",
    "report": "ferrisdb.bench.report_commands:report",
    "plot": "ferrisdb.bench.report_commands:plot",
    "budget": "ferrisdb.bench.budget.command:budget",
    "instructions": "ferrisdb.bench.instructions:instructions",
    "growth": "ferrisdb.bench.growth:growth",
}
"""Where each command is: module and attribute, in the order that help shows."""


def _numbers(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Read numbers from 1 on with commas between them."""
    del ctx
    if text is None:
        return None
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"{text!r} is not numbers with commas, as 1,8", param=parameter)
    return found


def _words(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """Read words with commas between them."""
    del ctx, parameter
    return tuple(word for text in texts for word in text.split(",") if word)


def _scale_options(command: _Command) -> _Command:
    """Add the options that say how large a run is."""
    for option in reversed(_SCALE_OPTIONS):
        command = option(command)
    return command


_COUNT = click.IntRange(min=1)
_SCALE_OPTIONS = (
    click.option("--keys", type=click.IntRange(100, 1 << 31), help="Rows of each data set."),
    click.option(
        "--value-bytes", type=click.IntRange(32, 1 << 20), help="Of db_bench's rows: 100."
    ),
    click.option("--record-bytes", type=click.IntRange(32, 1 << 20), help="Of YCSB's: 1000."),
    click.option("--seconds", type=click.FloatRange(0.01, 86_400), help="Of a cell: 2."),
    click.option(
        "--warm-up",
        "warm_s",
        type=click.FloatRange(0, 3600),
        metavar="SECONDS",
        help="Before a cell counts.",
    ),
    click.option("--rounds", type=_COUNT, help="Of the workloads that matter most: 2."),
    click.option(
        "--clients", callback=_numbers, metavar="N,...", help="In place of each workload's own."
    ),
    click.option(
        "--durability",
        "durabilities",
        type=click.Choice(["os", "sync", "both"]),
        help="Of workloads that make sense with either.",
    ),
    click.option(
        "--rate",
        "rate_per_s",
        type=click.FloatRange(min=0.1),
        metavar="PER_SECOND",
        help="Open loops at this rate of all clients together; latency counts from when an"
        " operation was meant to begin.",
    ),
    click.option(
        "--distribution",
        type=click.Choice(DISTRIBUTIONS),
        help="Of keys, in place of each workload's own.",
    ),
    click.option(
        "--theta",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help=f"Of Zipf's law: {THETA}.",
    ),
    click.option("--scan-rows", type=_COUNT, help="Of YCSB E's scans, at most: 100."),
    click.option("--seek-rows", type=_COUNT, help="Of seekrandom's ranges: 50."),
    click.option(
        "--hot-keys",
        callback=_numbers,
        metavar="N,...",
        help="How many keys transactions contend for: 1,100,10000.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Of all random choices: 1."),
)


@click.group(cls=LazyGroup, places=COMMANDS, invoke_without_command=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where results go: results.jsonl, histograms, plots and report.html.",
)
@click.option("--quick", is_flag=True, help="Two minutes: fewer keys, workloads, and no rounds.")
@click.option("--plan", "plans", is_flag=True, help="Say what would be done, and how long.")
@click.option(
    "--workloads", multiple=True, callback=_words, metavar="NAME,...", help="See --plan; or groups."
)
@click.option("--engines", multiple=True, callback=_words, metavar="NAME,...", help="See --plan.")
@_scale_options
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the stores' data lie meanwhile; otherwise within --out.",
)
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    out: Path | None,
    quick: bool,
    plans: bool,
    workloads: tuple[str, ...],
    engines: tuple[str, ...],
    folder: Path | None,
    **scale: Any,
) -> ExitCode:
    """Measure FerrisDB beside other stores.

    `ferrisdb bench --out DIR` runs every workload on every engine that is installed, and writes
    tables, plots and a page. It takes less than twenty minutes on two cores.
    """
    if ctx.invoked_subcommand is not None:
        return ExitCode.OK
    if out is None and not plans:
        if ctx.args or quick or workloads or engines or any(v is not None for v in scale.values()):
            raise click.UsageError("say where the results go: --out DIR; or see --plan", ctx)
        click.echo(ctx.get_help(), err=True)
        return ExitCode.USAGE
    from ferrisdb.bench.measure import measure, planned

    try:
        plan = planned(quick, scale, workloads, engines)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None
    if plans or out is None:
        for line in plan.lines():
            click.echo(line)
        return ExitCode.OK
    return measure(plan, out, folder)
