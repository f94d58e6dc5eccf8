"""Control page: who may write, what is refused. Method: two mappings of one segment."""

from __future__ import annotations

import pytest

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm.control import ControlPage, TreeFigures
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment

WORDS = [
    "generation",
    "epoch",
    "visible_seq",
    "ordered_seq",
    "gc_floor",
    "state",
    "coordinator_pid",
    "active_clients",
    "last_time_us",
    "memtable_bytes",
    "batch_bytes_max",
]


def test_what_the_coordinator_stores_the_others_read(names: SegmentNames) -> None:
    segment = Segment.create(names.name("k", 0), layout.CONTROL_BYTES)
    ours = ControlPage.format(
        segment, database_id=bytes(range(16)), memtable_bytes=1 << 20, batch_bytes_max=1 << 19
    )
    opened = Segment.open(segment.name, writable=False)
    assert opened is not None
    theirs = ControlPage(opened)
    assert theirs.database_id == bytes(range(16))
    assert (theirs.memtable_bytes, theirs.batch_bytes_max) == (1 << 20, 1 << 19)
    assert (theirs.generation, theirs.state) == (0, layout.STATE_STARTING)
    for value, word in enumerate(WORDS, 1000):
        setattr(ours, word, value)
    assert [getattr(theirs, word) for word in WORDS] == list(range(1000, 1000 + len(WORDS)))
    ours.is_sleeping = True
    assert theirs.is_sleeping
    ours.is_at_rest, ours.figures = True, TreeFigures(1, 2, 3, 4, 5)
    assert theirs.is_at_rest and theirs.figures == TreeFigures(1, 2, 3, 4, 5)
    before = theirs.is_retired
    ours.retire()
    assert (before, theirs.is_retired, theirs.epoch) == (False, True, 1001)
    with pytest.raises((BufferError, ValueError)):
        theirs.epoch = 1
    segment.unlink()
    theirs.close()
    ours.close()


def test_unfinished_page_or_another_layout_is_refused(names: SegmentNames) -> None:
    segment = Segment.create(names.name("k", 0), layout.CONTROL_BYTES)
    with pytest.raises(ProtocolError, match="no control page"):
        ControlPage(segment)
    page = ControlPage.format(segment, database_id=bytes(16), memtable_bytes=1, batch_bytes_max=1)
    layout.store32(segment.view, layout.CONTROL_LAYOUT, layout.LAYOUT_VERSION + 1)
    with pytest.raises(ProtocolError, match="layout"):
        ControlPage(segment)
    segment.unlink()
    page.close()


def test_page_of_another_size_is_refused(names: SegmentNames) -> None:
    segment = Segment.create(names.name("k", 0), layout.CONTROL_BYTES * 2)
    with pytest.raises(ProtocolError, match="8192 bytes"):
        ControlPage(segment)
    segment.unlink()
    segment.close()
