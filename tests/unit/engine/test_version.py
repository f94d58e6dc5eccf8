"""Versions: what an edit makes of one, and which edits don't fit."""

from __future__ import annotations

import pytest

from ferrisdb.engine.version import Version
from ferrisdb.errors import CorruptionError
from ferrisdb.format.edit import TableMeta, VersionEdit


def table(number: int, level: int, smallest: bytes, largest: bytes, max_seq: int = 1) -> TableMeta:
    return TableMeta(level, number, 100, 1, smallest, largest, 1, max_seq)


def add(*tables: TableMeta) -> VersionEdit:
    return VersionEdit(added=tables)


def test_level_0_is_newest_first_and_others_by_key() -> None:
    version = Version().apply(
        add(
            table(5, 0, b"a", b"z", 9),
            table(6, 0, b"a", b"z", 20),
            table(7, 1, b"m", b"p"),
            table(8, 1, b"a", b"m"),
        )
    )
    assert [t.number for t in version.levels[0]] == [6, 5]
    assert [t.number for t in version.levels[1]] == [8, 7]
    assert version.numbers() == {5, 6, 7, 8}
    assert Version().apply(add(*version.as_edit())) == version


def test_a_version_never_changes() -> None:
    before = Version().apply(add(table(5, 0, b"a", b"z")))
    after = before.apply(VersionEdit(removed=((0, 5),), added=(table(5, 1, b"a", b"z"),)))
    assert [len(level) for level in before.levels[:2]] == [1, 0]
    assert [len(level) for level in after.levels[:2]] == [0, 1]
    assert before.apply(VersionEdit(last_seq=3)) is before


@pytest.mark.parametrize(
    "edit",
    [
        VersionEdit(removed=((0, 6),)),
        VersionEdit(removed=((1, 5),)),
        add(table(5, 1, b"a", b"b")),
        add(table(6, 1, b"a", b"n"), table(7, 1, b"m", b"z")),
    ],
)
def test_an_edit_that_does_not_fit_is_corruption(edit: VersionEdit) -> None:
    with pytest.raises(CorruptionError):
        Version().apply(add(table(5, 0, b"a", b"z"))).apply(edit)
