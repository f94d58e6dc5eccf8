"""Processes that work at once: their rates, one that fails, and none that stays."""

from __future__ import annotations

import os

import pytest

from ferrisdb.bench.budget.crew import Crew
from ferrisdb.bench.budget.figures import BudgetError
from tests.support.crew_client import Counting, Failing


def test_the_first_so_many_work_and_answer() -> None:
    with Crew("counting", Counting, [(10.0,), (20.0,)]) as crew:
        assert crew.run(0.5) == [5.0, 10.0]
        assert crew.run(1.0, 1) == [10.0]
        pids = crew.pids
    assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_one_that_fails_is_told_and_none_stays(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BudgetError, match="a process of failing failed"):
        Crew("failing", Failing, [()])
    assert "it can't be made" in capfd.readouterr().err
