"""Tables answer like a sorted list of versions, whatever the blocks, versions and snapshots.

Goal: lookups, sources in both directions, range tombstones and damage. Method: Hypothesis draws
few distinct keys with many versions and tiny blocks, so that a key's versions span blocks.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrisdb.errors import ClosedError, CorruptionError, StorageError, UsageError
from ferrisdb.kernel.merge import Cursor
from ferrisdb.kernel.table import Table
from tests.support.sstable_oracle import check_filter
from tests.support.tables import (
    DELETE,
    LATEST,
    PUT,
    PUT_EXPIRING,
    Range,
    Version,
    build,
    covering,
    in_order,
    newest,
    write,
)

LIGHT = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

keys = st.one_of(
    st.binary(max_size=3),
    st.builds(lambda head, tail: b"user/" * head + tail, st.integers(0, 12), st.binary(max_size=3)),
    st.builds(lambda n: b"k" * n, st.integers(250, 270)),
)
values = st.one_of(st.binary(max_size=20), st.builds(lambda n: b"v" * n, st.integers(0, 9000)))


@st.composite
def histories(draw: st.DrawFn, size_max: int = 60) -> list[Version]:
    """Draw versions with distinct sequences, in table order."""
    pool = draw(st.lists(keys, min_size=1, max_size=15, unique=True))
    count = draw(st.integers(1, size_max))
    versions = []
    for seq in draw(st.permutations(range(1, count + 1))):
        kind = draw(st.sampled_from([PUT, PUT, PUT, DELETE, PUT_EXPIRING]))
        value = b"" if kind == DELETE else draw(values)
        expires = draw(st.integers(1, 100)) if kind == PUT_EXPIRING else 0
        versions.append(Version(draw(st.sampled_from(pool)), seq, kind, expires, value))
    return in_order(versions)


def as_hit(version: Version | None) -> tuple[int, int, int, bytes] | None:
    """Return what Table.get returns for a version."""
    return version and (version.seq, version.kind, version.expires_us, version.value)


def open_table(versions: list[Version], ranges: list[Range] | None = None, **options: int) -> Table:
    """Build a table in a file that is unlinked at once, and verify it."""
    stored, properties = build(versions, ranges or [], **options)  # type: ignore[arg-type]
    descriptor, name = tempfile.mkstemp()
    os.write(descriptor, stored)
    os.unlink(name)
    table = Table(descriptor, path="drawn.sst", file_number=7)
    os.close(descriptor)
    assert table.properties == properties
    table.verify()
    return table


@LIGHT
@given(histories(), st.sampled_from([1, 64, 300, 4096]), st.booleans(), st.data())
def test_lookup_finds_the_newest_version_at_each_snapshot(
    versions: list[Version], block_bytes: int, filtered: bool, data: st.DataObject
) -> None:
    table = open_table(versions, block_bytes=block_bytes, filtered=filtered)
    probes = sorted({v.key for v in versions}) + data.draw(st.lists(keys, max_size=5))
    for snapshot in [0, 1, len(versions) // 2, len(versions), LATEST]:
        expected = newest(versions, snapshot)
        for key in probes:
            assert table.get(key, snapshot) == as_hit(expected.get(key))


@LIGHT
@given(histories(), st.sampled_from([1, 64, 300, 4096]), st.integers(0, 61), st.data())
def test_a_source_moves_like_an_index_into_a_sorted_list(
    versions: list[Version], block_bytes: int, snapshot: int, data: st.DataObject
) -> None:
    table = open_table(versions, block_bytes=block_bytes)
    expected = list(newest(versions, snapshot).values())
    cursor = Cursor(table.source(snapshot))
    table.close()
    place = -1
    assert cursor.entry() is None
    moves = st.sampled_from(["seek_first", "seek_last", "seek", "seek_before"] + ["step"] * 4)
    for move in data.draw(st.lists(moves, max_size=25)):
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
@given(histories(), st.sampled_from([1, 200]))
def test_a_source_of_all_versions_shows_what_was_added(
    versions: list[Version], block_bytes: int
) -> None:
    table = open_table(versions, block_bytes=block_bytes)
    cursor = Cursor(table.source(0, all_versions=True))
    cursor.seek_first()
    for version in versions:
        assert cursor.entry() == tuple(version)
        cursor.step()
    assert cursor.entry() is None
    cursor.seek(versions[-1].key)
    assert cursor.entry() == next(tuple(v) for v in versions if v.key == versions[-1].key)
    with pytest.raises(UsageError):
        cursor.step_back()


@pytest.mark.parametrize("filtered", [False, True])
def test_versions_of_one_key_over_many_blocks_are_all_found(filtered: bool) -> None:
    versions = [Version(b"hot", seq, PUT, 0, b"%d" % seq * 50) for seq in range(500, 0, -1)]
    table = open_table(
        [Version(b"a", 501, PUT, 0, b""), *versions, Version(b"z", 502, PUT, 0, b"")],
        block_bytes=128,
        filtered=filtered,
    )
    assert table.properties.block_count > 100
    for snapshot in range(1, 501):
        assert table.get(b"hot", snapshot) == (snapshot, PUT, 0, b"%d" % snapshot * 50)
    assert table.get(b"hot", 0) is None


def test_many_keys_with_full_buckets_are_found_and_others_missed() -> None:
    versions = [Version(b"%06d" % i, i, PUT, 0, b"%d" % i) for i in range(20_000)]
    table = open_table(versions)
    assert table.properties.hash_bytes_per_key < 8
    for version in versions[::7]:
        assert table.get(version.key, LATEST) == as_hit(version)
        assert table.get(version.key + b"x", LATEST) is None


def test_a_filter_costs_a_fifth_and_passes_few_keys_that_are_not_there() -> None:
    versions = [Version(b"%06d" % i, i, PUT, 0, b"%d" % i) for i in range(20_000)]
    table = open_table(versions, filtered=True)
    assert table.properties.filtered
    assert table.properties.hash_bytes_per_key < 1.3
    for version in versions[::7]:
        assert table.get(version.key, LATEST) == as_hit(version)
        assert table.get(version.key + b"x", LATEST) is None
    # The block's six bits: what the filter says is asked with no block index to help.
    stored, properties = build(versions, filtered=True)
    passed = 0
    for i in range(10_000):
        try:
            check_filter(stored, properties.hash_offset, properties.bucket_count, b"no%d" % i)
            passed += 1
        except AssertionError:
            continue
    assert 10 < passed < 300


def test_sequences_are_left_out_at_the_bottom_only() -> None:
    versions = [Version(b"a", 9, PUT, 0, b"1"), Version(b"b", 20, PUT, 0, b"2")]
    assert open_table(versions, gc_floor=10).get(b"a", LATEST) == (9, PUT, 0, b"1")
    bottom = open_table(versions, gc_floor=10, bottom=True)
    assert bottom.get(b"a", 10) == (0, PUT, 0, b"1")
    assert bottom.get(b"b", LATEST) == (20, PUT, 0, b"2")
    assert (bottom.min_seq, bottom.max_seq) == (9, 20)


def test_range_tombstones_of_a_table_are_read_back() -> None:
    ranges = [(b"b", b"f", 5), (b"d", b"", 8), (b"", b"c", 3)]
    table = open_table([Version(b"c", 4, PUT, 0, b"x")], ranges)
    found = table.range_tombstones()
    for key in [b"", b"a", b"b", b"c", b"d", b"f", b"zz"]:
        for snapshot in range(10):
            assert found.covering_seq(key, snapshot) == covering(ranges, key, snapshot)
    properties = table.properties
    assert table.has_tombstones and properties.unbounded
    assert (properties.smallest_key, table.min_seq, table.max_seq) == (b"", 3, 8)


def test_a_table_of_range_tombstones_alone_has_no_entries() -> None:
    table = open_table([], [(b"b", b"f", 5)])
    assert table.get(b"c", LATEST) is None
    cursor = Cursor(table.source(LATEST))
    for move in (cursor.seek_first, cursor.seek_last):
        move()
        assert cursor.entry() is None
    cursor.seek(b"c")
    cursor.seek_before(b"c")
    assert cursor.entry() is None
    assert (table.properties.smallest_key, table.properties.largest_key) == (b"b", b"f")


SMALL = in_order(
    [Version(b"user/%02d" % i, 100 + i, PUT, 0, b"value %d" % i) for i in range(12)]
    + [Version(b"user/05", seq, PUT, 0, b"older %d" % seq) for seq in range(1, 9)]
    + [Version(b"user/07/" + b"x" * 80 + b"%d" % i, 50 + i, PUT, 0, b"") for i in range(3)]
    + [Version(b"gone", 40, DELETE, 0, b""), Version(b"soon", 41, PUT_EXPIRING, 77, b"e")]
)


def answers(table: Table) -> list[object]:
    """Ask everything there is to ask of the small table, stopping at the first damage found."""
    out: list[object] = []
    for key in [*sorted({v.key for v in SMALL}), b"", b"user/055"]:
        out += [table.get(key, LATEST), table.get(key, 5)]
    cursor = Cursor(table.source(LATEST))
    for first, move in ((cursor.seek_first, cursor.step), (cursor.seek_last, cursor.step_back)):
        first()
        while (entry := cursor.entry()) is not None:
            out.append(entry)
            move()
    cursor.seek(b"user/06")
    return [*out, cursor.entry(), table.range_tombstones().ranges()]


@pytest.mark.parametrize("filtered", [False, True])
def test_each_flipped_byte_is_found_and_never_a_wrong_answer(
    tmp_path: Path, filtered: bool
) -> None:
    stored, _ = build(SMALL, [(b"a", b"c", 60)], block_bytes=128, filtered=filtered)
    path = tmp_path / "7.sst"
    right = answers(write(path, stored))
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptionError) as caught:
            Table(path).verify()
        assert caught.value.path == str(path)
        try:
            assert answers(Table(path)) == right
        except CorruptionError:
            pass


def test_each_cut_length_is_refused_at_opening(tmp_path: Path) -> None:
    stored, _ = build(SMALL, [(b"a", b"c", 60)], block_bytes=128)
    path = tmp_path / "7.sst"
    for length in range(len(stored)):
        path.write_bytes(stored[:length])
        with pytest.raises(CorruptionError):
            Table(path)
    path.write_bytes(stored + b"\0")
    with pytest.raises(CorruptionError):
        Table(path)


def test_damage_after_opening_is_found_at_the_first_touch(tmp_path: Path) -> None:
    versions = [Version(b"%04d" % i, i + 1, PUT, 0, b"v" * 90) for i in range(400)]
    stored, _ = build(versions)
    path = tmp_path / "7.sst"
    table = write(path, stored)
    assert table.get(b"0000", LATEST) is not None
    with path.open("r+b") as file:
        file.seek(5 * 4096 + 100)
        file.write(b"\xff\xfe\xfd")
    assert table.get(b"0001", LATEST) is not None
    outcomes = []
    for version in versions:
        try:
            assert table.get(version.key, LATEST) == as_hit(version)
        except CorruptionError as error:
            outcomes.append(error.offset)
    assert outcomes and set(outcomes) == {5 * 4096}
    cursor = Cursor(table.source(LATEST))
    cursor.seek_first()
    with pytest.raises(CorruptionError):
        while cursor.entry():
            cursor.step()


def test_a_file_cut_after_opening_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    versions = [Version(b"%04d" % i, i + 1, PUT, 0, b"v" * 90) for i in range(4000)]
    stored, _ = build(versions)
    path = tmp_path / "7.sst"
    table = write(path, stored)
    os.truncate(path, 70_000)
    with pytest.raises(CorruptionError):
        table.get(b"3999", LATEST)


def test_opening_names_the_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Table(tmp_path / "absent.sst")
    assert caught.value.filename == str(tmp_path / "absent.sst")
    stored, _ = build(SMALL, file_number=8)
    (tmp_path / "7.sst").write_bytes(stored)
    with pytest.raises(CorruptionError):
        Table(tmp_path / "7.sst", file_number=7)


def test_a_closed_table_refuses_and_its_sources_read_on(tmp_path: Path) -> None:
    table = write(tmp_path / "7.sst", build(SMALL)[0])
    cursor = Cursor(table.source(LATEST))
    table.close()
    table.close()
    cursor.seek_first()
    assert cursor.entry() is not None
    for call in (lambda: table.get(b"a", 1), lambda: table.source(1), table.verify):
        with pytest.raises(ClosedError):
            call()
