"""What a run will do, in which order, and about how long it takes.

Workloads that find the same rows share one load for each engine. Within a workload and a number of
clients the engines take turns, round by round (A-B-A-B), so that a machine that becomes slower or
faster meanwhile does so for all of them. Estimates are of a small machine; they are for the plan
and the progress bar alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ferrisdb.bench.engines import Engine, Ferris, FerrisSocket, Redis
from ferrisdb.bench.scale import Scale
from ferrisdb.bench.workloads import Base, Workload, adapt

CELL_S: Final = 0.15
CLIENT_S: Final = 0.02
"""What a cell, and each of its clients, take beside their time: opening, making operations."""

REST_S: Final = 0.15
"""What a store does behind writes before the next one's turn comes."""

SERVED_S: Final = 1.0
FRESH_S: Final = 0.2
"""Starting and ending a store that has a server, and one that has not."""

LOAD_US: Final = {
    "ferrisdb": (2.5, 7.0),
    "ferrisdb-socket": (4.0, 12.0),
    "redis": (4.0, 9.0),
    "lmdb": (8.0, 22.0),
    "rocksdict": (5.0, 16.0),
    "plyvel": (5.0, 20.0),
    "sqlite3": (14.0, 28.0),
    "diskcache": (40.0, 70.0),
    "null": (2.0, 2.0),
}
"""Time for a row of 100 and of 1,000 bytes to be made, written and compacted."""

STARVED_S: Final = 12.0
"""What a cell with little memory takes until that is in use."""


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell of the plan."""

    workload: Workload
    engine: type[Engine]
    clients: int
    round: int
    estimate_s: float

    @property
    def lacks(self) -> str | None:
        """Say why the engine can't do it; None: it can."""
        for ability in self.workload.abilities():
            if ability in self.engine.lacks:
                return self.engine.lacks[ability]
        return None


@dataclass(frozen=True, slots=True)
class Stage:
    """Cells that find the same rows, and the engines that are loaded for them."""

    base: Base
    engines: tuple[type[Engine], ...]
    cells: tuple[PlannedCell, ...]
    load_estimate_s: float

    @property
    def estimate_s(self) -> float:
        """About how long it takes."""
        return self.load_estimate_s + sum(cell.estimate_s for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    scale: Scale
    stages: tuple[Stage, ...]

    @property
    def estimate_s(self) -> float:
        """About how long it takes."""
        return sum(stage.estimate_s for stage in self.stages)

    @property
    def cells(self) -> Iterator[PlannedCell]:
        """Every cell, in order."""
        return (cell for stage in self.stages for cell in stage.cells)

    def without(self, engines: Container[type[Engine]]) -> Plan:
        """Return the plan without some engines."""
        stages = []
        for stage in self.stages:
            kept = tuple(kind for kind in stage.engines if kind not in engines)
            part = len(kept) / max(len(stage.engines), 1)
            cells = tuple(cell for cell in stage.cells if cell.engine not in engines)
            if cells:
                stages.append(Stage(stage.base, kept, cells, stage.load_estimate_s * part))
        return Plan(self.scale, tuple(stages))

    def lines(self) -> Iterator[str]:
        """Yield it as text."""
        scale = self.scale
        yield (
            f"{scale.keys:,} keys; rows of {scale.value_bytes} bytes, records of"
            f" {scale.record_bytes}; cells of {scale.seconds:g} s; seed {scale.seed}"
        )
        for stage in self.stages:
            names = ", ".join(kind.name for kind in stage.engines)
            yield f"{stage.base.value}: {names}; loaded in {minutes(stage.load_estimate_s)}"
            rows: dict[tuple[str, str, str], list[PlannedCell]] = {}
            for cell in stage.cells:
                workload = cell.workload
                key = (workload.name, workload.durability, loop_text(workload))
                rows.setdefault(key, []).append(cell)
            for (name, durability, loop), cells in rows.items():
                clients = ",".join(str(n) for n in dict.fromkeys(c.clients for c in cells))
                engines = len({cell.engine for cell in cells if cell.lacks is None})
                rounds = len({cell.round for cell in cells})
                took = sum(cell.estimate_s for cell in cells)
                yield (
                    f"  {name:22} {durability:5} {loop:8} {clients:>14} clients"
                    f" x {engines} engines x {rounds} rounds {minutes(took):>9}"
                    f"  {cells[0].workload.title}"
                )
        yield f"about {minutes(self.estimate_s)} in all"


def make(scale: Scale, chosen: Sequence[Workload], engines: Sequence[type[Engine]]) -> Plan:
    """Plan a run of these workloads on these engines."""
    adapted = [each for workload in chosen for each in adapt(workload, scale)]
    stages = []
    for base in Base:
        mine = [workload for workload in adapted if workload.base is base]
        if mine:
            stages.append(_stage(scale, base, mine, engines))
    return Plan(scale, tuple(stages))


def _stage(
    scale: Scale, base: Base, chosen: Sequence[Workload], engines: Sequence[type[Engine]]
) -> Stage:
    cells = []
    for workload in chosen:
        for clients in workload.clients:
            # How it scales is seen in one round.
            is_core = workload.core and clients == workload.clients[0]
            for turn in range(scale.rounds if is_core else 1):
                cells += [
                    _cell(scale, workload, kind, clients, turn)
                    for kind in engines
                    if _is_about(workload, kind, clients)
                ]
    # An engine that can do none of it need not be loaded.
    able = tuple(
        kind
        for kind in engines
        if any(cell.engine is kind and cell.lacks is None for cell in cells)
    )
    return Stage(base, able, tuple(cells), sum(_load_s(scale, base, kind) for kind in able))


def _is_about(workload: Workload, kind: type[Engine], clients: int) -> bool:
    if workload.engines is not None and kind.name not in workload.engines:
        return False
    if workload.thread_clients is not None and not kind.shared:
        return clients in workload.thread_clients
    return kind.scales or clients == workload.clients[0]


def _cell(
    scale: Scale, workload: Workload, kind: type[Engine], clients: int, turn: int
) -> PlannedCell:
    cell = PlannedCell(workload, kind, clients, turn, 0.0)
    if cell.lacks is not None:
        return cell
    estimate = scale.seconds * workload.length + CELL_S + CLIENT_S * clients
    estimate += scale.warm_s if workload.warms else 0.0
    if workload.writes:
        estimate += REST_S
    if workload.base is Base.EMPTY:
        estimate += start_s(kind)
    if workload.starved:
        estimate += STARVED_S
    return PlannedCell(workload, kind, clients, turn, estimate)


def _load_s(scale: Scale, base: Base, kind: type[Engine]) -> float:
    if base is Base.EMPTY:
        return 0.0
    small_us, large_us = LOAD_US.get(kind.name, LOAD_US["sqlite3"])
    if base is Base.COUNTERS:
        return max(scale.hot_keys) * small_us / 1e6 + start_s(kind)
    value_bytes = scale.value_bytes if base is Base.ROWS else scale.record_bytes
    row_us = small_us + (large_us - small_us) * max(value_bytes - 100, 0) / 900
    return scale.keys * row_us / 1e6 + start_s(kind)


def start_s(kind: type[Engine]) -> float:
    """Estimate what starting a store takes."""
    return SERVED_S if issubclass(kind, Ferris | FerrisSocket | Redis) else FRESH_S


def loop_text(workload: Workload) -> str:
    """Say whether a workload's loop is closed, or at which rate it is open."""
    return "closed" if workload.rate_per_s is None else f"{workload.rate_per_s:g}/s"


def minutes(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
