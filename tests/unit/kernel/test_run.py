"""Which table of a level holds a key. Method: bounds at random, beside a search one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.errors import UsageError
from ferrisdb.kernel.level import Level
from ferrisdb.kernel.merge import Cursor
from ferrisdb.kernel.run import TableRun
from ferrisdb.kernel.table import Table
from tests.support.tables import LATEST, PUT, Version, build

KEYS = st.lists(
    st.binary(max_size=10).map(lambda key: b"shared" + key), unique=True, min_size=2, max_size=60
)


@dataclass
class Ref:
    """A table's bounds."""

    number: int
    smallest: bytes
    largest: bytes
    unbounded: bool = False
    has_ranges: bool = False


def table(folder: Path, number: int, keys: list[bytes]) -> Table:
    """Write a table of these keys and open it."""
    data, _ = build([Version(key, 0, PUT, 0, key) for key in keys], file_number=number)
    path = folder / f"{number:06}.sst"
    path.write_bytes(data)
    return Table(path)


@given(keys=KEYS, cuts=st.sets(st.integers(1, 59)), sought=st.lists(st.binary(max_size=12)))
def test_a_level_is_one_sorted_sequence(
    tmp_path_factory: pytest.TempPathFactory, keys: list[bytes], cuts: set[int], sought: list[bytes]
) -> None:
    keys.sort()
    edges = [0, *sorted(cut for cut in cuts if cut < len(keys)), len(keys)]
    parts = [keys[a:b] for a, b in pairwise(edges)]
    folder = tmp_path_factory.mktemp("run")
    refs = [Ref(n, part[0], part[-1]) for n, part in enumerate(parts, 1)]
    opened: list[int] = []

    def opener(ref: Ref) -> Table:
        opened.append(ref.number)
        return table(folder, ref.number, parts[ref.number - 1])

    cursor = Cursor(Level(TableRun(refs, opener), LATEST))
    assert not opened
    for key in sought + keys:
        cursor.seek(key)
        entry = cursor.entry()
        assert (entry and entry[0]) == next((k for k in keys if k >= key), None)
        cursor.seek_before(key)
        entry = cursor.entry()
        assert (entry and entry[0]) == next((k for k in reversed(keys) if k < key), None)
    assert sorted(opened) == sorted(set(opened)), "opened once"


def test_a_table_is_opened_by_whoever_needs_it_first(tmp_path: Path) -> None:
    known = table(tmp_path, 1, [b"a", b"b"])
    refs = [Ref(1, b"a", b"b"), Ref(2, b"c", b"d")]
    run = TableRun(refs, lambda ref: table(tmp_path, ref.number, [b"c", b"d"]), [known, None])
    assert run.count == 2 and run.tables == [known, None]
    assert run.table(0) is known
    assert run.table(1) is run.table(1) is run.tables[1]
    with pytest.raises(IndexError):
        run.table(2)


def test_a_run_without_an_opener_needs_its_tables() -> None:
    with pytest.raises(UsageError, match="opener"):
        TableRun([Ref(1, b"a", b"b")]).table(0)
    with pytest.raises(UsageError, match="place"):
        TableRun([Ref(1, b"a", b"b")], None, [])
