"""Waiting before something is tried again that lost against somebody else."""

from __future__ import annotations

import random
import time

FIRST_WAIT_S = 0.0002
LONGEST_WAIT_S = 0.2


class Backoff:
    """Decides how long to wait before the next attempt, and when to give up.

    Waits are drawn at random up to a bound that doubles with each: those who lost against each
    other don't come back together.

    Shape:  deadline_ns, when to give up, on the monotonic clock; attempts, how many there may be
            in all, None for as many as fit.
    Source: full jitter, as in Brooker, "Exponential Backoff And Jitter", 2015.
    """

    __slots__ = ("_attempts", "_deadline_ns", "_wait_s", "failed")

    def __init__(self, deadline_ns: int, attempts: int | None = None) -> None:
        self._deadline_ns = deadline_ns
        self._attempts = attempts
        self._wait_s = FIRST_WAIT_S
        #: Attempts that failed so far.
        self.failed = 0

    def after(self, error: Exception) -> None:
        """Wait before the next attempt; raise what the last one failed with if there is none."""
        self.note(error)
        self.sleep(error, random.random() * self._wait_s)
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)

    def note(self, error: Exception) -> None:
        """Count a failed attempt; raise its error if no other may follow."""
        self.failed += 1
        if self._attempts is not None and self.failed >= self._attempts:
            raise error

    def sleep(self, error: Exception, seconds: float) -> None:
        """Wait that long at most; raise the error if the time is up."""
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise error
        time.sleep(min(seconds, left_s))
