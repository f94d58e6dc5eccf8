"""Say which tables make up the database: a version, and what an edit makes of it.

V1  Level 0 is ordered newest first, by highest sequence number, then file number; its tables may
    overlap.
V2  In every other level tables are ordered by smallest key and do not overlap.
V3  A file number stands at most once in a version.
V4  A version never changes; `apply` makes another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from ferrisdb.errors import CorruptionError
from ferrisdb.format.edit import LEVEL_COUNT, TableMeta, VersionEdit

_EMPTY: tuple[tuple[TableMeta, ...], ...] = ((),) * LEVEL_COUNT


@dataclass(frozen=True, slots=True)
class Version:
    """The tables by level (V1, V2)."""

    levels: tuple[tuple[TableMeta, ...], ...] = field(default=_EMPTY)

    def tables(self) -> tuple[TableMeta, ...]:
        """Return all tables, level 0 first."""
        return tuple(table for level in self.levels for table in level)

    def numbers(self) -> frozenset[int]:
        """Return the file numbers of all tables."""
        return frozenset(table.number for table in self.tables())

    def apply(self, edit: VersionEdit, path: str = "MANIFEST", offset: int = 0) -> Version:
        """Return the version that the edit leads to; removals come before additions.

        Shape:  path and offset say in an error where the edit stands.
        Raises: CorruptionError where the edit does not fit this version.
        """
        if not edit.added and not edit.removed:
            return self
        levels = [{table.number: table for table in level} for level in self.levels]
        for level, number in edit.removed:
            if levels[level].pop(number, None) is None:
                raise CorruptionError(path, offset, f"table {number} in level {level}", "none")
        for table in edit.added:
            if any(table.number in level for level in levels):
                raise CorruptionError(path, offset, f"table {table.number} once", "twice")
            levels[table.level][table.number] = table
        ordered = [tuple(sorted(levels[0].values(), key=_newest_first))]
        for level_index, by_number in enumerate(levels[1:], start=1):
            tables = tuple(sorted(by_number.values(), key=lambda table: table.smallest))
            for left, right in pairwise(tables):
                if left.unbounded or left.largest > right.smallest:
                    raise CorruptionError(
                        path,
                        offset,
                        f"tables of level {level_index} that do not overlap",
                        f"{left.number} and {right.number}",
                    )
            ordered.append(tables)
        return Version(tuple(ordered))

    def as_edit(self) -> tuple[TableMeta, ...]:
        """Return what a snapshot edit adds to make this version from nothing."""
        return self.tables()


def _newest_first(table: TableMeta) -> tuple[int, int]:
    return -table.max_seq, -table.number
