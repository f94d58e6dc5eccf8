"""Names: only our own are ever swept. Method: real directories, hostile file contents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ferrisdb.errors import UsageError
from ferrisdb.limits import CLIENT_COUNT_MAX
from ferrisdb.shm.names import (
    FORGOTTEN_LINES_MAX,
    NAME_BYTES_MAX,
    SegmentNames,
    large_number,
    parse_name,
)
from ferrisdb.shm.segment import Segment, unlink_segment


def test_reopening_finds_nonce_id_and_names(tmp_path: Path) -> None:
    database_id = bytes(range(16))
    first = SegmentNames.load_or_create(tmp_path, database_id)
    first.record(first.name("m", 17))
    again = SegmentNames.read(tmp_path)
    assert again is not None
    assert (again.nonce, again.database_id) == (first.nonce, database_id)
    assert again.recorded == (f"/fdb{first.nonce}.m17",)


def test_absent_file_reads_as_none(tmp_path: Path) -> None:
    assert SegmentNames.read(tmp_path) is None
    assert SegmentNames.read(tmp_path / "nowhere") is None


def test_sweep_removes_what_is_recorded_and_not_kept(names: SegmentNames) -> None:
    made = []
    for number in range(3):
        names.record(names.name("m", number))
        made.append(Segment.create(names.name("m", number), 4096))
    names.record(names.name("v", 1))
    assert names.sweep(keep={names.name("m", 2)}) == [names.name("m", 0), names.name("m", 1)]
    again = SegmentNames.read(names.directory)
    assert again is not None and again.recorded == (names.name("m", 2),)
    assert again.sweep() == [names.name("m", 2)]
    for segment in made:
        segment.close()


def test_the_file_does_not_grow_with_names_that_are_gone(names: SegmentNames) -> None:
    path = Path(names.directory) / "segments"
    names.record(names.name("m", 1))
    for epoch in range(2500):
        names.record(names.name("v", epoch))
        names.forget([names.name("v", epoch), names.name("v", 99999)])
    again = SegmentNames.read(names.directory)
    assert again is not None and names.name("m", 1) in again.recorded
    assert names.recorded == (names.name("m", 1),)
    assert len(path.read_bytes().split(b"\n")) <= FORGOTTEN_LINES_MAX + 4


def test_copied_directory_draws_its_own_nonce_and_sweeps_nothing(
    names: SegmentNames, tmp_path: Path
) -> None:
    names.record(names.name("m", 1))
    segment = Segment.create(names.name("m", 1), 4096)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "segments", copy / "segments")
    assert SegmentNames.read(copy) is None
    copied = SegmentNames.load_or_create(copy)
    assert copied.nonce != names.nonce
    assert copied.sweep() == []
    assert Segment.open(names.name("m", 1), writable=False) is not None
    assert names.sweep() == [names.name("m", 1)]
    segment.close()


def test_foreign_names_in_the_file_are_never_swept(names: SegmentNames) -> None:
    foreign = Segment.create("/fdb000000000000.m1", 4096)
    try:
        with open(f"{names.directory}/segments", "a") as file:
            file.write("/fdb000000000000.m1\n/etc\n../../x\n\n\xff\x00\n")
            file.write(f"/fdb{names.nonce}.m01\n/fdb{names.nonce}.z1\n /fdb{names.nonce}.m1\n")
        again = SegmentNames.read(names.directory)
        assert again is not None and again.recorded == ()
        assert again.sweep() == []
        assert Segment.open(foreign.name, writable=False) is not None
    finally:
        unlink_segment(foreign.name)
        foreign.close()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\n",
        b"\0" * 5000,
        b"ferrisdb-segments 1 zz",
        b"\xff\xfe" * 99,
    ],
)
def test_damaged_first_line_gives_a_fresh_nonce(names: SegmentNames, damage: bytes) -> None:
    path = Path(names.directory) / "segments"
    path.write_bytes(damage + path.read_bytes()[20:])
    assert SegmentNames.read(names.directory) is None
    assert SegmentNames.load_or_create(names.directory).nonce != names.nonce


def test_every_flipped_byte_of_the_first_line_is_noticed(names: SegmentNames) -> None:
    path = Path(names.directory) / "segments"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        again = SegmentNames.read(names.directory)
        assert again is None or at == content.index(b"\n")


def test_torn_last_line_is_not_a_name(names: SegmentNames) -> None:
    names.record(names.name("m", 12))
    path = Path(names.directory) / "segments"
    path.write_bytes(path.read_bytes()[:-1])
    again = SegmentNames.read(names.directory)
    assert again is not None and again.recorded == ()


def test_names_fit_and_parse_back(names: SegmentNames) -> None:
    number = large_number(CLIENT_COUNT_MAX - 1, 10**30)
    for letter, value in (("m", 17), ("x", number), ("v", 10**12 - 1), ("k", 0)):
        name = names.name(letter, value)
        assert len(name) <= NAME_BYTES_MAX
        assert parse_name(name, names.nonce) == (letter, value)
    for letter, value in (("q", 1), ("m", 10**12), ("m", -1)):
        with pytest.raises(UsageError):
            names.name(letter, value)
    with pytest.raises(UsageError):
        names.record("/fdb000000000000.m1")


@pytest.mark.parametrize("counter", [1, 2, 10**8, 244_140_624, 244_140_625, 10**30])
def test_large_numbers_tell_their_client_and_are_never_zero(counter: int) -> None:
    for index in (0, 1, CLIENT_COUNT_MAX - 1):
        number = large_number(index, counter)
        assert CLIENT_COUNT_MAX <= number < 10**12
        assert number % CLIENT_COUNT_MAX == index
