"""Merges and scans answer like a sorted dict over all their sources' versions.

Goal: order, direction switches, hiding by tombstones, ranges and expiry, limits, failures.
Method: Hypothesis spreads one history over several tables with tiny blocks.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.errors import ClosedError, CorruptionError, UsageError
from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.kernel.merge import Cursor, Merge, Scan
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.table import Table
from ferrisdb.kernel.tombstones import RangeTombstones
from tests.support.tables import (
    LATEST,
    PUT,
    ByteFile,
    Range,
    Version,
    build,
    in_order,
    live,
    newest,
    seen_above,
    write,
)
from tests.unit.kernel.test_table import LIGHT, histories, keys, open_table

parts = st.integers(1, 6)


def spread(versions: list[Version], count: int) -> list[Table]:
    """Spread versions over tables by their sequences, as if written one after the other."""
    size = -(-len(versions) // count)
    shares = [[v for v in versions if (v.seq - 1) // size == i] for i in range(count)]
    return [open_table(share, block_bytes=100) for share in shares if share]


@LIGHT
@given(histories(), parts, st.integers(0, 61), st.data())
def test_a_merge_moves_like_an_index_into_a_sorted_list(
    versions: list[Version], count: int, snapshot: int, data: st.DataObject
) -> None:
    expected = list(newest(versions, snapshot).values())
    tables = spread(versions, count)
    cursor = Cursor(Merge([table.source(snapshot) for table in tables]))
    place = -1
    moves = st.sampled_from(["seek_first", "seek_last", "seek", "seek_before"] + ["step"] * 6)
    for move in data.draw(st.lists(moves, max_size=30)):
        if move == "step" and 0 <= place < len(expected):
            back = data.draw(st.booleans())
            cursor.step_back() if back else cursor.step()
            place += -1 if back else 1
        elif move == "seek_first":
            cursor.seek_first()
            place = 0
        elif move == "seek_last":
            cursor.seek_last()
            place = len(expected) - 1
        elif move != "step":
            key = data.draw(st.one_of(keys, st.sampled_from([v.key for v in versions])))
            getattr(cursor, move)(key)
            place = sum(v.key < key for v in expected) - (move == "seek_before")
        inside = 0 <= place < len(expected)
        assert cursor.entry() == (tuple(expected[place]) if inside else None)


@LIGHT
@given(histories(), parts)
def test_a_merge_of_all_versions_shows_every_one(versions: list[Version], count: int) -> None:
    cursor = Cursor(Merge([t.source(0, all_versions=True) for t in spread(versions, count)]))
    cursor.seek_first()
    for version in versions:
        assert cursor.entry() == tuple(version)
        cursor.step()
    assert cursor.entry() is None


range_lists = st.lists(
    st.tuples(keys, keys, st.integers(1, 70)).filter(lambda r: not r[1] or r[0] < r[1]), max_size=4
)


@LIGHT
@given(histories(), parts, range_lists, st.integers(0, 71), st.data())
def test_a_scan_shows_the_live_rows_of_its_range(
    versions: list[Version],
    count: int,
    ranges: list[Range],
    snapshot: int,
    data: st.DataObject,
) -> None:
    start, now = data.draw(st.one_of(st.just(b""), keys)), data.draw(st.integers(0, 100))
    end = data.draw(st.one_of(st.none(), keys))
    limit = data.draw(st.one_of(st.none(), st.integers(0, 20)))
    reverse, keys_only = data.draw(st.booleans()), data.draw(st.booleans())
    rows = [
        (key, value)
        for key, value in live(versions, ranges, snapshot, now).items()
        if start <= key and (end is None or key < end)
    ]
    rows = (rows[::-1] if reverse else rows)[:limit]
    tables = spread(versions, count)

    def scan() -> Scan:
        return Scan(
            [table.source(snapshot) for table in tables],
            [RangeTombstones(ranges[:2]), RangeTombstones(ranges[2:])],
            prefix_bytes=0,
            start=start,
            end=end,
            reverse=reverse,
            limit=limit,
            keys_only=keys_only,
            snapshot_seq=snapshot,
            now_us=now,
        )

    one = scan()
    fetched: list[object] = []
    while batch := one.fetch(data.draw(st.integers(1, 7))):
        fetched += batch
    assert fetched == ([key for key, _ in rows] if keys_only else rows)
    assert one.fetch(1) == []
    one = scan()
    total = 0
    while found := one.count(3):
        total += found
    assert total == len(rows)


def scan_all(sources: list[Source], **options: object) -> Scan:
    """Return a scan over everything, with some options replaced."""
    chosen: dict[str, object] = {
        "prefix_bytes": 1,
        "start": b"",
        "end": None,
        "reverse": False,
        "limit": None,
        "keys_only": False,
        "snapshot_seq": LATEST,
        "now_us": 0,
    }
    return Scan(sources, [], **(chosen | options))  # type: ignore[arg-type]


def test_a_scan_cuts_the_key_space_prefix_off() -> None:
    table = open_table([Version(b"\0" + k, 1, PUT, 0, b"v") for k in (b"", b"a", b"b" * 300)])
    rows = [(b"", b"v"), (b"a", b"v"), (b"b" * 300, b"v")]
    assert scan_all([table.source(LATEST)]).fetch(2000) == rows
    assert scan_all([table.source(LATEST)], prefix_bytes=0, keys_only=True).fetch(1) == [b"\0"]


def test_a_key_without_the_prefix_is_refused() -> None:
    table = open_table([Version(b"", 1, PUT, 0, b"v")])
    with pytest.raises(UsageError):
        scan_all([table.source(LATEST)]).fetch(1)


def test_a_scan_of_nothing_ends_at_once() -> None:
    assert scan_all([]).fetch(10) == []
    assert scan_all([], reverse=True).count(10) == 0


def test_sources_of_different_snapshots_are_not_merged() -> None:
    table = open_table([Version(b"a", 1, PUT, 0, b"")])
    with pytest.raises(UsageError):
        Merge([table.source(1), table.source(2)])


def test_a_scan_that_failed_says_so_ever_after(tmp_path: Path) -> None:
    versions = [Version(b"k%04d" % i, i + 1, PUT, 0, b"v" * 90) for i in range(400)]
    stored = bytearray(build(versions)[0])
    stored[5 * 4096] ^= 1
    table = write(tmp_path / "7.sst", bytes(stored))
    other = open_table([Version(b"k", 1000, PUT, 0, b"")])
    for sources in ([table.source(LATEST)], [table.source(LATEST), other.source(LATEST)]):
        scan = scan_all(list(sources))
        with pytest.raises(CorruptionError):
            scan.fetch(1000)
        with pytest.raises(ClosedError):
            scan.fetch(1)
        with pytest.raises(ClosedError):
            scan.count(1)


@LIGHT
@given(histories(), parts, st.integers(0, 61), st.integers(0, 61))
def test_building_from_a_merge_keeps_every_answer_above_the_floor(
    versions: list[Version], count: int, floor: int, snapshot: int
) -> None:
    snapshot = max(snapshot, floor)
    file = ByteFile()
    builder = TableBuilder(
        file, file_number=7, database_id=bytes(16), created_us=1, gc_floor=floor, block_bytes=100
    )
    source = Merge([t.source(0, all_versions=True) for t in spread(versions, count)])
    added = builder.build_from(source)
    assert builder.exhausted
    kept = seen_above(versions, floor)
    assert added == builder.finish().entry_count == len(kept)
    expected, _ = build(kept, gc_floor=floor, block_bytes=100)
    assert len(file.written) == len(expected)
    assert newest(kept, snapshot) == newest(versions, snapshot)


def test_a_builder_whose_source_failed_is_dead(tmp_path: Path) -> None:
    versions = [Version(b"k%04d" % i, i + 1, PUT, 0, b"v" * 900) for i in range(4000)]
    stored = bytearray(build(versions)[0])
    stored[3_000_000] ^= 1
    table = write(tmp_path / "7.sst", bytes(stored))
    builder = TableBuilder(ByteFile(), file_number=8, database_id=bytes(16), created_us=1)
    with pytest.raises(CorruptionError):
        builder.build_from(table.source(0, all_versions=True))
    with pytest.raises(ClosedError):
        builder.finish()


def test_building_stops_between_keys_and_goes_on_in_the_next_table() -> None:
    versions = in_order(
        Version(b"%04d" % (i // 3), 1000 + i, PUT, 0, b"v" * 400) for i in range(300)
    )
    source = open_table(versions).source(0, all_versions=True)
    rebuilt: list[Version] = []
    tables = 0
    while True:
        file = ByteFile()
        builder = TableBuilder(file, file_number=7, database_id=bytes(16), created_us=1)
        builder.build_from(source, bytes_max=20_000)
        builder.finish()
        assert 20_000 <= builder.file_bytes < 26_000 or builder.exhausted
        rebuilt += versions[len(rebuilt) : len(rebuilt) + builder.entries]
        tables += 1
        if builder.exhausted:
            break
        assert rebuilt[-1].key != versions[len(rebuilt)].key
    assert rebuilt == versions and tables > 4


def test_a_bottom_table_drops_what_no_snapshot_sees() -> None:
    versions = in_order(
        [
            Version(b"covered", 5, PUT, 0, b"x"),
            Version(b"deleted", 6, 2, 0, b""),
            Version(b"deleted", 4, PUT, 0, b"x"),
            Version(b"expired", 7, 4, 50, b"x"),
            Version(b"late", 20, 2, 0, b""),
            Version(b"late", 8, PUT, 0, b"kept for old snapshots"),
            Version(b"soon", 9, 4, 200, b"x"),
        ]
    )
    file = ByteFile()
    builder = TableBuilder(
        file, file_number=7, database_id=bytes(16), created_us=1, gc_floor=10, bottom=True
    )
    builder.build_from(
        open_table(versions).source(0, all_versions=True),
        tombstones=RangeTombstones([(b"c", b"d", 10), (b"a", b"", 3)]),
        expired_us=100,
    )
    properties = builder.finish()
    assert (properties.entry_count, properties.key_count) == (3, 2)
