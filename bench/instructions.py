"""Gate the hot operations by their instructions: a count that does not depend on the machine.

    ferrisdb bench instructions            compare with what is recorded in instructions.json
    ferrisdb bench instructions --record   record what is counted now

`hot_operations.py` runs under valgrind, and of its instructions those are counted that lie in our
own compiled modules, divided by calls or rows. What the interpreter and libc do is not ours: a new
release of either would move it. It is shown as `total`, and not compared.

Why this is the same everywhere: nothing waits or spins (inline.py), keys and heights in the
memtables are made from numbers, and the kernel has one choice by the processor, the instruction
for CRC-32C (kernel/cpu.h), which valgrind's processor has on every x86-64 host from 2009 on. Runs
differ by less than a thousandth, on an idle machine and on one whose every core is taken.

TOLERANCE holds for the compiler, Cython and Python of the record. Others make other code of the
same source: with one of them FOREIGN_TOLERANCE holds, which is loose, but sees a loop too many.
Only x86-64 is recorded.

Fewer instructions than recorded fail, too: what was gained would else be lost again unnoticed. Who
changes a hot path records it in the same commit, so that the difference of instructions.json tells
what the change costs.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from ferrisdb.bench import callgrind, hot_operations
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode
from ferrisdb.kernel import client

RECORDED: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.03
FOREIGN_TOLERANCE: Final = 0.25
COMMAND: Final = "ferrisdb bench instructions --record"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions of one call, or of one row."""

    #: Of our own modules: what is compared.
    instructions: float
    #: The same by module.
    modules: dict[str, float]
    #: With the interpreter's and libc's.
    total: float


Costs = dict[str, Cost]


def toolchain() -> dict[str, str]:
    """Return what the compiled modules were made by and run in, release by release."""
    text = Path(client.__file__).read_bytes()
    compiler = re.search(rb"(GCC|clang version)[^0-9]*?(?:\([^)]*\) )?(\d+)", text)
    cython = re.search(rb"_cython_(\d+)_(\d+)", text)
    python = platform.python_version_tuple()
    return {
        "machine": platform.machine(),
        "compiler": b" ".join(compiler.groups()).decode().lower() if compiler else "unknown",
        "cython": b".".join(cython.groups()).decode() if cython else "unknown",
        "python": f"{platform.python_implementation()} {python[0]}.{python[1]}",
    }


def missing() -> str | None:
    """Return why nothing can be compared here, None if it can."""
    if platform.machine() != "x86_64":
        return f"instructions are recorded for x86_64, not for {platform.machine()}"
    return callgrind.missing()


def count() -> Costs:
    """Count every operation; takes half a minute.

    Raises:  callgrind.CallgrindError.
    """
    with tempfile.TemporaryDirectory(prefix="ferrisdb-instructions-") as folder:
        arguments = ["-m", hot_operations.__name__, folder]
        parts = callgrind.counted(arguments, folder, hot_operations.MARK)
        calls: dict[str, int] = json.loads(Path(folder, "calls.json").read_text(encoding="utf-8"))
    # Between the two marks of an operation; what makes the next one ready follows.
    inside = parts[1::2]
    if len(inside) != len(calls):
        raise callgrind.CallgrindError(f"{len(inside)} parts for {len(calls)} operations")
    return {name: _cost(part, calls[name]) for name, part in zip(calls, inside, strict=True)}


def _cost(objects: Mapping[str, int], calls: int) -> Cost:
    kernel = Path(client.__file__).resolve().parent
    ours = {
        Path(path).name.partition(".")[0]: n / calls
        for path, n in sorted(objects.items(), key=lambda item: -item[1])
        if Path(path).resolve().parent == kernel
    }
    modules = {name: round(n, 1) for name, n in ours.items() if n >= 1}
    return Cost(round(sum(ours.values()), 1), modules, round(sum(objects.values()) / calls, 1))


# The record


def save(costs: Costs, path: Path = RECORDED) -> None:
    """Record the costs."""
    record = {
        "toolchain": toolchain(),
        "operations": {name: asdict(cost) for name, cost in costs.items()},
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load(path: Path = RECORDED) -> tuple[dict[str, str], Costs]:
    """Return the toolchain and the costs of the record."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record["toolchain"], {k: Cost(**cost) for k, cost in record["operations"].items()}


def tolerance(recorded_by: dict[str, str]) -> float:
    """Return by which part costs may differ from those recorded by a toolchain."""
    return TOLERANCE if recorded_by == toolchain() else FOREIGN_TOLERANCE


def compare(recorded: Costs, now: Costs, allowed: float) -> Iterator[str]:
    """Yield a line for each operation whose cost has changed by more than is allowed."""
    for name in recorded.keys() | now.keys():
        if name not in now or name not in recorded:
            what = "is not measured any more" if name in recorded else "is not recorded"
            yield f"{name}: {what}; record it: {COMMAND}"
            continue
        before, after = recorded[name], now[name]
        change = after.instructions / before.instructions - 1
        if abs(change) <= allowed:
            continue
        line = f"{name}: {before.instructions} instructions before, {after.instructions} now"
        line += f" ({change:+.1%}, allowed {allowed:.0%}; {_moved(before, after)})"
        if change > 0:
            yield f"{line}; find out why, or if it is worth it: {COMMAND}"
        else:
            yield f"{line}; keep the gain: {COMMAND}"


def _moved(before: Cost, after: Cost) -> str:
    """Name the modules that have changed most."""
    names = before.modules.keys() | after.modules.keys()
    changes = {n: after.modules.get(n, 0.0) - before.modules.get(n, 0.0) for n in names}
    most = sorted(changes, key=lambda name: -abs(changes[name]))[:3]
    return ", ".join(f"{name} {changes[name]:+.0f}" for name in most if changes[name])


def table(recorded: Costs, now: Costs) -> Iterator[str]:
    """Yield a line for each operation."""
    yield f"{'instructions a call or row':42} {'recorded':>9} {'now':>9} {'change':>7} {'total':>9}"
    for name, cost in now.items():
        before = recorded.get(name)
        old, change = "", ""
        if before is not None:
            old = f"{before.instructions:.0f}"
            change = f"{cost.instructions / before.instructions - 1:+.1%}"
        yield f"{name:42} {old:>9} {cost.instructions:9.0f} {change:>7} {cost.total:9.0f}"


@click.command()
@click.option("--record", is_flag=True, help="Record what is counted instead of comparing.")
def instructions(record: bool) -> ExitCode:
    """Count the instructions of the hot operations, and compare them with the record.

    Exits with 1 where an operation takes more or fewer than the record allows.
    """
    why = missing()
    if why:
        raise CommandFailure(why, ExitCode.UNAVAILABLE)
    try:
        now = count()
    except callgrind.CallgrindError as error:
        raise CommandFailure(str(error), ExitCode.UNAVAILABLE) from error
    made_by, recorded = load() if RECORDED.exists() else ({}, {})
    click.echo("\n".join(table(recorded, now)))
    if record:
        save(now)
        click.echo(f"recorded in {RECORDED}")
        return ExitCode.OK
    wrong = sorted(compare(recorded, now, tolerance(made_by)))
    for line in wrong:
        click.echo(line, err=True)
    return ExitCode.ABSENT if wrong else ExitCode.OK
