"""Goal: a real data set comes back whole, and readers see batches whole and in order.

Method: the system's package index, one key a package, is imported by the command line; four
attached processes read it whole, forward and reverse, and compare every byte, while a fifth
rewrites all of it, a hundred keys a batch (R1 to R4 of tests/support/rewriting.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.real_input import import_and_rewrite


@pytest.mark.slow
def test_every_scan_of_a_database_being_rewritten_is_whole(tmp_path: Path) -> None:
    import_and_rewrite(tmp_path, round_count=2, say=print)
