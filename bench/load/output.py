"""Write a load's files, as it goes: the timeline, the latencies, and in the end a run's results.

timeline.jsonl    first the load's plan, then a line for each second, then the verdicts
load.hlog         all latencies by kind of operation, at most 600 intervals of whole seconds
results.jsonl     machine and one cell, as `ferrisdb bench` writes them: `report` and `compare`
                  take it
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ferrisdb import __version__
from ferrisdb.bench import machine
from ferrisdb.bench.cells import Cell
from ferrisdb.bench.histogram_log import HistogramLog, Interval
from ferrisdb.bench.load.assertions import Verdict
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import Second
from ferrisdb.bench.results import FILE_NAME

TIMELINE_NAME: Final = "timeline.jsonl"
LOG_NAME: Final = "load.hlog"
INTERVALS_MAX: Final = 600
WORKLOAD: Final = "load"


class Output:
    """The files of one load.

    Owner:  one thread. Each line is with the operating system when its call returns.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Make the folder and begin the files, in the place of what is there.

        Raises:  OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._plan = plan
        self._facts = machine.facts(plan.target.directory or str(folder))
        self._timeline = (folder / TIMELINE_NAME).open("w", encoding="utf-8")
        self._log = HistogramLog(folder / LOG_NAME, time.time())
        self._interval_s = max(-(-plan.second_count // INTERVALS_MAX), 1)
        #: Seconds that are not in the log yet, and the number of the first.
        self._gathered = Second(0)
        self._gathered_from = 0
        self._write({"kind": "load", **arguments_of(plan)})

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def add(self, second: Second, seconds: float = 1.0) -> None:
        """Write a second.

        Shape:   seconds, how long it was.
        """
        self._write(second.to_json(seconds))
        self._gathered.merge(second)
        if second.number + 1 - self._gathered_from >= self._interval_s:
            self._log_gathered(second.number + seconds)

    def finish(
        self, total: Second, seconds: float, engine: str, verdicts: Iterable[Verdict]
    ) -> None:
        """Write the end: what is left of the log, the verdicts, and the results."""
        self._log_gathered(seconds)
        for verdict in verdicts:
            self._write({"kind": "verdict", "text": verdict.text, "held": verdict.held,
                         "found": verdict.found})  # fmt: skip
        engines = {engine: {"settings": f"at {self._plan.target.text}", "missing": None}}
        first = {"kind": "machine", **self._facts, "versions": {"ferrisdb": __version__}}
        first |= {"arguments": arguments_of(self._plan), "engines": engines}
        rows = [first, cell_of(self._plan, total, seconds, engine).to_json()]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self._folder / FILE_NAME).write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Close the files."""
        self._timeline.close()
        self._log.close()

    def _log_gathered(self, end_s: float) -> None:
        begin = self._gathered_from
        for kind, histogram in sorted(self._gathered.latencies.items()):
            self._log.append(Interval(kind, float(begin), end_s - begin, histogram))
        self._gathered = Second(0)
        self._gathered_from = int(end_s)

    def _write(self, row: dict[str, Any]) -> None:
        self._timeline.write(json.dumps(row) + "\n")
        self._timeline.flush()


def arguments_of(plan: Plan) -> dict[str, Any]:
    """Return a plan's settings, for people to read and to repeat; no password is among them."""
    return {
        "target": plan.target.text,
        "attached": plan.target.is_attached,
        "durability": plan.durability,
        "clients": plan.clients,
        "seconds": plan.seconds,
        "warm_up_s": plan.warm_up_s,
        "rate_per_s": plan.rate_per_s,
        "read_ratio": plan.read_ratio,
        "distribution": plan.distribution,
        "theta": plan.theta,
        "verify_ratio": plan.verify_ratio,
        "keys": plan.key_count,
        "value_bytes": plan.value_bytes,
        "timeout_s": plan.timeout_s,
        "prefix": plan.prefix.decode("utf-8", "backslashreplace"),
        "seed": plan.seed,
    }


def cell_of(plan: Plan, total: Second, seconds: float, engine: str) -> Cell:
    """Return what a load came to as a run's cell."""
    faults = [f"{count:,} values: {fault}" for fault, count in total.wrong.items()]
    return Cell(
        workload=WORKLOAD,
        title=f"Load: {100 * plan.read_ratio:g} % reads, {plan.distribution}, "
        f"{plan.value_bytes:,}-byte values",
        engine=engine,
        clients=plan.clients,
        durability=plan.durability or "default",
        loop="closed" if plan.rate_per_s is None else "open",
        target_per_s=plan.rate_per_s,
        seconds=seconds,
        operations=total.operations,
        rate_per_s=total.operations / seconds if seconds else 0.0,
        errors=total.error_count,
        verified=total.verified,
        latency={kind: found.summary() for kind, found in total.latencies.items()},
        histogram=LOG_NAME,
        why="; ".join(faults) or None,
    )
