"""Decide without a MANIFEST which tables make up a database, and in which level each may stand.

What each table says of its origin (kernel/properties.py, TableOrigin) tells what replaced what:

C1  What a table calls retired is out of the version for good, and so is what any edit removed.
C2  The inputs of a job are removed only once its edit is synced. So a job whose inputs are not
    all there was installed, and what is left of its inputs is not to be read any more: a deleted
    key might come back from it. The same holds where a later table or an edit names an output.
C3  Otherwise the inputs are all there. Are they whole, they stand and the outputs go: both say
    the same. Is one of them damaged, both stay. What an earlier repair wrote goes in any case.
C4  A flushed table stands for its WAL file. Is it damaged, not yet replaced, and the file still
    there, the file stands for it: also where it was done with, for it holds the same.

The order of the tables: of two whose keys overlap, the one whose sequences are all higher is
above. Where sequences interleave, no order of whole tables can be read off: such tables are
merged, entry by entry. Sequences left out read as 0; between two such entries of one key the
higher file number decides, for nothing older than a left-out one was live beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ferrisdb.engine.survey import Survey, TableFinding
from ferrisdb.format.edit import LEVEL_COUNT, TableMeta


@dataclass(slots=True)
class Choice:
    """Which files count, and why the others don't."""

    tables: list[TableFinding] = field(default_factory=list)
    wal_numbers: list[int] = field(default_factory=list)
    #: File name to reason.
    passed_over: dict[str, str] = field(default_factory=dict)


def choose(survey: Survey) -> Choice:
    """Return the files that a database without a trusted MANIFEST is made of (C1 to C4)."""
    present = survey.present()
    with_origin = [t for t in survey.tables.values() if t.properties is not None]
    gone, installed, log_number = _from_edits(survey)
    named: set[int] = set()
    jobs: dict[tuple[int, ...], list[TableFinding]] = {}
    for table in with_origin:
        origin = table.properties.origin  # type: ignore[union-attr]  # filtered above
        gone.update(origin.retired)
        named.update(origin.inputs)
        log_number = max(log_number, origin.log_number)
        if origin.inputs:
            jobs.setdefault(origin.inputs, []).append(table)
    installed |= named | gone
    settled = frozenset(gone)
    choice = Choice()
    dropped: dict[int, str] = {}
    for inputs, outputs in jobs.items():
        done = any(n not in present or n in settled for n in inputs)
        done = done or any(table.number in installed for table in outputs)
        _judge(survey, done, inputs, outputs, gone, dropped)
    wanted = _logs_of_damaged_tables(survey, gone, dropped)
    for number, table in sorted(survey.tables.items()):
        if number in gone:
            choice.passed_over[table.name] = "out of the database: later tables replaced it"
        elif number in dropped:
            choice.passed_over[table.name] = dropped[number]
        else:
            choice.tables.append(table)
    for number, one in sorted(survey.wals.items()):
        if number not in wanted and (number in gone or number < log_number):
            choice.passed_over[one.name] = "flushed: tables hold what it held"
        else:
            choice.wal_numbers.append(number)
    return choice


def _from_edits(survey: Survey) -> tuple[set[int], set[int], int]:
    gone: set[int] = set()
    installed: set[int] = set()
    log_number = 0
    for manifest in survey.manifests.values():
        for edit in manifest.edits:
            added = {table.number for table in edit.added}
            installed |= added
            gone.update(number for _, number in edit.removed if number not in added)
            log_number = max(log_number, edit.log_number or 0)
    return gone, installed, log_number


def _judge(
    survey: Survey,
    done: bool,
    inputs: tuple[int, ...],
    outputs: list[TableFinding],
    gone: set[int],
    dropped: dict[int, str],
) -> None:
    """Decide between the inputs and the outputs of one job."""
    by_repair = all(t.properties is not None and t.properties.origin.is_repair for t in outputs)
    if done:
        gone.update(inputs)
    elif by_repair:
        dropped.update((t.number, "left by a repair that did not finish") for t in outputs)
    elif inputs[0] in survey.wals:
        gone.update(inputs)
    elif all(n in survey.tables and survey.tables[n].error is None for n in inputs):
        dropped.update((t.number, "its inputs are all there") for t in outputs)


def _logs_of_damaged_tables(survey: Survey, gone: set[int], dropped: dict[int, str]) -> set[int]:
    """Return the WAL files that stand for damaged tables, which are dropped (C4)."""
    wanted: set[int] = set()
    for number, table in survey.tables.items():
        if table.error is None or table.properties is None or number in gone or number in dropped:
            continue
        inputs = table.properties.origin.inputs
        one = survey.wals.get(inputs[0]) if len(inputs) == 1 else None
        if one is not None and one.header is not None:
            wanted.add(one.number)
            dropped[number] = f"damaged, but {one.name} is still there"
    return wanted


@dataclass(slots=True)
class Unit:
    """Tables that stand together: one, or several that are to be merged."""

    tables: list[TableMeta]
    level: int = 0
    smallest: bytes = b""
    #: None: no bound.
    largest: bytes | None = b""
    min_seq: int = 0
    max_seq: int = 0

    def __post_init__(self) -> None:
        self.smallest = min(table.smallest for table in self.tables)
        open_end = any(table.unbounded for table in self.tables)
        self.largest = None if open_end else max(table.largest for table in self.tables)
        self.min_seq = min(table.min_seq for table in self.tables)
        self.max_seq = max(table.max_seq for table in self.tables)


def _overlap(a: Unit, b: Unit) -> bool:
    return (a.largest is None or b.smallest <= a.largest) and (
        b.largest is None or a.smallest <= b.largest
    )


def _interleave(a: Unit, b: Unit) -> bool:
    return a.min_seq <= b.max_seq and b.min_seq <= a.max_seq


def place(tables: Iterable[TableMeta]) -> list[Unit]:
    """Return units in which every read is right, each with its level; oldest first.

    Cost: compares tables that overlap, pair by pair.
    """
    units = [Unit([table]) for table in tables]
    while (joined := _join_once(units)) is not None:
        units = joined
    units.sort(key=lambda unit: unit.max_seq)
    for i, unit in enumerate(units):
        below = [older.level for older in units[:i] if _overlap(older, unit)]
        unit.level = max(min(below, default=LEVEL_COUNT) - 1, 0)
    return units


def _join_once(units: Sequence[Unit]) -> list[Unit] | None:
    """Join units that overlap and interleave; None if there are none."""
    ordered = sorted(units, key=lambda unit: unit.smallest)
    parent = list(range(len(ordered)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    found = False
    for i, left in enumerate(ordered):
        for j in range(i + 1, len(ordered)):
            right = ordered[j]
            if left.largest is not None and right.smallest > left.largest:
                break
            if _interleave(left, right) and root(i) != root(j):
                parent[root(j)] = root(i)
                found = True
    if not found:
        return None
    groups: dict[int, list[TableMeta]] = {}
    for i, unit in enumerate(ordered):
        groups.setdefault(root(i), []).extend(unit.tables)
    return [Unit(tables) for tables in groups.values()]
