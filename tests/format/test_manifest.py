"""MANIFEST and CURRENT: bytes don't move, and damage is told from a torn tail.

Method: one MANIFEST of three edits, pinned by tests/golden/manifest.hex; every bit flipped and
every length cut.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ferrisdb.errors import CorruptionError, FormatTooNewError, StorageError
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit, decode_edit, encode_edit
from ferrisdb.format.filenames import DIR
from ferrisdb.format.header import HEADER_BYTES
from ferrisdb.format.manifest import (
    ManifestWriter,
    decode_manifest,
    encode_manifest_record,
    manifest_records,
    read_current,
    read_manifest,
)
from ferrisdb.seams import RealFileSystem
from tests.support.fakes import ManualClock
from tests.support.golden import dump, golden_text

DATABASE_ID = bytes(range(16))
TABLE = TableMeta(
    level=0,
    number=13,
    file_bytes=4096,
    entry_count=10,
    smallest=b"\0apple",
    largest=b"\0pear",
    min_seq=1,
    max_seq=12,
    delete_count=2,
    range_delete_count=1,
    expiring_count=3,
    older_count=4,
    quarter_expires_us=1_700_000_000_000_000,
    unbounded=True,
)
EDITS = (
    VersionEdit(DATABASE_ID, next_file_number=3, last_seq=0, log_number=2, generation=1),
    VersionEdit(
        next_file_number=14,
        last_seq=12,
        log_number=12,
        added=(TABLE,),
        outcomes=(Outcome(b"0123456789abcdef", 7, 5, 9, 2, b"42"),),
    ),
    VersionEdit(removed=((0, 13),), outcomes=()),
)


def written(path: Path) -> bytes:
    """Write the MANIFEST and CURRENT; return the MANIFEST."""
    writer = ManifestWriter.create(
        RealFileSystem(),
        DIR(str(path)),
        number=7,
        database_id=DATABASE_ID,
        snapshot=EDITS[0],
        clock=ManualClock(),
    )
    for edit in EDITS[1:]:
        writer.append(edit)
    writer.close()
    return (path / "MANIFEST-000007").read_bytes()


def decoded(content: bytes | bytearray) -> tuple[tuple[VersionEdit, ...], str]:
    state = decode_manifest(bytes(content), "MANIFEST-000007", 7, DATABASE_ID)
    return state.edits, state.anomaly


def test_bytes_are_the_golden_ones(tmp_path: Path) -> None:
    assert dump(written(tmp_path)) == golden_text("manifest.hex")
    assert dump((tmp_path / "CURRENT").read_bytes()) == golden_text("current.hex")


def test_edits_read_back_as_written(tmp_path: Path) -> None:
    content = written(tmp_path)
    state = read_manifest(RealFileSystem(), DIR(str(tmp_path)))
    assert (state.number, state.database_id, state.edits) == (7, DATABASE_ID, EDITS)
    assert (state.valid_end, state.anomaly) == (len(content), "")


def test_every_flipped_bit_is_corruption_or_a_torn_last_edit(tmp_path: Path) -> None:
    content = written(tmp_path)
    last = list(manifest_records(content, ""))[-1].offset
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        if bit // 8 < last:
            with pytest.raises(CorruptionError):
                decoded(flipped)
        else:
            edits, anomaly = decoded(flipped)
            assert edits == EDITS[:-1]
            assert anomaly


def test_every_truncation_is_corruption_or_a_torn_last_edit(tmp_path: Path) -> None:
    content = written(tmp_path)
    ends = [r.offset + r.total_bytes for r in manifest_records(content, "")]
    for length in range(len(content)):
        if length < ends[0]:
            with pytest.raises(CorruptionError):
                decoded(content[:length])
        else:
            edits, anomaly = decoded(content[:length])
            assert edits == EDITS[: sum(end <= length for end in ends)]
            assert bool(anomaly) is (length not in ends)


def test_every_damage_to_current_is_corruption(tmp_path: Path) -> None:
    written(tmp_path)
    current = tmp_path / "CURRENT"
    content = current.read_bytes()
    damaged = [content[:length] for length in range(len(content))] + [content + b"\0"]
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for bad in damaged:
        current.write_bytes(bad)
        with pytest.raises(CorruptionError):
            read_current(RealFileSystem(), DIR(str(tmp_path)))


def test_a_manifest_that_current_names_and_that_is_not_there_is_corruption(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "MANIFEST-000007").unlink()
    with pytest.raises(CorruptionError, match="MANIFEST-000007"):
        read_manifest(RealFileSystem(), DIR(str(tmp_path)))


def test_rotation_keeps_one_manifest_and_goes_on(tmp_path: Path) -> None:
    fs, directory = RealFileSystem(), DIR(str(tmp_path))
    written(tmp_path)
    state = read_manifest(fs, directory)
    writer = ManifestWriter.open(fs, directory, state)
    writer.rotate(number=20, snapshot=EDITS[0], clock=ManualClock())
    writer.append(EDITS[1])
    assert writer.number == 20
    writer.close()
    assert read_manifest(fs, directory).edits == EDITS[:2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CURRENT", "MANIFEST-000020"]


def test_a_torn_manifest_is_not_appended_to(tmp_path: Path) -> None:
    fs, directory = RealFileSystem(), DIR(str(tmp_path))
    content = written(tmp_path)
    (tmp_path / "MANIFEST-000007").write_bytes(content[:-1])
    state = read_manifest(fs, directory)
    with pytest.raises(ValueError, match="anomaly"):
        ManifestWriter.open(fs, directory, state)


def test_absent_current_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        read_current(RealFileSystem(), DIR(str(tmp_path)))
    assert caught.value.filename == str(tmp_path / "CURRENT")


@pytest.mark.parametrize("payload", [b"", bytes((1 << 28) + 1)], ids=["empty", "huge"])
def test_an_edit_has_a_bounded_size(payload: bytes) -> None:
    with pytest.raises(ValueError, match="edit"):
        encode_manifest_record(payload, HEADER_BYTES)


@pytest.mark.parametrize("edit", EDITS)
def test_every_cut_of_a_payload_is_refused_or_shorter(edit: VersionEdit) -> None:
    payload = encode_edit(edit)
    for length in range(len(payload)):
        try:
            assert decode_edit(payload[:length], "M", 0) != edit
        except CorruptionError:
            continue


def field(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, 0, len(value)) + value


@pytest.mark.parametrize(
    "payload",
    [
        field(2, bytes(7)),
        field(2, b"\xff" * 8),
        field(3, (1 << 56).to_bytes(8, "little")),
        field(3, bytes(8)) * 2,
        field(1, bytes(15)),
        field(7, bytes(9)),
        field(7, bytes([9]) + bytes(8)),
        field(6, bytes(20)),
        field(6, bytes(74) + b"\xff" * 4),
        field(8, b""),
        field(8, (1 << 31).to_bytes(4, "little")),
        field(8, (1).to_bytes(4, "little") + bytes(44) + b"\xff"),
        struct.pack("<HHI", 2, 0, 1 << 31),
    ],
)
def test_values_out_of_bounds_are_corruption(payload: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_edit(payload, "M", 0)


@pytest.mark.parametrize("payload", [field(9, b"x"), struct.pack("<HHI", 2, 1, 8) + bytes(8)])
def test_an_unknown_field_is_a_newer_format(payload: bytes) -> None:
    with pytest.raises(FormatTooNewError, match="upgrade"):
        decode_edit(payload, "M", 0)
