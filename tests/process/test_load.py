"""Goal: what is written goes to tables, and memory stays bounded and is given back.

Method: random entries by a process of its own, through many rotations of a small memtable, while
the coordinator's private memory and the segments' are measured; then all of it is read back. At
the end the service leaves by itself, starts again, is killed whole, starts again and leaves: each
time nothing of it is left in shared memory. `scripts/soak` loads 5 million entries so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bulk import load_and_read
from tests.support.soak import seed_of_run


@pytest.mark.slow
def test_many_entries_take_bounded_memory_and_come_back(tmp_path: Path) -> None:
    load_and_read(tmp_path, 200_000, seed_of_run(), memtable_bytes=4 << 20, say=print)
