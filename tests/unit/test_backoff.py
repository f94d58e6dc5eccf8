"""Goal: attempts and time are bounded. Method: bounds that are already reached."""

from __future__ import annotations

import time

import pytest

from ferrisdb.backoff import Backoff
from ferrisdb.errors import ConflictError


def test_attempts_and_time_are_bounded() -> None:
    error = ConflictError("lost")
    backoff = Backoff(time.monotonic_ns() + 10**10, attempts=2)
    backoff.after(error)
    with pytest.raises(ConflictError):
        backoff.note(error)
    with pytest.raises(ConflictError):
        Backoff(time.monotonic_ns() - 1).sleep(error, 0.1)
