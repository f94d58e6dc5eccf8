"""How cost and memory grow with the data: the same operations at ever more keys.

    ferrisdb bench growth --folder DIR --json bench/results/growth.json --plot docs/images/growth

One database grows from size to size; at each it is compacted, read whole once, and measured. Then a
fresh process attaches, and tells what memory that takes (reader_memory.py). Results are written
size by size, and what is there already is not measured again: an interrupted run goes on where it
was, if DIR was given.

Puts are of keys that exist: they leave no more keys than there were. `fill` is what a row took
while the database grew to the size, to its acknowledgement, in batches of 1,000.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from tqdm import tqdm

import ferrisdb
from ferrisdb.bench import machine, reader_memory
from ferrisdb.bench.growing import TIMEOUT_S, Calls, Growing
from ferrisdb.bench.rewrite import wait_for_the_end, wait_until
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode

SIZES: Final = "100k,1m,10m,50m"
OWN_BYTES_MAX: Final = 40_000_000
"""What DESIGN 8 and issue 6 allow a reader beyond the shared maps."""

DEFAULT: Final = Calls()
_UNITS: Final = {"k": 1_000, "m": 1_000_000}


def sizes_of(text: str) -> list[int]:
    """Return the numbers of keys that a text lists, ascending: "100k,1m".

    Raises:  click.BadParameter.
    """
    found = []
    for part in text.lower().split(","):
        digits, unit = (part[:-1], part[-1]) if part[-1:] in _UNITS else (part, "")
        if not digits.isdigit() or not int(digits):
            raise click.BadParameter(f"{part!r} is no number of keys: write 5000, 100k or 10m")
        found.append(int(digits) * _UNITS.get(unit, 1))
    return sorted(set(found))


class Record:
    """The file of results: what is there, and what is added."""

    def __init__(self, path: str | None, facts: dict[str, Any]) -> None:
        """Read it, if there is one.

        Raises:  CommandFailure, it holds something else.
        """
        self._path = path
        self.found: dict[str, Any] = facts | {"sizes": []}
        if path is None or not os.path.exists(path):
            return
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            self.found["sizes"] = [one for one in found["sizes"] if int(one["keys"])]
        except (ValueError, KeyError, TypeError) as error:
            why = f"{path} holds no results of growth: name another file"
            raise CommandFailure(why, ExitCode.BAD_INPUT) from error

    def has(self, key_count: int) -> bool:
        """Tell whether a size was measured."""
        return any(one["keys"] == key_count for one in self.found["sizes"])

    def add(self, result: dict[str, Any]) -> None:
        """Add a size's results, and write the file."""
        rest = [one for one in self.found["sizes"] if one["keys"] != result["keys"]]
        self.found["sizes"] = sorted([*rest, result], key=lambda one: int(one["keys"]))
        if self._path is not None:
            temporary = f"{self._path}.tmp"
            text = json.dumps(self.found, indent=1) + "\n"
            Path(temporary).write_text(text, encoding="utf-8")
            os.replace(temporary, self._path)


@contextlib.contextmanager
def _database(folder: str | None) -> Iterator[str]:
    """Give the database's directory: in `folder`, where it stays, or else for this run."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ferrisdb-growth-"))
        path = os.path.join(folder, "db")
        os.makedirs(path, exist_ok=True)
        try:
            yield path
        finally:
            wait_for_the_end(path)


def reader_of(path: str, key_count: int) -> dict[str, Any]:
    """Return what a fresh reader takes, stage by stage.

    Raises:  CommandFailure.
    """
    command = [sys.executable, "-m", reader_memory.__name__, path, str(key_count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailure(f"the reader failed: {done.stderr[-2000:]}", ExitCode.UNAVAILABLE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(growing: Growing, key_count: int, calls: Calls) -> dict[str, Any]:
    """Let the database grow to a size, and measure it there.

    Raises:  CommandFailure, it is larger already.
    """
    db = growing.db
    had = growing.key_count
    if had > key_count:
        why = f"{db.path} has {had:,} keys already, and {key_count:,} were not measured"
        raise CommandFailure(f"{why}: give another --folder", ExitCode.BAD_INPUT)
    with tqdm(total=key_count, initial=had, unit="key", unit_scale=True, leave=False) as bar:
        fill_s = growing.grow(key_count, lambda done: _show(bar, done))
    compact_s = growing.settle()
    wait_until(db, "at rest")
    growing.check()
    shape = growing.shape()
    reader = reader_of(db.path, key_count)
    costs = growing.costs(calls)
    if fill_s is not None:
        costs["fill, a row"] = dict.fromkeys(("median", "least", "most"), fill_s * 1000000.0)
    return {
        "keys": key_count,
        "grown_from": had,
        "compact_s": compact_s,
        "tree": shape,
        "costs_us": costs,
        "reader": reader,
    }


def _show(bar: tqdm[Any], done: int) -> None:
    bar.update(done - bar.n)


def lines(sizes: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table: costs in µs and memory in MB, a column for each size."""
    head = "".join(f"{one['keys']:>14,}" for one in sizes)
    yield f"{'keys':28}{head}"
    for what in dict.fromkeys(name for one in sizes for name in one["costs_us"]):
        cells = [one["costs_us"].get(what, {}).get("median") for one in sizes]
        row = "".join(f"{'' if cell is None else format(cell, '.3f'):>14}" for cell in cells)
        yield f"{what + ', µs':28}{row}"
    for stage in reader_memory.STAGES:
        row = "".join(f"{one['reader'][stage]['own_bytes'] / 1e6:14.1f}" for one in sizes)
        yield f"{'reader, ' + stage + ', MB':28}{row}"
    row = "".join(f"{one['tree']['table_count']:14}" for one in sizes)
    yield f"{'tables':28}{row}"


def too_large(sizes: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each size at which a reader takes more than it may."""
    for one in sizes:
        stages = one["reader"].values()
        most = max(stage["own_bytes"] for stage in stages)
        if most >= OWN_BYTES_MAX:
            yield (
                f"at {one['keys']:,} keys a reader takes {most / 1e6:.1f} MB beyond the shared"
                f" maps: {OWN_BYTES_MAX / 1e6:.0f} MB are allowed"
            )


@click.command()
@click.option("--sizes", default=SIZES, show_default=True, help="Numbers of keys.")
@click.option("--folder", type=click.Path(file_okay=False), metavar="DIR",
              help="Where the database lies, and stays; otherwise a temporary one.")  # fmt: skip
@click.option("--json", "path", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write results there; sizes that it has are not measured.")  # fmt: skip
@click.option("--plot", metavar="NAME", help="Draw NAME.svg and NAME.png.")
@click.option("--rounds", default=DEFAULT.rounds, show_default=True, type=click.IntRange(1))
@click.option("--reads", default=DEFAULT.reads, show_default=True, type=click.IntRange(100),
              help="Of each kind in a round.")  # fmt: skip
@click.option("--puts", default=DEFAULT.puts, show_default=True, type=click.IntRange(100))
def growth(
    sizes: str, folder: str | None, path: str | None, plot: str | None, **counts: int
) -> ExitCode:
    """Measure how costs and a reader's memory grow with the number of keys.

    Exits with 1 where a reader takes more memory than it may.
    """
    wanted = sizes_of(sizes)
    calls = Calls(**counts)
    facts = {"machine": machine.facts(folder or tempfile.gettempdir()), "calls": asdict(calls)}
    record = Record(path, facts)
    if not all(record.has(size) for size in wanted):
        with _database(folder) as where, ferrisdb.open(where, timeout=TIMEOUT_S) as db:
            growing = Growing(db)
            for size in wanted:
                if not record.has(size):
                    record.add(measure(growing, size, calls))
    found = record.found["sizes"]
    click.echo("\n".join(lines(found)))
    if plot is not None:
        from ferrisdb.bench import growth_plot

        growth_plot.write(record.found, plot)
    wrong = list(too_large(found))
    for line in wrong:
        click.echo(line, err=True)
    return ExitCode.ABSENT if wrong else ExitCode.OK
