"""Pick the next compaction: which tables to merge, and into which level.

Pure: a version, the options and what is known of snapshots go in, a `Compaction` comes out; the
coordinator has it carried out and logs the edit that `Compaction.edit` makes of its result.

Level targets are dynamic: the last level may be as large as it is; each level above may have a
tenth of the one below; the first level that may have anything by that rule (the base) receives
level 0. So nine tenths of the data lie in one level, whatever the database's size. A delete
weighs as much as the entry that it hides.

What is picked, in this order: the level that is furthest over its target; a table of which a
quarter is dead; and when nothing has been flushed for a while ("calm"), what lies above the last
level where that is more than a tenth of it, level 0 included. So a tree at rest has at most a
tenth of its data in places where it may be shadowed, and a busy one does not rewrite a level for
each flush.

P1  What is in a level is newer, key by key, than what lies in the levels below. So tables of
    level 0 go down together with every older one that overlaps them, and whatever goes down takes
    along all that it overlaps in the level it goes to.
P2  `bottom` says that no table below the output level overlaps the inputs: nothing is hidden by
    what this compaction drops.
P3  A table's largest key may be the exclusive end of a range tombstone. Ranges are compared as if
    it were inside: at worst a table too many is merged.

Source: LevelDB's compaction; RocksDB's level_compaction_dynamic_level_bytes and its compensated
file sizes (theirs weigh a delete as two average values). Ours: calm, and the dead quarter, which
counts deletes, shadowed versions and expired entries; compactions of a range by hand go down in
bounded steps instead of level by level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from ferrisdb.engine.version import Version
from ferrisdb.format.edit import LEVEL_COUNT, TableMeta, VersionEdit

LAST_LEVEL: Final = LEVEL_COUNT - 1
FANOUT: Final = 10
#: Bytes of the level below the output that one output table may overlap, in tables.
GRANDPARENT_TABLES: Final = 10
#: Tables of one level that one step of a compaction by hand takes.
RANGE_STEP_TABLES: Final = 8
#: A table of which this part is dead is rewritten as soon as that can go: a quarter
#: (the builder's quarter_expires_us is the same quarter).
DEAD_PART: Final = 4


@dataclass(frozen=True, slots=True)
class PickOptions:
    """The shape of the tree."""

    #: Tables of level 0 from which on they are merged down.
    level0_count: int = 6
    #: The base level's target lies between this and a tenth of it.
    base_bytes: int = 256 << 20
    #: Size at which an output table ends.
    table_bytes: int = 64 << 20
    #: What the hash indexes of all tables may take before bottom tables get Bloom filters.
    index_bytes: int = 4 << 30


#: Bytes of hash index for each key: 64 for 9 on average.
INDEX_BYTES_PER_KEY = 64 / 9


def wants_filter(version: Version, compaction: Compaction, options: PickOptions) -> bool:
    """Tell whether a compaction's outputs are to have Bloom filters instead of hash indexes.

    Only at the bottom, where most keys lie and few lookups that miss get to.
    """
    entries = sum(table.entry_count for table in version.tables())
    return compaction.bottom and entries * INDEX_BYTES_PER_KEY > options.index_bytes


@dataclass(frozen=True, slots=True)
class Compaction:
    """Tables to be merged into one level.

    Shape: inputs, level 0 first and newest first there, then by level and key; splits, keys
           ascending at which an output table has to end.
    """

    inputs: tuple[TableMeta, ...]
    output_level: int
    bottom: bool
    splits: tuple[bytes, ...] = ()
    #: The one input goes down as it is.
    is_move: bool = False

    @property
    def start_level(self) -> int:
        """The level that this compaction is to make smaller."""
        return self.inputs[0].level

    @property
    def input_bytes(self) -> int:
        """Size of the inputs together."""
        return sum(table.file_bytes for table in self.inputs)

    def moved(self) -> tuple[TableMeta, ...]:
        """Return what the inputs are in the output level, for a move."""
        return tuple(replace(table, level=self.output_level) for table in self.inputs)

    def edit(self, outputs: Iterable[TableMeta]) -> VersionEdit:
        """Return the edit that puts the outputs in the inputs' place."""
        return VersionEdit(
            added=tuple(outputs),
            removed=tuple((table.level, table.number) for table in self.inputs),
        )


@dataclass(frozen=True, slots=True)
class RangeJob:
    """How far the compaction of a range by hand has come.

    Shape: start and end, stored keys, end None for no bound; first_number, a file number above
           those of all tables that it is to rewrite; behind, the smallest key of the last table
           taken in `level`, None before the first.
    """

    start: bytes
    end: bytes | None
    first_number: int
    level: int = 0
    behind: bytes | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Where level 0 goes, and how large each level may be."""

    base_level: int
    level_bytes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A version's levels in numbers.

    Shape: weights, bytes of each level, with what its deletes hide; scores, how far each level is
           over its target: from 1 on it is to be compacted.
    """

    targets: Targets
    weights: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def debt_bytes(self) -> int:
        """How many bytes have to go down until no level is over its target."""
        incoming = self.weights[0] if self.scores[0] >= 1 else 0.0
        debt = incoming
        # The levels between have nothing.
        for level in range(self.targets.base_level, LAST_LEVEL):
            size = self.weights[level] + incoming
            incoming = max(0.0, size - self.targets.level_bytes[level])
            debt += incoming
        return int(debt)


def targets(version: Version, options: PickOptions) -> Targets:
    """Return the base level and the levels' targets; the last level has none."""
    sizes = [sum(table.file_bytes for table in level) for level in version.levels]
    first_used = next((n for n in range(1, LAST_LEVEL) if sizes[n]), LAST_LEVEL)
    base, size = LAST_LEVEL, float(sizes[LAST_LEVEL])
    while base > 1 and (size > options.base_bytes or base > first_used):
        base -= 1
        size /= FANOUT
    wanted = [float("inf")] * LEVEL_COUNT
    size = float(sizes[LAST_LEVEL])
    for level in range(LAST_LEVEL - 1, base - 1, -1):
        size /= FANOUT
        wanted[level] = max(size, options.base_bytes / FANOUT)
    return Targets(base, tuple(wanted))


def shape(version: Version, options: PickOptions) -> Shape:
    """Weigh a version's levels."""
    wanted = targets(version, options)
    last = version.levels[LAST_LEVEL]
    last_count = sum(table.entry_count for table in last)
    entry_bytes = sum(table.file_bytes for table in last) / last_count if last_count else 0.0
    weights = tuple(
        sum(table.file_bytes for table in tables)
        + entry_bytes * sum(table.delete_count for table in tables)
        for tables in version.levels
    )
    # Merging level 0 rewrites its base: not before there is as much to merge, or many tables.
    base_bytes = max(options.base_bytes, weights[wanted.base_level])
    level0 = max(len(version.levels[0]) / options.level0_count, weights[0] / base_bytes)
    rest = [weight / wanted.level_bytes[level] for level, weight in enumerate(weights)]
    return Shape(wanted, weights, (level0, *rest[1:]))


def pick(
    version: Version,
    options: PickOptions,
    *,
    cursors: Mapping[int, bytes],
    gc_floor: int,
    expired_us: int = 0,
    is_calm: bool = False,
) -> Compaction | None:
    """Return the most urgent compaction, None if the tree has the shape it should have.

    Shape: cursors, by level the key behind which the next table is looked for: the smallest key
           of the level's last pick; expired_us, what expired by then may go; is_calm, nothing
           was flushed for a while.
    """
    found = shape(version, options)
    level = max(range(LAST_LEVEL), key=lambda n: found.scores[n])
    if found.scores[level] < 1:
        dead = _with_dead(version, options, gc_floor, expired_us)
        if dead is not None or not is_calm:
            return dead
        above = sum(found.weights[:LAST_LEVEL])
        if above * FANOUT <= found.weights[LAST_LEVEL]:
            return None
        level = next(n for n in range(LAST_LEVEL) if version.levels[n])
    if level == 0:
        return _from_level0(version, options, version.levels[0][-1], found.targets.base_level)
    tables = version.levels[level]
    behind = cursors.get(level, b"")
    table = next((t for t in tables if t.smallest > behind), tables[0])
    return _down(version, options, (table,), level + 1)


def pick_range(
    version: Version, options: PickOptions, job: RangeJob
) -> tuple[Compaction, RangeJob] | None:
    """Return the next step of a compaction by hand and how far it will have come; None: done.

    It goes from level 0 to the deepest level that has anything of the range, which is rewritten
    last where that has not happened on the way.
    """
    old = [
        table
        for table in version.levels[0]
        if table.number < job.first_number and _touches(table, job.start, job.end)
    ]
    if job.level == 0 and old:
        base = targets(version, options).base_level
        return _from_level0(version, options, old[-1], base, may_move=False), job
    used = [n for n in range(1, LEVEL_COUNT) if _within(version.levels[n], job)]
    if not used:
        return None
    goal = used[-1]
    behind = job.behind if job.level else None
    for level in range(max(job.level, 1), goal + 1):
        tables = [
            t for t in _within(version.levels[level], job) if behind is None or t.smallest > behind
        ]
        if level == goal:
            # Neighbours only: what lies between two tables would overlap what they become.
            while tables and tables[0].number >= job.first_number:
                tables.pop(0)
            tables = list(takewhile(lambda t: t.number < job.first_number, tables))
        if tables:
            taken = _limited(tables, RANGE_STEP_TABLES * options.table_bytes)
            step = _down(version, options, taken, min(level + 1, goal))
            return step, replace(job, level=level, behind=taken[-1].smallest)
        behind = None
    return None


def _from_level0(
    version: Version,
    options: PickOptions,
    seed: TableMeta,
    base: int,
    *,
    may_move: bool = True,
) -> Compaction:
    chosen = {seed.number}
    while True:
        hull = [t for t in version.levels[0] if t.number in chosen]
        more = {t.number for t in overlapping(version.levels[0], hull)}
        if more == chosen and len(hull) == 1 and hull[0].file_bytes * 4 < options.table_bytes:
            # One by one, small tables of ascending keys would stay small for ever.
            more = {t.number for t in version.levels[0]}
        if more == chosen:
            return _down(version, options, tuple(hull), base, may_move=may_move)
        chosen = more


def _down(
    version: Version,
    options: PickOptions,
    tables: Sequence[TableMeta],
    output_level: int,
    *,
    may_move: bool = True,
) -> Compaction:
    """Return the compaction of a level's tables with what they overlap in the output level."""
    same_level = tables[0].level == output_level
    below = [] if same_level else overlapping(version.levels[output_level], tables)
    inputs = (*tables, *below)
    deeper = version.levels[output_level + 1 :]
    bottom = not any(overlapping(level, inputs) for level in deeper)
    grandparents = overlapping(deeper[0], inputs) if deeper else []
    limit = GRANDPARENT_TABLES * options.table_bytes
    is_move = (
        may_move
        and not same_level
        and len(inputs) == 1
        and sum(t.file_bytes for t in grandparents) <= limit
        and not (bottom and _is_dead(tables[0]))
    )
    return Compaction(inputs, output_level, bottom, _splits(grandparents, limit), is_move)


def _with_dead(
    version: Version, options: PickOptions, gc_floor: int, expired_us: int
) -> Compaction | None:
    # Written while a snapshot needed it, moved here, or expired since. What the rewriting leaves
    # has no such quarter, so a table is picked for this once a quarter.
    for level, tables in enumerate(version.levels[1:], start=1):
        for table in tables:
            if table.max_seq <= gc_floor and _is_dead(table, expired_us):
                step = _down(version, options, (table,), level)
                if step.bottom:
                    return step
    return None


def _is_dead(table: TableMeta, expired_us: int = 0) -> bool:
    dead = table.delete_count + table.older_count
    return (
        dead * DEAD_PART > table.entry_count
        or table.range_delete_count > 0
        or 0 < table.quarter_expires_us <= expired_us
    )


def _splits(grandparents: Sequence[TableMeta], limit: int) -> tuple[bytes, ...]:
    found: list[bytes] = []
    passed = 0
    for table in grandparents:
        if passed and passed + table.file_bytes > limit:
            found.append(table.smallest)
            passed = 0
        passed += table.file_bytes
    return tuple(found)


def _limited(tables: Sequence[TableMeta], bytes_max: int) -> tuple[TableMeta, ...]:
    taken: list[TableMeta] = []
    total = 0
    for table in tables:
        if taken and total + table.file_bytes > bytes_max:
            break
        taken.append(table)
        total += table.file_bytes
    return tuple(taken)


def _within(tables: Iterable[TableMeta], job: RangeJob) -> list[TableMeta]:
    return [table for table in tables if _touches(table, job.start, job.end)]


def _touches(table: TableMeta, start: bytes, end: bytes | None) -> bool:
    return (table.unbounded or table.largest >= start) and (end is None or table.smallest < end)


def overlapping(tables: Iterable[TableMeta], others: Sequence[TableMeta]) -> list[TableMeta]:
    """Return the tables that overlap the range from the lowest to the highest key of others (P3).

    Shape: others, one at least.
    """
    low = min(table.smallest for table in others)
    high = max(table.largest for table in others)
    unbounded = any(table.unbounded for table in others)
    return [
        table
        for table in tables
        if (table.unbounded or table.largest >= low) and (unbounded or table.smallest <= high)
    ]
