"""The workloads: YCSB's, db_bench's, and what else a service wants to know of its store.

Source: YCSB core workloads A to F (Cooper et al., 2010); db_bench of LevelDB and RocksDB, whose
names these keep. What is changed: a record of YCSB is one value, read and written whole; an
operation of readseq reads a hundred rows; keys are 16 bytes everywhere.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ferrisdb.bench.engines import OS, SYNC
from ferrisdb.bench.operations import SCANS, Kind, Role, only
from ferrisdb.bench.scale import Scale


class Base(StrEnum):
    """What is in a store when a workload begins."""

    #: Small rows, loaded once for all workloads.
    ROWS = "rows"
    #: Nothing, for each cell anew.
    EMPTY = "empty"
    #: The keys that transactions change.
    COUNTERS = "counters"
    #: YCSB's records, loaded once for all workloads.
    RECORDS = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Something that clients do, of which there is a cell for each engine and number of clients."""

    name: str
    title: str
    base: Base
    role: Role
    #: What the first of several clients does instead.
    first: Role | None = None
    clients: tuple[int, ...] = (1,)
    #: The same for `--quick`; () leaves the workload out there.
    quick_clients: tuple[int, ...] = ()
    #: Of those, the ones that make sense for clients that are threads; None: all.
    thread_clients: tuple[int, ...] | None = None
    durability: str = OS
    #: It makes sense with this durability alone, or writes nothing.
    fixed_durability: bool = False
    #: Abilities that an engine must have.
    needs: tuple[str, ...] = ()
    unit: str = "operation"
    #: Keys are in the order of their numbers.
    sequential: bool = False
    #: Measured as often as `Scale.rounds` says, and not once.
    core: bool = False
    #: Of the scale's seconds.
    length: float = 1.0
    #: False: what it does can't be done twice.
    warms: bool = True
    #: All clients together, in an open loop; None: closed.
    rate_per_s: float | None = None
    #: None: all. Otherwise those that it is about.
    engines: tuple[str, ...] | None = None
    #: Memory is so many times less than the data.
    starved: int | None = None

    def role_of(self, client: int) -> Role:
        """Return what a client does."""
        return self.first if client == 0 and self.first is not None else self.role

    @property
    def writes(self) -> bool:
        """Whether any client writes."""
        return self.role.writes or (self.first is not None and self.first.writes)

    def abilities(self) -> tuple[str, ...]:
        """Return what an engine must be able to do."""
        roles = [self.role] if self.first is None else [self.role, self.first]
        scans = any(not SCANS.isdisjoint(role.kinds) for role in roles)
        return self.needs + (("scan",) if scans else ())


GROUPS: Final = {
    "db_bench": "fillseq fillrandom fillsync overwrite readrandom readmissing readseq readreverse"
    " seekrandom readwhilewriting deleterandom",
    "ycsb": "ycsb-*",
    "scaling": "readrandom durable",
    "transactions": "transactions-*",
    "mixes": "durability-mix sync-while-compacting soak",
}
"""Names for several workloads at once."""

DURABLE_CLIENTS: Final = (1, 2, 4, 8, 16, 32)
OPEN_RATE_PER_S: Final = 4000.0
SYNC_RATE_PER_S: Final = 100.0
STARVED_ENGINES: Final = ("ferrisdb", "lmdb", "rocksdict")
STARVED_TIMES: Final = 4

READ, UPDATE, INSERT, SCAN, MODIFY = Kind.READ, Kind.UPDATE, Kind.INSERT, Kind.SCAN, Kind.MODIFY


def workloads(scale: Scale) -> list[Workload]:
    """Return all workloads in the order in which they run."""
    return [
        *_reads_of_rows(scale),
        *_writes_of_rows(scale),
        *_fills(),
        *_transactions(scale),
        *_ycsb(scale),
        *_mixed(scale),
    ]


def choose(scale: Scale, patterns: Sequence[str]) -> list[Workload]:
    """Return the workloads of these names, groups or patterns; all of them where there is none.

    Raises:  ValueError, a pattern fits none.
    """
    every = workloads(scale)
    if not patterns:
        return [each for each in every if each.quick_clients or not scale.quick]
    wanted: set[str] = set()
    for pattern in patterns:
        names = GROUPS.get(pattern, pattern).split()
        found = {each.name for name in names for each in every if fnmatch.fnmatch(each.name, name)}
        if not found:
            known = ", ".join([*GROUPS, *(each.name for each in every)])
            raise ValueError(f"no workload {pattern!r}; there are {known}")
        wanted |= found
    return [each for each in every if each.name in wanted]


def adapt(workload: Workload, scale: Scale) -> list[Workload]:
    """Return a workload as the scale wants it, once for each durability."""
    clients = workload.quick_clients if scale.quick and workload.quick_clients else workload.clients
    if scale.clients is not None and len(workload.clients) == 1:
        least = 1 if workload.first is None else 2
        clients = tuple(dict.fromkeys(max(count, least) for count in scale.clients))
    elif scale.clients is not None:
        clients = scale.clients
    rate = workload.rate_per_s if scale.rate_per_s is None else scale.rate_per_s
    made = replace(workload, clients=clients, rate_per_s=rate)
    if workload.fixed_durability or not workload.writes or scale.durabilities is None:
        return [made]
    return [replace(made, durability=durability) for durability in scale.durabilities]


def _reads_of_rows(scale: Scale) -> list[Workload]:
    choice = scale.distribution or "uniform"
    if choice == "latest":
        choice = "uniform"  # nothing is inserted, so nothing is late
    told = f"{choice} keys"

    def reads(name: str, title: str, kind: Kind, **changed: object) -> Workload:
        role = Role(
            shares=only(kind),
            choice=choice,
            theta=scale.theta,
            scan_rows=scale.seek_rows,
            scans_vary=False,
        )
        made = Workload(
            name=name, title=title, base=Base.ROWS, role=role, quick_clients=(1,), core=True
        )
        return replace(made, **changed)  # type: ignore[arg-type]

    return [
        reads("readrandom", f"get, {told}", READ, clients=(1, 2, 4), thread_clients=(1, 2)),
        reads(
            "readmissing", "get of keys that are not there", Kind.MISS, core=False, quick_clients=()
        ),
        reads("seekrandom", f"range of {scale.seek_rows} rows from a random key", SCAN),
        reads("readseq", "all rows in order", Kind.NEXT_ROWS, unit="row", core=False),
        reads(
            "readreverse",
            "all rows backwards",
            Kind.PREVIOUS_ROWS,
            unit="row",
            core=False,
            quick_clients=(),
        ),
    ]


def _writes_of_rows(scale: Scale) -> list[Workload]:
    update = Role(shares=only(UPDATE), theta=scale.theta)
    made = Workload(name="", title="", base=Base.ROWS, role=update)
    return [
        replace(
            made,
            name="overwrite",
            title="put of random keys that are there",
            quick_clients=(1,),
            core=True,
        ),
        replace(
            made,
            name="readwhilewriting",
            title="get of random keys while one client writes",
            role=Role(shares=only(READ)),
            first=update,
            clients=(3,),
        ),
        replace(
            made,
            name="durable",
            title="put of random keys, each on the disk when it is done",
            clients=DURABLE_CLIENTS,
            thread_clients=(1, 8),
            quick_clients=(1, 8),
            durability=SYNC,
            fixed_durability=True,
        ),
        replace(
            made,
            name="durability-mix",
            title='one client puts with "sync" among others with "os"',
            first=Role(shares=only(UPDATE), durability=SYNC, label="sync"),
            role=Role(shares=only(UPDATE), durability=OS, label="os"),
            clients=(4,),
            quick_clients=(4,),
            durability=SYNC,
            fixed_durability=True,
            needs=("mix",),
        ),
        replace(
            made,
            name="sync-while-compacting",
            title=f'{SYNC_RATE_PER_S:g} puts a second with "sync" beside batches of 1,000 rows',
            first=Role(
                shares=only(UPDATE), durability=SYNC, label="sync", rate_per_s=SYNC_RATE_PER_S
            ),
            role=Role(shares=only(Kind.BATCH), durability=OS, label="os"),
            clients=(2,),
            durability=SYNC,
            fixed_durability=True,
            needs=("mix",),
            length=2.0,
        ),
        replace(
            made,
            name="deleterandom",
            title="delete of random keys that are there",
            role=Role(shares=only(Kind.DELETE)),
            warms=False,
        ),
    ]


def _fills() -> list[Workload]:
    insert = Role(shares=only(INSERT))
    made = Workload(name="", title="", base=Base.EMPTY, role=insert, warms=False)
    return [
        replace(made, name="fillseq", title="put of new keys in order", sequential=True),
        replace(
            made,
            name="fillrandom",
            title="put of new keys in random order",
            quick_clients=(1,),
        ),
        replace(
            made,
            name="fillsync",
            title="put of new keys in random order, each on the disk when it is done",
            durability=SYNC,
            fixed_durability=True,
        ),
    ]


def _transactions(scale: Scale) -> list[Workload]:
    return [
        Workload(
            name=f"transactions-{hot_keys}",
            title=f"read and replace {_one_of(hot_keys)}, as a transaction",
            base=Base.COUNTERS,
            role=Role(shares=only(Kind.TRANSACTION), hot_keys=hot_keys),
            clients=(4,),
            quick_clients=(4,) if hot_keys == 100 else (),
            needs=("transactions",),
        )
        for hot_keys in scale.hot_keys
    ]


def _one_of(values: int) -> str:
    return "the same value" if values == 1 else f"one of {values:,} values"


def _ycsb(scale: Scale) -> list[Workload]:
    choice = scale.distribution or "zipfian"

    def ycsb(letter: str, told: str, *shares: tuple[Kind, float], by: str = choice) -> Workload:
        role = Role(shares=shares, choice=by, theta=scale.theta, scan_rows=scale.scan_rows)
        return Workload(
            name=f"ycsb-{letter}",
            title=f"YCSB {letter.upper()}: {told}, {by}",
            base=Base.RECORDS,
            role=role,
            clients=(2,),
            quick_clients=(2,) if letter in "abe" else (),
            core=letter in "ace",
        )

    made = [
        ycsb("a", "half reads, half updates", (READ, 0.5), (UPDATE, 0.5)),
        ycsb("b", "95 % reads, 5 % updates", (READ, 0.95), (UPDATE, 0.05)),
        ycsb("c", "reads", (READ, 1.0)),
        ycsb("d", "95 % reads, 5 % inserts", (READ, 0.95), (INSERT, 0.05), by="latest"),
        ycsb(
            "e",
            f"95 % scans of up to {scale.scan_rows} rows, 5 % inserts",
            (SCAN, 0.95),
            (INSERT, 0.05),
        ),
        ycsb("f", "half reads, half read-modify-writes", (READ, 0.5), (MODIFY, 0.5)),
    ]
    at_a_rate = replace(made[0], core=False, rate_per_s=OPEN_RATE_PER_S)
    return [*made, at_a_rate]


def _mixed(scale: Scale) -> list[Workload]:
    shares = ((READ, 0.6), (Kind.MISS, 0.05), (UPDATE, 0.2), (INSERT, 0.1), (MODIFY, 0.05))
    choice = scale.distribution or "zipfian"
    return [
        Workload(
            name="soak",
            title="60 % reads, 5 % of missing keys, 20 % updates, 10 % inserts, 5 % modifications",
            base=Base.RECORDS,
            role=Role(shares=shares, choice=choice, theta=scale.theta),
            clients=(4,),
            length=2.0,
        ),
        Workload(
            name="starved",
            title=f"get of random keys with {STARVED_TIMES} times less memory than data",
            base=Base.RECORDS,
            role=Role(shares=only(READ)),
            engines=STARVED_ENGINES,
            starved=STARVED_TIMES,
            length=2.0,
        ),
    ]
