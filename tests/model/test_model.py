"""Goal: the database is a sorted dictionary, whatever happens to its service meanwhile.

Method: Hypothesis draws operations of every kind by three handles in two processes, flushes,
compactions, restarts and kills; each answer is compared with a dictionary's
(tests/support/model_machine.py). The seed is fixed: it decides the operations, and not the moments
of the kills. A failure prints seed, folder and the operations of its example. `scripts/soak` runs
the long form with seeds of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.model_machine import OFTEN, run_model

STEPS = 10_000
SEED = 20_261


@pytest.mark.slow
def test_the_database_agrees_with_a_dictionary(tmp_path: Path) -> None:
    run = run_model(tmp_path, STEPS, SEED, OFTEN, steps_per_directory=STEPS // 3 + 1)
    assert run.steps >= STEPS
    happened = {name for name, count in run.counts.items() if count}
    assert {"scan", "snapshot_read", "cursor", "delete_range", "batch", "popitem"} <= happened
    assert {"flush", "compact_range", "kill_compactor"} <= happened
    assert happened & {"kill_coordinator", "kill_service", "kill_everything"}
    assert happened & {"restart", "reopen"}
