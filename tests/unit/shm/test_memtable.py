"""Memtable head: copied, then checked. Method: each word out of bounds."""

from __future__ import annotations

import pytest

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm.memtable import MEMTABLE_MAGIC, read_memtable_head
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment

NBYTES = 1 << 18
ARENA = layout.MEMTABLE_SLOTS_OFFSET + 8 * 1024


def test_head_is_read_and_nonsense_refused(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 7), NBYTES)
    with pytest.raises(ProtocolError, match="no memtable"):
        read_memtable_head(segment)
    words = {
        layout.MEMTABLE_NUMBER: 7,
        layout.MEMTABLE_BYTES: NBYTES,
        layout.MEMTABLE_SLOT_COUNT: 1024,
        layout.MEMTABLE_ARENA_OFFSET: ARENA,
        layout.MEMTABLE_USED: ARENA + 64,
        layout.MEMTABLE_KEYS: 2,
        layout.MEMTABLE_VERSIONS: 3,
        layout.MEMTABLE_FIRST_SEQ: 40,
        layout.MEMTABLE_MAGIC: MEMTABLE_MAGIC,
    }
    view = segment.view
    layout.store32(view, layout.MEMTABLE_LAYOUT, layout.LAYOUT_VERSION)
    layout.store32(view, layout.MEMTABLE_RANGE_COUNT, 1)
    for at, value in words.items():
        layout.store64(view, at, value)
    head = read_memtable_head(segment, 7)
    assert (head.number, head.nbytes, head.first_seq) == (7, NBYTES, 40)
    assert (head.key_count, head.version_count, head.range_count) == (2, 3, 1)
    with pytest.raises(ProtocolError, match="memtable 7"):
        read_memtable_head(segment, 8)
    for at in (layout.MEMTABLE_BYTES, layout.MEMTABLE_SLOT_COUNT, layout.MEMTABLE_ARENA_OFFSET):
        layout.store64(view, at, 2**63)
        with pytest.raises(ProtocolError):
            read_memtable_head(segment, 7)
        layout.store64(view, at, words[at])
    segment.unlink()
    segment.close()


def test_a_segment_too_small_for_a_head_is_refused(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 7), 100)
    with pytest.raises(ProtocolError, match="100 bytes"):
        read_memtable_head(segment)
    segment.unlink()
    segment.close()
