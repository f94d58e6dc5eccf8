"""Goal: concurrent processes see what some order of their transactions explains, kills or not.

Method: eight processes contend for few keys of a service with tiny memtables, whose coordinator
and compactor are killed meanwhile; their histories are judged by the checkers of tests/support,
which tests/unit/support/test_checkers.py tests. scripts/soak runs the same for longer.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import contenders, crowd

TRANSACTIONS = 150
SEED = 11


def test_serializable_lists_have_no_dependency_cycle(tmp_path: Path) -> None:
    verdict = crowd.judge_lists(tmp_path / "db", contenders.lists, TRANSACTIONS, SEED, kills=2)
    assert not verdict.anomalies, verdict.anomalies
    assert verdict.committed > TRANSACTIONS


def test_serializable_registers_have_no_dependency_cycle(tmp_path: Path) -> None:
    verdict = crowd.judge_registers(tmp_path / "db", TRANSACTIONS, SEED, kills=2)
    assert not verdict.anomalies, verdict.anomalies
    assert verdict.committed > TRANSACTIONS


def test_snapshot_isolation_shows_write_skew_and_nothing_else(tmp_path: Path) -> None:
    verdict = crowd.judge_lists(tmp_path / "db", contenders.snapshot_lists, 2 * TRANSACTIONS, SEED)
    assert set(verdict.anomalies) == {"G2"}, verdict.anomalies


def test_calls_on_single_keys_are_linearizable(tmp_path: Path) -> None:
    count, unexplained = crowd.unexplained_calls(tmp_path / "db", 4 * TRANSACTIONS, SEED, kills=2)
    assert unexplained is None
    assert count == crowd.PROCESSES * 4 * TRANSACTIONS
