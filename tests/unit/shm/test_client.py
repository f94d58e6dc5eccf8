"""A client's segment: format, checks, slots. Method: hostile heads and counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm import client
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment

ID = b"i" * 16


@pytest.fixture
def segment(names: SegmentNames) -> Iterator[Segment]:
    made = Segment.create(names.name("c", 0), layout.CLIENT_BYTES)
    yield made
    made.unlink()
    made.close()


def test_unformatted_and_foreign_segments_are_refused(segment: Segment) -> None:
    with pytest.raises(ProtocolError, match="no client segment"):
        client.check_client(segment, ID)
    client.format_client(segment, ID)
    client.check_client(segment, ID)
    with pytest.raises(ProtocolError, match="another client"):
        client.check_client(segment, b"j" * 16)
    for at in (layout.CLIENT_MAGIC, layout.CLIENT_LAYOUT, layout.CLIENT_SEGMENT_BYTES):
        view = segment.view
        view[at] ^= 1
        with pytest.raises(ProtocolError):
            client.check_client(segment, ID)
        view[at] ^= 1


def test_slots_show_the_shared_words_and_copies_do_not(segment: Segment) -> None:
    client.format_client(segment, ID)
    slots = client.slots_of(segment)
    view = segment.view
    layout.store32(view, layout.CLIENT_SLOTS_USED, 2)
    at = layout.SLOTS_OFFSET + layout.SLOT_BYTES
    layout.store64(view, at + layout.SLOT_SEQ, 77)
    layout.store64(view, at + layout.SLOT_EPOCH, 5)
    copy = client.copy_slots(segment)
    layout.store64(view, at + layout.SLOT_EPOCH, 0)
    assert len(slots) == layout.SLOT_COUNT and len(copy) == 2
    assert (copy["epoch"][1], copy["seq"][1], slots["epoch"][1]) == (5, 77, 0)
    slots["revoked"][1] = 5
    assert layout.load64(view, at + layout.SLOT_REVOKED) == 5


def test_a_hostile_slot_count_reads_no_further_than_the_slots(segment: Segment) -> None:
    layout.store32(segment.view, layout.CLIENT_SLOTS_USED, 2**32 - 1)
    assert len(client.copy_slots(segment)) == layout.SLOT_COUNT


def test_metrics_are_the_shared_counters(segment: Segment) -> None:
    row = client.metrics_of(segment)
    row[layout.METRICS_COUNT - 1] = 3
    last = layout.METRICS_OFFSET + 8 * (layout.METRICS_COUNT - 1)
    assert layout.load64(segment.view, last) == 3
