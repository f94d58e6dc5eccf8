"""Give each test a directory, and check that it leaves nothing in shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import unlink_segment


def segments_of(nonce: str) -> list[str]:
    """Names in shared memory that bear a nonce."""
    return sorted(f"/{path.name}" for path in Path("/dev/shm").glob(f"fdb{nonce}.*"))


@pytest.fixture
def names(tmp_path: Path) -> Iterator[SegmentNames]:
    """Names of a fresh directory; fails the test that leaves a segment behind."""
    made = SegmentNames.load_or_create(tmp_path)
    yield made
    left = segments_of(made.nonce)
    for name in left:
        unlink_segment(name)
    assert left == []
