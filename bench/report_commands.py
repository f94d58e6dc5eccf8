"""The commands that read finished runs: `report`, `plot`, `compare`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ferrisdb.bench.results import NoResultsError, ResultsError
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode

_run = click.argument("run", metavar="DIR", type=click.Path(path_type=Path))


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what is wrong with results into the end of the command."""
    try:
        yield
    except NoResultsError as error:
        raise CommandFailure(str(error), ExitCode.NO_INPUT) from error
    except ResultsError as error:
        raise CommandFailure(str(error), ExitCode.BAD_INPUT) from error


@click.command(short_help="Write a run's tables, plots and page again.")
@_run
def report(run: Path) -> None:
    """Print the tables of the results in DIR, and write DIR/report.html and DIR/plots again.

    `ferrisdb bench --out DIR` does so by itself.
    """
    from ferrisdb.bench import report as reports

    with _refusing():
        if not run.is_dir():
            raise NoResultsError(f"{run} is no folder of results")
        for line in reports.tables(run):
            click.echo(line)
        click.echo(f"written: {reports.write(run)}")


@click.command(short_help="Draw a run's throughput as one image.")
@_run
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--workloads",
    metavar="NAME,...",
    default="",
    help="Those to draw, in this order; otherwise all of the run.",
)
def plot(run: Path, image: Path, workloads: str) -> None:
    """Draw the throughput of each workload in DIR as IMAGE, whose name ends in .svg or .png.

    The image in README is made by `ferrisdb bench plot DIR docs/images/throughput.svg`.
    """
    from ferrisdb.bench import report as reports
    from ferrisdb.bench.drawing import NoMatplotlibError

    if image.suffix not in (".svg", ".png"):
        raise click.UsageError("an image's name ends in .svg or .png", click.get_current_context())
    names = [name.strip() for name in workloads.split(",") if name.strip()]
    try:
        with _refusing():
            image.parent.mkdir(parents=True, exist_ok=True)
            reports.write_overview(run, image, names)
    except NoMatplotlibError as error:
        raise CommandFailure(str(error), ExitCode.UNAVAILABLE) from error


@click.command(short_help="Compare two runs, cell by cell.")
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option(
    "--against",
    metavar="NAME",
    help="Divide each rate by this engine's of the same run: the machine's drift cancels.",
)
@click.option(
    "--fail-below",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATIO",
    help="End with 1 if a rate of FerrisDB, or of --engine, fell below this part of what it was.",
)
def compare(
    before: Path, after: Path, engines: tuple[str, ...], against: str | None,
    fail_below: float | None,
) -> ExitCode:  # fmt: skip
    """Compare the results in A with later ones in B (folders, or their results.jsonl).

    A change beyond the spread is marked: the rounds of A and B have no rate in common. With
    --fail-below only those count, where both have two rounds or more; so does a cell that went
    wrong in B.
    """
    from ferrisdb.bench import results
    from ferrisdb.bench.compare import compare as compared
    from ferrisdb.bench.compare import judged, lines

    with _refusing():
        comparison = compared(results.read(before), results.read(after), engines, against)
    for line in lines(comparison):
        click.echo(line)
    if fail_below is None:
        return ExitCode.OK
    failed = judged(comparison, fail_below, engines)
    for change in failed:
        click.echo(
            f"below {fail_below:g}: {change.workload} ({change.what}), {change.engine}", err=True
        )
    return ExitCode.ABSENT if failed else ExitCode.OK
