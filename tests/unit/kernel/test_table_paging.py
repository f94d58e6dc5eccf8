"""What is read from the disk of a table whose pages were dropped: by a lookup, and by scans.

Method: a table of 1,500 pages, all of them checked, has its pages dropped by the system, as if
memory were short. Then pages in memory, and faults that wait for the disk, are counted.
"""

from __future__ import annotations

import mmap
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferrisdb.kernel.merge import Cursor
from ferrisdb.kernel.table import Table
from tests.support.paging import page_out, resident_pages
from tests.support.tables import LATEST, PUT, Version, build, write

COUNT = 1500
#: Far below the pages of the table, far above what a scan's beginning takes.
FEW = 200

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mincore as Linux has it")


def _key(number: int) -> bytes:
    return b"%08d" % number


@pytest.fixture(name="table")
def _table(tmp_path: Path) -> Iterator[Table]:
    versions = [Version(_key(n), n + 1, PUT, 0, b"v" * 4000) for n in range(COUNT)]
    table = write(tmp_path / "7.sst", build(versions)[0])
    table.verify()
    assert _rows(Cursor(table.source(LATEST)), back=False) == COUNT
    _drop(table)
    yield table
    table.close()


def _drop(table: Table) -> None:
    if not page_out(Path(table.path)):
        pytest.skip("this file system keeps its pages in memory")


def _rows(cursor: Cursor, *, back: bool) -> int:
    begin, move = (cursor.seek_last, cursor.step_back) if back else (cursor.seek_first, cursor.step)
    begin()
    count = 0
    while cursor.entry() is not None:
        count += 1
        move()
    return count


def _waits(call: Callable[[], object]) -> int:
    """Return how many page faults of a call waited for the disk."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before


def test_a_lookup_reads_the_pages_that_it_needs(table: Table) -> None:
    before = resident_pages(Path(table.path))
    hit = table.get(_key(COUNT // 2), LATEST)
    assert hit is not None and hit[0] == COUNT // 2 + 1
    assert resident_pages(Path(table.path)) - before <= 4 * 4096 // mmap.PAGESIZE + 4


def test_a_short_scan_has_nothing_read_ahead(table: Table) -> None:
    before = resident_pages(Path(table.path))
    cursor = Cursor(table.source(LATEST))
    cursor.seek(_key(700))
    for _ in range(5):
        assert cursor.entry() is not None
        cursor.step()
    assert resident_pages(Path(table.path)) - before <= FEW // 4


@pytest.mark.parametrize("back", [False, True])
def test_a_long_scan_waits_for_few_pages(table: Table, back: bool) -> None:
    cursor = Cursor(table.source(LATEST))
    assert 0 < _waits(lambda: _rows(cursor, back=back)) < FEW
    assert resident_pages(Path(table.path)) * mmap.PAGESIZE > COUNT * 4000


def test_a_scan_that_turns_round_reads_ahead_both_ways(table: Table) -> None:
    cursor = Cursor(table.source(LATEST))
    cursor.seek(_key(300))

    def there_and_back() -> None:
        for _ in range(600):
            cursor.step()
        for _ in range(850):
            cursor.step_back()
        for _ in range(1400):
            cursor.step()

    assert _waits(there_and_back) < FEW
    entry = cursor.entry()
    assert entry is not None and entry[0] == _key(300 + 600 - 850 + 1400)
