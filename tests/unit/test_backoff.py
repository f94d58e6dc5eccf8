"""Goal: who loses again and again stays away for longer. Method: a table of outcomes."""

from __future__ import annotations

import time

import pytest

from ferrisdb.backoff import FIRST_WAIT_S, LONGEST_WAIT_S, Backoff, Contention
from ferrisdb.errors import ConflictError


def test_the_first_conflict_is_tried_again_soon_and_the_second_one_late() -> None:
    contention = Contention()
    first = contention.lost(again=False)
    assert FIRST_WAIT_S < first < 0.01
    assert 0.05 < contention.lost(again=True) <= LONGEST_WAIT_S


def test_waits_never_pass_the_longest() -> None:
    contention = Contention()
    assert max(contention.lost(again=True) for _ in range(50)) == LONGEST_WAIT_S


def test_commits_let_it_forget() -> None:
    contention = Contention()
    contention.lost(again=True)
    for _ in range(1000):
        contention.won()
    again = Contention()
    assert contention.lost(again=False) == pytest.approx(again.lost(again=False))


def test_attempts_and_time_are_bounded() -> None:
    error = ConflictError("lost")
    backoff = Backoff(time.monotonic_ns() + 10**10, attempts=2)
    backoff.after(error)
    with pytest.raises(ConflictError):
        backoff.after(error)
    with pytest.raises(ConflictError):
        Backoff(time.monotonic_ns() - 1).after(error, 0.1)
