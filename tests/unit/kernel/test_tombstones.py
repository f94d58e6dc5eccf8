"""Fragmented range tombstones answer like the list of ranges that they were made of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.errors import UsageError
from ferrisdb.kernel.tombstones import RangeTombstones, fragment_ranges
from tests.support.tables import Range, covering
from tests.unit.kernel.test_table import LIGHT

edges = st.binary(max_size=2)
range_lists = st.lists(
    st.tuples(edges, edges, st.integers(1, 20)).filter(lambda r: not r[1] or r[0] < r[1]),
    max_size=8,
)


@LIGHT
@given(range_lists, st.lists(edges, min_size=1, max_size=8), st.integers(0, 21))
def test_the_newest_covering_sequence_is_found(
    ranges: list[Range], probes: list[bytes], snapshot: int
) -> None:
    found = RangeTombstones(ranges)
    for key in probes + [edge for start, end, _ in ranges for edge in (start, end)]:
        assert found.covering_seq(key, snapshot) == covering(ranges, key, snapshot)
    assert found.newest_seq == max((r[2] for r in ranges), default=0)
    assert found.oldest_seq == min((r[2] for r in ranges), default=0)
    assert len(RangeTombstones(found.ranges())) == len(found)


@LIGHT
@given(range_lists)
def test_fragments_are_disjoint_and_sorted(ranges: list[Range]) -> None:
    fragments = fragment_ranges(ranges)
    for (_, end, _), (start, _, _) in pairwise(fragments):
        assert end
        assert end <= start
    for start, end, seqs in fragments:
        assert not end or start < end
        assert list(seqs) == sorted(set(seqs), reverse=True)


@LIGHT
@given(range_lists, st.integers(0, 21), st.integers(0, 21), edges)
def test_what_the_floor_drops_no_snapshot_above_it_sees(
    ranges: list[Range], floor: int, snapshot: int, key: bytes
) -> None:
    found = RangeTombstones(ranges, floor).covering_seq(key, max(snapshot, floor))
    assert found == covering(ranges, key, max(snapshot, floor))


def test_none_cover_nothing() -> None:
    none = RangeTombstones()
    assert (len(none), none.covering_seq(b"a", 9), none.fragments()) == (0, 0, [])


def test_touching_fragments_with_the_same_sequences_are_one() -> None:
    assert fragment_ranges([(b"a", b"c", 5), (b"c", b"e", 5)]) == [(b"a", b"e", (5,))]


@pytest.mark.parametrize("bad", [(b"b", b"a", 1), (b"b", b"b", 1), (b"a", b"b", 0)])
def test_impossible_ranges_are_refused(bad: Range) -> None:
    with pytest.raises(UsageError):
        RangeTombstones([bad])
