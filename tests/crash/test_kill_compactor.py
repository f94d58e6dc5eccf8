"""Goal: SIGKILL of the compactor in the middle of its work loses nothing and leaves nothing.

Method: a heavy writer, and kills that fall within flushes and compactions at random moments (S1
and S2 of tests/support/compactor_siege.py). `scripts/soak` runs the long form of the same code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compactor_siege import besiege_compactor
from tests.support.soak import seed_of_run

KILLS = 8


@pytest.mark.slow
def test_no_kill_of_the_compactor_loses_or_leaves_anything(tmp_path: Path) -> None:
    moments = besiege_compactor(tmp_path, KILLS, seed_of_run(), print)
    assert moments.total() == KILLS
