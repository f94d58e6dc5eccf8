"""A WAL file's bytes don't move, and damage is told from a torn tail.

Method: one small log of three groups with different `synced_to` (tests/support/wal_sample.py),
pinned by tests/golden/wal.hex. Then every single bit flipped and every length cut: the expected
outcome follows from the records' offsets and `synced_to` alone, computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from ferrisdb.errors import CorruptionError, FormatTooNewError
from ferrisdb.format import wal
from ferrisdb.format.header import HEADER_BYTES, MAGIC_WAL, decode_header
from ferrisdb.kernel.walscan import outcomes, reseal, scan
from tests.support.golden import dump, golden_text
from tests.support.wal_sample import (
    BATCHES,
    CLIENT,
    DATABASE_ID,
    FILE_BYTES,
    PATH,
    SALT,
    sample,
    scanned,
)

# Kinds that a record must not hold: the one that only rings know, and one that nothing knows.
REQUEST_PUT_TTL = cast(wal.OpKind, 0x44)
UNKNOWN_KIND = cast(wal.OpKind, 9)


def test_bytes_are_the_golden_ones() -> None:
    assert dump(sample()[0]) == golden_text("wal.hex")


def test_records_read_back_as_written() -> None:
    content, found = sample()
    assert len(found) == 1 + len(BATCHES)
    assert [(r.operations, r.reply) for r in found[1:]] == [(ops, re) for _, ops, re in BATCHES]
    assert [r.first_seq for r in found] == [101, 101, 102, 104, 105, 106, 106]
    file = wal.decode_file_header(content, PATH)
    assert (file.number, file.salt, file.base_seq, file.generation) == (12, SALT, 101, 3)
    walk = wal.scan_file(content, file, PATH)
    assert wal.read_opening(content, walk, PATH) == wal.Opening(
        101, file.header.created_us, 9, 4096
    )
    assert (walk.last_seq, walk.record_count, walk.dropped_records) == (106, 7, 0)
    assert walk.time_us_max == max(r.time_us for r in found)


def piece(content: bytes | bytearray, record: wal.Record) -> bytes:
    """Return a record's bytes."""
    return bytes(content[record.offset : record.offset + record.total_bytes])


def durable_end(found: list[wal.Record], bad: int) -> int:
    """Return up to where the records behind the bad one say that bytes were durable."""
    return max((record.synced_to for record in found[bad + 1 :]), default=0)


def test_every_flipped_bit_is_corruption_or_a_stated_torn_tail() -> None:
    content, found = sample()
    end = found[-1].offset + found[-1].total_bytes
    torn = set()
    for bit in range(FILE_BYTES * 8):
        at = bit // 8
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit % 8
        if at >= end:
            assert scanned(flipped) == found
            continue
        bad = next((i for i, r in enumerate(found) if piece(flipped, r) != piece(content, r)), -1)
        if bad < 0 or durable_end(found, bad) > found[bad].offset:
            with pytest.raises(CorruptionError) as caught:
                scanned(flipped)
            if bad >= 0:
                assert caught.value.offset == found[bad].offset
                assert caught.value.path == PATH
        else:
            assert scanned(flipped) == found[:bad]
            torn.add(bad)
    # Only the last group may read as a torn tail: the group before it is known to be durable.
    assert torn == {4, 5, 6}


def test_every_flipped_bit_below_synced_end_is_corruption() -> None:
    found = sample()[1]
    end = found[-1].offset + found[-1].total_bytes
    content, found = sample(synced_end=end)
    for bit in range(end * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError):
            scanned(flipped)


def test_every_truncation_keeps_the_whole_records() -> None:
    content, found = sample()
    for length in range(FILE_BYTES):
        cut = content[:length]
        if length < wal.FIRST_RECORD_OFFSET:
            with pytest.raises(CorruptionError):
                scanned(cut)
        else:
            assert scanned(cut) == [r for r in found if r.offset + r.total_bytes <= length]


def test_truncation_below_synced_end_is_corruption() -> None:
    end = sample()[1][3].offset
    content, found = sample(synced_end=end)
    for length in range(end):
        with pytest.raises(CorruptionError):
            scanned(content[:length])
    assert scanned(content[:end]) == found[:3]


def test_zeroed_stretches_never_invent_and_never_hide_what_was_durable() -> None:
    content, found = sample()
    end = found[-1].offset + found[-1].total_bytes
    for start in range(wal.FIRST_RECORD_OFFSET, end, 8):
        for stop in range(start + 8, end + 8, 24):
            holed = bytearray(content)
            holed[start:stop] = bytes(stop - start)
            hit = [i for i, r in enumerate(found) if piece(holed, r) != piece(content, r)]
            if not hit:
                assert scanned(holed) == found
            elif durable_end(found, hit[-1]) > found[hit[0]].offset:
                with pytest.raises(CorruptionError):
                    scanned(holed)
            else:
                assert scanned(holed) == found[: hit[0]]


def test_empty_and_zero_files() -> None:
    content, _ = sample()
    assert scanned(content[: wal.FIRST_RECORD_OFFSET]) == []
    assert scanned(content[: wal.FIRST_RECORD_OFFSET] + bytes(1 << 16)) == []
    with pytest.raises(CorruptionError):
        scanned(bytes(FILE_BYTES))


def test_records_of_a_former_life_and_copies_in_values_do_not_count() -> None:
    content, _ = sample()
    head, body = content[: wal.FIRST_RECORD_OFFSET], content[wal.FIRST_RECORD_OFFSET :]
    former = scan(head + bytes(72) + body, SALT, path=PATH, base_seq=1)
    assert (former.record_count, former.dropped_records) == (0, 0)
    recycled = scan(content, SALT + 1, path=PATH, base_seq=1)
    assert (recycled.record_count, recycled.dropped_records) == (0, 0)


def with_record(**changes: object) -> bytes:
    """Return the sample cut behind its first batch, then a well-sealed record with changes."""
    content, found = sample()
    fields: dict[str, object] = {
        "offset": found[2].offset,
        "total_bytes": 0,
        "first_seq": 102,
        "count": 0,
        "synced_to": 128,
        "time_us": 1,
        "client_id": CLIENT,
        "request_no": 1,
        "unanswered_no": 1,
        "operations": (wal.Operation(wal.OpKind.PUT, b"k"),),
        "reply": b"",
    }
    record = wal.Record(**{**fields, **changes})  # type: ignore[arg-type]
    return content[: found[2].offset] + wal.encode_record(record, SALT) + bytes(256)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_seq": 103},
        {"first_seq": 101},
        {"first_seq": (1 << 56)},
        {"synced_to": 1 << 40},
        {"reply": b"r" * 33},
        {"operations": (wal.Operation(wal.OpKind.DELETE, b"k", b"value"),)},
        {"operations": (wal.Operation(wal.OpKind.RANGE_DELETE, b"k", b"e" * 65_541),)},
        {"operations": (wal.Operation(wal.OpKind.PUT, b"k" * 65_541),)},
        {"operations": (wal.Operation(REQUEST_PUT_TTL, b"k"),)},
        {"operations": (wal.Operation(UNKNOWN_KIND, b"k"),)},
    ],
)
def test_a_sealed_record_that_contradicts_its_file_is_corruption(
    changes: dict[str, object],
) -> None:
    assert len(scanned(with_record())) == 3
    with pytest.raises(CorruptionError) as caught:
        scanned(with_record(**changes))
    assert caught.value.offset == sample()[1][2].offset


def test_lookalikes_by_the_million_do_not_make_the_scan_quadratic() -> None:
    content, found = sample()
    # Each 40 bytes a plausible header that claims half of the rest; a real record at the end.
    fake = (
        (7).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little") + (200).to_bytes(8, "little")
        + (1).to_bytes(4, "little") + bytes(20)
    )  # fmt: skip
    start = found[2].offset
    buffer = bytearray(content[:start] + fake * 52_429)
    buffer += bytes(-len(buffer) % 8)
    last = wal.Record(len(buffer), 0, 300, 0, 0, 1, CLIENT, 1, 1, (), b"")
    buffer += wal.encode_record(last, SALT)
    assert scanned(buffer) == found[:2]
    walk = scan(buffer, SALT, path=PATH, base_seq=101)
    assert walk.dropped_records == 1
    assert walk.dropped_bytes == len(buffer) - start
    claims = wal.Record(last.offset, 0, 300, 0, start + 8, 1, CLIENT, 1, 1, (), b"")
    buffer[last.offset :] = wal.encode_record(claims, SALT)
    with pytest.raises(CorruptionError):
        scanned(buffer)


def test_resealed_records_hold_the_same_and_vouch_for_what_stands_before() -> None:
    content, found = sample()
    start, end = found[1].offset, found[-1].offset + found[-1].total_bytes
    moved = reseal(content, start, end, 4096, 77, (1 << 63) - 1)
    walk = scan(bytes(4096) + moved, 77, path=PATH, base_seq=101, first_offset=4096)
    again = list(wal.records(bytes(4096) + moved, walk))
    assert [(r.first_seq, r.operations, r.reply, r.request_no) for r in again] == [
        (r.first_seq, r.operations, r.reply, r.request_no) for r in found[1:]
    ]
    assert all(r.synced_to == r.offset for r in again)
    assert reseal(content, start, start, 4096, 77, 0) == b""
    for bad in ((start + 8, end), (start, end - 8), (start, len(content) + 8), (end, start)):
        with pytest.raises(ValueError, match="range"):
            reseal(content, *bad, 4096, 77, 0)


def test_outcomes_leave_out_what_the_client_has_seen_answered() -> None:
    content, found = sample()
    walk = wal.scan_file(content, wal.decode_file_header(content, PATH), PATH)
    unanswered, rows = outcomes(content, walk.offsets)
    assert unanswered == {CLIENT: 3}
    assert rows == [
        (CLIENT, r.request_no, r.unanswered_no, r.first_seq, r.count, r.reply)
        for r in found[1:]
        if r.request_no >= 3
    ]


def resealed_header(change: Callable[[bytearray], None]) -> bytes:
    """Return the sample's header with a change and a checksum that agrees to it."""
    from ferrisdb.kernel.checksum import crc32c  # beside its only use

    header = bytearray(sample()[0][:HEADER_BYTES])
    change(header)
    header[16:20] = crc32c(header[20:], crc32c(header[:16])).to_bytes(4, "little")
    return bytes(header)


def test_a_newer_version_is_told_from_corruption() -> None:
    def newer(header: bytearray) -> None:
        header[8:10] = (0x0201).to_bytes(2, "little")

    with pytest.raises(FormatTooNewError, match="upgrade"):
        decode_header(resealed_header(newer), MAGIC_WAL, PATH)
    torn = bytearray(sample()[0])
    torn[8:10] = (0x0201).to_bytes(2, "little")
    with pytest.raises(CorruptionError):
        decode_header(torn, MAGIC_WAL, PATH)


@pytest.mark.parametrize(("at", "value"), [(8, 0), (10, 1), (12, 65), (20, 63), (56, 1)])
def test_header_fields_are_checked_behind_the_checksum(at: int, value: int) -> None:
    def change(header: bytearray) -> None:
        header[at] = value
        if at == 8:
            header[9] = 1

    with pytest.raises(CorruptionError) as caught:
        decode_header(resealed_header(change), MAGIC_WAL, PATH)
    assert caught.value.offset == at


def test_a_file_of_another_database_or_number_is_refused() -> None:
    content = sample()[0]
    with pytest.raises(CorruptionError, match="another database"):
        wal.decode_file_header(content, PATH, database_id=bytes(16))
    with pytest.raises(CorruptionError):
        wal.decode_file_header(content, PATH, file_number=13, database_id=DATABASE_ID)
