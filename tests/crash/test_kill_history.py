"""Goal: SIGKILL, of any process at any moment, loses, tears and doubles nothing, and hangs nobody.

Method: 8 processes commit with durability="sync" and note in files of their own what they attempt
and what was acknowledged. The coordinator, the compactor and writers are killed at random, alone
and together, in the middle of a start too; memtables of 1 MiB rotate all the time. After each kill
every writer has to go on, and a fresh process compares the database with the notes (H1 to H5 of
tests/support/history.py). `scripts/soak` runs the long form of the same code.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.killing import Siege, besiege
from tests.support.soak import seed_of_run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own_service", "kill_count"), [(False, 6), (True, 4)], ids=["by-handles", "by-supervisor"]
)
def test_no_kill_loses_tears_or_doubles_a_batch(
    tmp_path: Path, own_service: bool, kill_count: int
) -> None:
    seed = seed_of_run()
    besiege(Siege(tmp_path, random.Random(seed), own_service=own_service), kill_count)
