"""The command that makes a damaged directory a database again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ferrisdb.cli import arguments
from ferrisdb.errors import AlreadyRunningError

if TYPE_CHECKING:
    from ferrisdb.engine.repair_report import RepairReport


@click.command()
@arguments.directory
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
def repair(directory: str, dry_run: bool) -> None:
    """Make DIR a database again, from what is readable, and report what was lost.

    No service may run for DIR. Files that can't be read, and those that were replaced, are moved
    to DIR/quarantine; nothing is deleted. A directory without damage is left as it is.
    """
    from ferrisdb.engine.repair import repair_directory
    from ferrisdb.seams import RealClock, RealFileSystem, RealRng
    from ferrisdb.shm.locks import DirectoryLock, check_file_system

    check_file_system(directory)
    lock = DirectoryLock(directory)
    try:
        lock.acquire()
    except AlreadyRunningError as error:
        raise AlreadyRunningError(
            f"{error}: stop the service with SIGTERM, or wait until it has left, and repair then"
        ) from None
    with lock:
        report = repair_directory(
            RealFileSystem(), directory, clock=RealClock(), rng=RealRng(), is_dry_run=dry_run
        )
    for line in lines(report):
        click.echo(line)


def lines(report: RepairReport) -> Iterator[str]:
    """Yield the report as a person reads it."""
    if not report.is_needed:
        yield f"nothing to repair: {report.basis} names {report.table_count} tables, all whole"
        return
    would = "would be " if report.is_dry_run else ""
    yield f"the tables were chosen by {report.basis}"
    for one in report.files:
        yield f"{one.name}: {one.fate}"
        for text in one.particulars:
            yield f"    {text}"
    if report.lost:
        yield "lost:"
        yield from (f"    {text}" for text in report.lost)
    else:
        yield "lost: nothing that is known of"
    if report.quarantined:
        yield f"{would}moved to quarantine: {', '.join(report.quarantined)}"
    yield (
        f"the database {'would have' if report.is_dry_run else 'has'} {report.table_count} tables "
        f"with {report.entry_count} entries; its last sequence is {report.last_seq}"
    )
