"""Carry a plan out: load each engine, have clients run every cell, and write what they measured."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from ferrisdb.bench.budget.figures import BudgetError
from ferrisdb.bench.budget.memory_group import MemoryGroup
from ferrisdb.bench.budget.starved import drop_pages
from ferrisdb.bench.cells import Cell
from ferrisdb.bench.crew import CellFailure, CellUnable, Crew
from ferrisdb.bench.engines import OS, Engine
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.ledger import Ledger, now_s
from ferrisdb.bench.plan import Plan, PlannedCell, Stage
from ferrisdb.bench.progress import Progress
from ferrisdb.bench.records import KEY_BYTES
from ferrisdb.bench.stores import Stores, check_count
from ferrisdb.bench.task import Place, Rows, Tally, Task
from ferrisdb.bench.workloads import Base

LOAD_TITLES: Final = {
    Base.ROWS: "load of rows in batches of 1,000",
    Base.RECORDS: "load of records in batches of 1,000",
}

STARVED_BYTES_MIN: Final = 128 << 20
"""Below it Python and its packages would be what memory is spent on."""

STARVED_MEMTABLE_BYTES: Final = 8 << 20


class Runner:
    """One run.

    Owner:  one thread of the process that measures; it lets go of all stores when it ends.
    """

    def __init__(
        self, plan: Plan, folder: Path, crew: Crew, ledger: Ledger, progress: Progress
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._crew = crew
        self._ledger = ledger
        self._progress = progress

    def run(self) -> None:
        """Carry out the whole plan."""
        for stage in self._plan.stages:
            with Stores(stage, self._plan.scale, self._folder, self._crew) as stores:
                self._run_stage(stage, stores)

    def _run_stage(self, stage: Stage, stores: Stores) -> None:
        if stage.base is not Base.EMPTY:
            for kind in stage.engines:
                self._load(stage, stores, kind)
            for kind in stage.engines:
                # By now others have been loaded, and most have come to rest.
                self._progress.begin(f"waiting until {kind.name} is at rest")
                stores.rest(kind)
        for cell in stage.cells:
            if cell.workload.starved is None:
                self._run_cell(cell, stores)
        for kind in stage.engines:
            self._progress.begin(f"counting {stage.base.value}: {kind.name}")
            if (wrong := stores.check_counts(kind)) is not None:
                self._show(replace(cell_of(wrong[0]), why=wrong[1], errors=1))
        # From here on nothing serves the stores that would have memory of its own.
        stores.end_serving()
        for cell in stage.cells:
            if cell.workload.starved is not None:
                self._run_cell(cell, stores)

    def _load(self, stage: Stage, stores: Stores, kind: type[Engine]) -> None:
        """Load a store; what goes wrong breaks all its cells."""
        self._progress.begin(f"loading {stage.base.value}: {kind.name}")
        started_s = now_s()
        cell = Cell(
            workload=f"load-{stage.base.value}",
            title=LOAD_TITLES.get(stage.base, ""),
            engine=kind.name,
            clients=1,
            durability=OS,
            unit="row",
        )
        try:
            tally = stores.load(kind)
            if tally.settled_s >= 0.1:
                cell = replace(cell, note=f"and {tally.settled_s:.1f} s to settle")
            cell = self._measured(cell, [tally], started_s)
        except CellFailure as error:
            cell = replace(cell, why=str(error), errors=1)
        if stage.base in LOAD_TITLES:
            self._show(cell)
        self._progress.end(stage.load_estimate_s / len(stage.engines))

    def _show(self, cell: Cell) -> None:
        self._ledger.write_cell(cell)
        self._progress.show(cell)

    # Cells

    def _run_cell(self, planned: PlannedCell, stores: Stores) -> None:
        cell = cell_of(planned)
        if planned.lacks is not None:
            # Once is enough to know it.
            if planned.round == 0:
                self._ledger.write_cell(replace(cell, why=planned.lacks))
            return
        self._progress.begin(f"{cell.workload}, {cell.clients} clients: {cell.engine}")
        try:
            if stores.base is Base.EMPTY:
                cell = self._run_fresh(planned, cell, stores)
            elif stores.base is Base.COUNTERS:
                cell = self._run_transactions(planned, cell, stores)
            elif planned.workload.starved is not None:
                cell = self._run_starved(planned, cell, stores)
            else:
                cell = self._run_loaded(planned, cell, stores)
        except CellUnable as error:
            cell = replace(cell, why=str(error))
        except (CellFailure, OSError, SystemExit) as error:
            cell = replace(cell, why=str(error), errors=1)
            stores.note_failure(planned.engine)
        self._show(cell)
        self._progress.end(planned.estimate_s)

    def _run_loaded(self, planned: PlannedCell, cell: Cell, stores: Stores) -> Cell:
        """Run a cell in the store that all cells of its stage share."""
        started_s = now_s()
        rows = stores.rows_of(planned.engine)
        tallies = self._crew.run(self._groups(planned, stores.place(planned.engine), rows))
        stores.note(planned, tallies)
        return self._measured(cell, tallies, started_s)

    def _run_fresh(self, planned: PlannedCell, cell: Cell, stores: Stores) -> Cell:
        """Run a cell in a store of its own, which is empty when it begins."""
        sequential = planned.workload.sequential
        with stores.fresh(planned.engine, sequential=sequential) as store:
            started_s = now_s()
            tallies = self._crew.run(self._groups(planned, store.place, store.rows))
            inserted = sum(tally.inserted for tally in tallies)
            check_count(self._crew, planned.engine, store.place, inserted)
        return self._measured(cell, tallies, started_s)

    def _run_transactions(self, planned: PlannedCell, cell: Cell, stores: Stores) -> Cell:
        """Run a cell, and see whether each transaction that was acknowledged is to be seen."""
        rows, place = stores.rows_of(planned.engine), stores.place(planned.engine)
        asked = (place, planned.workload.role.hot_keys, rows.value_bytes)
        before: int = self._crew.ask("versions", *asked)
        started_s = now_s()
        tallies = self._crew.run(self._groups(planned, place, rows))
        committed = sum(tally.committed for tally in tallies)
        added = self._crew.ask("versions", *asked) - before
        if added != committed:
            raise CellFailure(
                f"{committed:,} transactions were acknowledged, {added:,} are to be seen"
            )
        if retries := sum(tally.retries for tally in tallies):
            cell = replace(cell, note=f"{retries:,} attempts conflicted")
        return self._measured(cell, tallies, started_s)

    def _run_starved(self, planned: PlannedCell, cell: Cell, stores: Stores) -> Cell:
        """Run a cell with less memory than there is data, in processes of their own."""
        rows, kind, times = stores.rows_of(planned.engine), planned.engine, planned.workload.starved
        assert times is not None
        row_bytes = KEY_BYTES + rows.value_bytes
        bytes_max = rows.loaded * row_bytes // times
        if bytes_max < STARVED_BYTES_MIN:
            raise CellUnable(
                f"{bytes_max >> 20} MiB would not hold the clients: take"
                f" {STARVED_BYTES_MIN * times // row_bytes:,} keys or more"
            )
        place = stores.place(
            kind, memtable_bytes=STARVED_MEMTABLE_BYTES, cache_bytes=bytes_max // 2
        )
        for path in Path(place.folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                drop_pages(path)
        started_s = now_s()
        try:
            with MemoryGroup(f"bench-{kind.name}", bytes_max) as group:
                try:
                    with Crew() as alone:
                        tallies = alone.run(self._groups(planned, place, rows, group))
                finally:
                    # What is in the group has to end before it does.
                    kind.end(place.folder)
        except BudgetError as error:
            raise CellUnable(str(error)) from None
        cell = replace(cell, note=f"in {bytes_max >> 20} MiB of memory")
        return self._measured(cell, tallies, started_s)

    def _groups(
        self, planned: PlannedCell, place: Place, rows: Rows, group: MemoryGroup | None = None
    ) -> list[list[Task]]:
        """Return the tasks of each process: one of each client's, or all of them."""
        workload, scale, clients = planned.workload, self._plan.scale, planned.clients
        name = zlib.crc32(workload.name.encode())
        roles = [workload.role_of(client) for client in range(clients)]
        common = None if workload.rate_per_s is None else workload.rate_per_s / clients
        tasks = [
            Task(
                place=place,
                rows=rows,
                role=role,
                durability=role.durability or workload.durability,
                client=client,
                clients=clients,
                seed=(scale.seed, name, planned.round, clients, client),
                writers=workload.writes,
                writes_alone=sum(each.writes for each in roles) == 1,
                group=group,
                counts_rows=workload.unit == "row",
                warm_s=scale.warm_s if workload.warms else 0.0,
                seconds=scale.seconds * workload.length,
                rate_per_s=role.rate_per_s or common,
            )
            for client, role in enumerate(roles)
        ]
        return [[task] for task in tasks] if planned.engine.shared else [tasks]

    def _measured(self, cell: Cell, tallies: list[Tally], started_s: float) -> Cell:
        """Return a cell with its clients' figures, and write their histograms.

        Raises:  CellFailure, there is nothing to show.
        """
        latencies: dict[str, Histogram] = {}
        for tally in tallies:
            for name, histogram in tally.latencies.items():
                latencies.setdefault(name, Histogram()).merge(histogram)
        operations = sum(tally.operations for tally in tallies)
        rate = sum(tally.rate_per_s for tally in tallies)
        if operations == 0:
            raise CellFailure("nothing was done in the time")
        cell = replace(
            cell,
            # So that operations over seconds are the rate.
            seconds=operations / rate,
            operations=operations,
            rate_per_s=rate,
            verified=sum(tally.verified for tally in tallies),
            latency={name: latencies[name].summary() for name in sorted(latencies)},
        )
        return replace(cell, histogram=self._ledger.write_histograms(cell, latencies, started_s))


def cell_of(planned: PlannedCell) -> Cell:
    """Return a planned cell without its figures."""
    workload = planned.workload
    note = None
    if not planned.engine.shared and planned.clients > 1:
        note = f"{planned.clients} threads of one process"
    return Cell(
        workload=workload.name,
        title=workload.title,
        engine=planned.engine.name,
        clients=planned.clients,
        durability=workload.durability,
        loop="closed" if workload.rate_per_s is None else "open",
        target_per_s=workload.rate_per_s,
        round=planned.round,
        unit=workload.unit,
        note=note,
    )
