"""Goal: a memtable is a sorted map with versions. Method: random operations against a dictionary.

Operations come as encoded batches, linked at random points, as the commit loop does it.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrisdb import errors
from ferrisdb.format.wal import Operation, OpKind, encode_operations
from ferrisdb.kernel.memtable import Memtable, MemtableWriter
from ferrisdb.kernel.merge import Cursor

SIZE = 1 << 18
MAX_SEQ = (1 << 64) - 1

KEYS = st.one_of(
    st.sampled_from([b"", b"\x00", b"a", b"ab", b"b", b"\xff", b"\xff\xff"]),
    st.binary(max_size=6),
    st.binary(min_size=90, max_size=120),
)
OPERATIONS = st.one_of(
    st.builds(Operation, st.just(OpKind.PUT), KEYS, st.binary(max_size=40)),
    st.builds(Operation, st.just(OpKind.DELETE), KEYS),
    st.builds(
        Operation,
        st.just(OpKind.PUT_EXPIRING),
        KEYS,
        st.binary(max_size=9),
        st.integers(1, (1 << 63) - 1),
    ),
)
BATCHES = st.lists(
    st.tuples(st.lists(OPERATIONS, min_size=1, max_size=40), st.booleans()), max_size=8
)
Row = tuple[bytes, int, int, int, bytes]


def fill(
    batches: list[tuple[list[Operation], bool]],
) -> tuple[MemtableWriter, Memtable, list[Row]]:
    """Return writer and reader, and the versions as the model knows them: key up, sequence down."""
    view = bytearray(SIZE)
    writer = MemtableWriter(view, 3, 1)
    rows: list[Row] = []
    seq = 1
    for operations, link in batches:
        writer.apply(encode_operations(tuple(operations)), len(operations), seq)
        for op in operations:
            rows.append((op.key, seq, int(op.kind), op.expires_us, op.value))
            seq += 1
        if link:
            writer.link_all()
    writer.link_all()
    reader = Memtable(memoryview(view).toreadonly())
    return writer, reader, sorted(rows, key=lambda row: (row[0], -row[1]))


def at_snapshot(rows: list[Row], seq: int) -> list[Row]:
    """Return each key's newest version at or below `seq`."""
    found: dict[bytes, Row] = {}
    for row in rows:
        if row[1] <= seq:
            found.setdefault(row[0], row)
    return list(found.values())


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(batches=BATCHES, snapshot=st.integers(0, 400))
def test_lookups_and_rows_are_those_of_a_sorted_map(
    batches: list[tuple[list[Operation], bool]], snapshot: int
) -> None:
    writer, reader, rows = fill(batches)
    shown = at_snapshot(rows, snapshot)
    for table in (writer, reader):
        assert list(table.source(snapshot).rows()) == shown
        assert list(table.source(all_versions=True).rows()) == rows
        by_key = {row[0]: row[1:] for row in shown}
        for key in {row[0] for row in rows} | {b"absent", b""}:
            assert table.get(key, snapshot) == by_key.get(key)
    assert writer.key_count == len({row[0] for row in rows})
    assert writer.version_count == len(rows)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(batches=BATCHES, snapshot=st.integers(0, 400), target=KEYS, moves=st.text("+-", max_size=9))
def test_a_cursor_moves_as_over_a_sorted_list(
    batches: list[tuple[list[Operation], bool]], snapshot: int, target: bytes, moves: str
) -> None:
    writer, _, rows = fill(batches)
    shown = at_snapshot(rows, snapshot)
    for seek in ("seek", "seek_before", "seek_first", "seek_last"):
        cursor = Cursor(writer.source(snapshot))
        keys = [row[0] for row in shown]
        if seek == "seek":
            cursor.seek(target)
            at = sum(key < target for key in keys)
        elif seek == "seek_before":
            cursor.seek_before(target)
            at = sum(key < target for key in keys) - 1
        elif seek == "seek_first":
            cursor.seek_first()
            at = 0
        else:
            cursor.seek_last()
            at = len(keys) - 1
        for move in ["", *moves]:
            if move == "+":
                cursor.step()
                at += 1
            elif move == "-":
                cursor.step_back()
                at -= 1
            if not 0 <= at < len(shown):
                assert cursor.entry() is None
                break
            assert cursor.entry() == shown[at]


def test_a_key_is_found_by_hash_before_it_stands_in_order() -> None:
    writer = MemtableWriter(bytearray(SIZE), 1, 1)
    writer.apply(encode_operations((Operation(OpKind.PUT, b"k", b"v"),)), 1, 1)
    assert writer.get(b"k", 1) == (1, 1, 0, b"v")
    writer.link_all()
    assert list(writer.source().rows()) == [(b"k", 1, 1, 0, b"v")]


def test_range_tombstones_are_kept_newest_first_beside_the_keys() -> None:
    writer = MemtableWriter(bytearray(SIZE), 1, 1)
    ranges = [(b"a", b"c"), (b"", b""), (b"x" * 300, b"y")]
    operations = [Operation(OpKind.RANGE_DELETE, start, end) for start, end in ranges]
    operations.insert(1, Operation(OpKind.PUT, b"b", b"v"))
    writer.apply(encode_operations(tuple(operations)), 4, 5)
    writer.link_all()
    assert writer.range_tombstone_count == 3
    assert writer.range_tombstones() == [
        (b"x" * 300, b"y", 8),
        (b"", b"", 7),
        (b"a", b"c", 5),
    ]
    assert writer.key_count == 1
    assert writer.get(b"b", MAX_SEQ) == (6, 1, 0, b"v")


@pytest.mark.parametrize("value_bytes", [0, 100, 5000])
def test_a_full_memtable_says_so_and_keeps_what_it_has(value_bytes: int) -> None:
    writer = MemtableWriter(bytearray(SIZE), 1, 1)
    count = 0
    while True:
        op = Operation(OpKind.PUT, b"%08d" % (count * 7919 % 100_000), bytes(value_bytes))
        encoded = encode_operations((op,))
        if not writer.room_for(len(encoded), 1):
            break
        writer.apply(encoded, 1, count + 1)
        count += 1
    with pytest.raises(errors.UsageError):
        writer.apply(encoded, 1, count + 1)
    writer.link_all()
    assert writer.used_bytes <= SIZE
    keys = [row[0] for row in writer.source().rows()]
    assert keys == sorted(keys)
    assert len(keys) == count > 10


def test_recovery_adds_whole_records_until_one_does_not_fit() -> None:
    def record(first_seq: int, ops: bytes) -> bytes:
        head = struct.pack("<IIQII", 0, len(ops), first_seq, 1, 0).ljust(72, b"\0")
        return (head + ops).ljust((72 + len(ops) + 7) & ~7, b"\0")

    records = [
        record(i + 1, encode_operations((Operation(OpKind.PUT, b"%03d" % i, bytes(9000)),)))
        for i in range(40)
    ]
    log = b"".join(records)
    writer = MemtableWriter(bytearray(SIZE), 1, 1)
    end = writer.apply_records(log, 0, len(log))
    assert 0 < end < len(log)
    count = end // len(records[0])
    assert [row[1] for row in writer.source().rows()] == list(range(1, count + 1))
    for start, stop in ((0, len(log) + 1), (8, 0), (4, 72)):
        with pytest.raises(errors.UsageError):
            writer.apply_records(log, start, stop)
    with pytest.raises(errors.ProtocolError):
        MemtableWriter(bytearray(SIZE), 1, 1).apply_records(log, 0, len(records[0]) - 8)


@pytest.mark.parametrize("nbytes", [0, 100, 65535])
def test_a_segment_that_is_too_small_is_refused(nbytes: int) -> None:
    with pytest.raises(errors.UsageError):
        MemtableWriter(bytearray(nbytes), 1, 1)


@pytest.mark.parametrize("offset", [*range(12), *range(32, 40)])
def test_a_segment_of_another_kind_is_refused(offset: int) -> None:
    view = bytearray(SIZE)
    MemtableWriter(view, 1, 1)
    view[offset] ^= 0xFF
    with pytest.raises(errors.ProtocolError):
        Memtable(view)
