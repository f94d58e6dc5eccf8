"""The command that checks a database."""

from __future__ import annotations

import json

import click

from ferrisdb.cli import arguments
from ferrisdb.errors import AlreadyRunningError
from ferrisdb.exit_codes import ExitCode


@click.command()
@arguments.directory
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001, max=86_400),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for the service, if one runs.",
)
def verify(directory: str, as_json: bool, timeout: float) -> ExitCode:
    """Check every checksum and every invariant; nothing is changed.

    Works beside a running service, and without one; none is started. One line for each finding,
    then a summary. Ends with 80 if anything is damaged.
    """
    # Imported here: help must not pay for the kernel.
    from ferrisdb.verification import verify_stopped

    try:
        report = verify_stopped(directory)
    except AlreadyRunningError:
        with arguments.open_database(directory, True, timeout) as db:
            report = db.verify()
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for finding in report.findings:
            click.echo(str(finding))
        click.echo(str(report))
    return ExitCode.OK if report.is_clean else ExitCode.CORRUPT
