"""Plan a run by the command's options, carry it out, and have its report written."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click

from ferrisdb.bench import plan as plans
from ferrisdb.bench import report
from ferrisdb.bench.crew import Crew
from ferrisdb.bench.engines import ENGINES, Engine, Ferris, FerrisSocket, Null, engine_named
from ferrisdb.bench.ledger import Ledger
from ferrisdb.bench.plan import Plan
from ferrisdb.bench.progress import Progress
from ferrisdb.bench.results import FILE_NAME
from ferrisdb.bench.runner import Runner
from ferrisdb.bench.scale import QUICK, Scale
from ferrisdb.bench.workloads import choose
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode

OURS: Final = (Ferris.name, FerrisSocket.name)
"""If one of these goes wrong the command fails; that others do is a result."""


def planned(
    quick: bool, chosen: Mapping[str, Any], workloads: Sequence[str], engines: Sequence[str]
) -> Plan:
    """Return the plan that the options ask for.

    Shape:   chosen, parameters of `Scale`; None where nothing is chosen.
    Raises:  ValueError, there is no such workload or engine.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    if "durabilities" in given:
        both = given["durabilities"] == "both"
        given["durabilities"] = ("os", "sync") if both else (given["durabilities"],)
    scale = replace(QUICK if quick else Scale(), **given)
    return plans.make(scale, choose(scale, workloads), chosen_engines(engines))


def chosen_engines(names: Sequence[str]) -> list[type[Engine]]:
    """Return the engines of these names, in the order of ENGINES; all stores if there is none.

    Raises:  ValueError, there is no such engine.
    """
    if not names:
        return [kind for kind in ENGINES.values() if kind is not Null]
    kinds = list(dict.fromkeys(engine_named(name) for name in names))
    known = list(ENGINES.values())
    return sorted(kinds, key=lambda kind: known.index(kind) if kind in known else len(known))


def measure(plan: Plan, out: Path, folder: Path | None) -> ExitCode:
    """Carry a plan out and write its report; Ctrl-C leaves a report of what there is by then.

    Raises:  CommandFailure, there are results already, or nothing can be measured.
    """
    if (out / FILE_NAME).exists():
        raise CommandFailure(
            f"{out} holds the results of another run: choose another folder, or remove it",
            ExitCode.USAGE,
        )
    missing = {kind: why for kind in _engines_of(plan) if (why := kind.missing())}
    for kind, why in missing.items():
        click.echo(f"{kind.name} is left out: {why}", err=True)
    present = plan.without(missing)
    if not any(True for _ in present.cells):
        raise CommandFailure("none of the engines can be measured", ExitCode.UNAVAILABLE)
    click.echo(f"about {plans.minutes(present.estimate_s)}; results go to {out}", err=True)
    out.mkdir(parents=True, exist_ok=True)
    with _stopped_by_signals(), Ledger(out) as ledger:
        interrupted = _carry_out(present, _engines_of(plan), out, folder, ledger)
        if ledger.cell_count:
            for line in report.tables(out):
                click.echo(line)
            click.echo(f"written: {report.write(out)}")
    if interrupted:
        return ExitCode.INTERRUPTED
    ours = [cell for cell in ledger.wrong if cell.engine in OURS]
    for cell in ours:
        click.echo(f"{cell.workload}: {cell.engine} went wrong: {cell.why}", err=True)
    return ExitCode.THRESHOLD_MISSED if ours else ExitCode.OK


def _carry_out(
    plan: Plan, engines: Sequence[type[Engine]], out: Path, folder: Path | None, ledger: Ledger
) -> bool:
    """Run every cell; returns whether it was interrupted."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="ferrisdb-bench-", dir=folder or out)).absolute()
    try:
        arguments = {"argv": sys.argv[1:], **asdict(plan.scale)}
        ledger.write_machine(str(place), arguments, engines)
        with Crew() as crew, Progress(plan.estimate_s) as progress:
            Runner(plan, place, crew, ledger, progress).run()
    except KeyboardInterrupt:
        click.echo("interrupted: the report shows what was measured by now", err=True)
        return True
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return False


def _engines_of(plan: Plan) -> list[type[Engine]]:
    return list(dict.fromkeys(cell.engine for cell in plan.cells))


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Have SIGTERM end a run as Ctrl-C does: servers and folders are left by neither."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
