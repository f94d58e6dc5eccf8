"""The command `ferrisdb bench`, and the commands behind it.

A command lives in a module of its own and is imported when it is named, so that each needs only
the packages that it uses.
"""

from __future__ import annotations

from typing import Final

import click

from ferrisdb.cli.lazy_group import LazyGroup
from ferrisdb.exit_codes import ExitCode

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


@click.group(cls=LazyGroup, places=COMMANDS, invoke_without_command=True)
@click.pass_context
def bench(ctx: click.Context) -> ExitCode:
    """Measure FerrisDB beside other stores."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return ExitCode.USAGE
    return ExitCode.OK
