"""Segments: allocation up front, views, removal. Method: real shared memory, two mappings."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ferrisdb.errors import ProtocolError, SharedMemoryFullError, StorageError
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment
from tests.support import shm_child


def fd_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_two_mappings_show_the_same_bytes(names: SegmentNames) -> None:
    name = names.name("m", 1)
    ours = Segment.create(name, 8192)
    theirs = Segment.open(name, writable=False, bytes_expected=8192)
    assert theirs is not None
    ours.view[8191] = 7
    assert theirs.view[8191] == 7
    assert theirs.view.readonly and not ours.view.readonly
    ours.unlink()
    ours.unlink()
    ours.close()
    assert theirs.view[8191] == 7
    theirs.close()


def test_no_descriptor_stays_open(names: SegmentNames) -> None:
    before = fd_count()
    segment = Segment.create(names.name("m", 1), 4096)
    opened = Segment.open(segment.name, writable=True)
    assert fd_count() == before
    segment.unlink()
    segment.close()
    assert opened is not None
    opened.close()


def test_mode_is_ours_alone_whatever_the_umask(names: SegmentNames) -> None:
    before = os.umask(0o777)
    try:
        segment = Segment.create(names.name("m", 1), 4096)
    finally:
        os.umask(before)
    assert os.stat(f"/dev/shm{segment.name}").st_mode & 0o777 == 0o600
    segment.unlink()
    segment.close()


def test_all_memory_is_allocated_at_creation(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 1), 1 << 20)
    assert os.stat(f"/dev/shm{segment.name}").st_blocks * 512 == 1 << 20
    segment.prefault()
    segment.unlink()
    segment.close()


def test_absent_segment_opens_as_none(names: SegmentNames) -> None:
    assert Segment.open(names.name("m", 9), writable=False) is None
    assert not unlink_segment(names.name("m", 9))


def test_another_size_than_expected_is_refused(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 1), 4096)
    with pytest.raises(ProtocolError, match="4096 bytes, expected 8192"):
        Segment.open(segment.name, writable=False, bytes_expected=8192)
    segment.unlink()
    segment.close()


def test_taken_name_is_an_error_and_stays(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 1), 4096)
    with pytest.raises(StorageError, match="exists already"):
        Segment.create(segment.name, 4096)
    assert segment.name in [f"/{name}" for name in os.listdir("/dev/shm")]
    segment.unlink()
    segment.close()


def test_full_shared_memory_is_a_typed_error_and_leaves_no_name(names: SegmentNames) -> None:
    status = os.statvfs("/dev/shm")
    nbytes = status.f_blocks * status.f_frsize + 4096
    with pytest.raises(SharedMemoryFullError, match="memtable_bytes") as caught:
        Segment.create(names.name("m", 1), nbytes)
    assert str(nbytes) in str(caught.value)
    assert Segment.open(names.name("m", 1), writable=False) is None


def test_views_outlive_close(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 1), 4096)
    array = np.frombuffer(segment.view, "<u8")
    segment.unlink()
    segment.close()
    segment.close()
    assert array[511] == 0
    with pytest.raises(ValueError, match="closed"):
        _ = segment.view


def test_punch_takes_the_memory_from_a_process_that_still_maps(
    names: SegmentNames,
) -> None:
    segment = Segment.create(names.name("m", 1), 1 << 20)
    segment.view[0] = 9
    child, seen = shm_child.start("mapper", names.directory)
    assert seen == "9"
    path = f"/proc/self/map_files/{_range_of(segment.name)}"
    segment.unlink()
    segment.punch()
    assert os.stat(path).st_blocks == 0
    answer, _ = child.communicate(b"again\n", timeout=20)
    assert answer.strip() == b"0"
    segment.close()


def test_read_only_mapping_refuses_stores_and_punching(names: SegmentNames) -> None:
    segment = Segment.create(names.name("m", 1), 4096)
    opened = Segment.open(segment.name, writable=False)
    assert opened is not None
    with pytest.raises(TypeError):
        opened.view[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        opened.punch()
    segment.unlink()
    segment.close()
    opened.close()


def _range_of(name: str) -> str:
    with open("/proc/self/maps") as file:
        for line in file:
            if name in line:
                low, high = line.split(" ")[0].split("-")
                return f"{int(low, 16):x}-{int(high, 16):x}"
    raise AssertionError(f"{name} is not mapped")
