"""Waiting before something is tried again that lost against somebody else."""

from __future__ import annotations

import random
import time

FIRST_WAIT_S = 0.0002
LONGEST_WAIT_S = 0.2
DOUBLINGS_MAX = 10
"""From the first wait of who never loses to that of who always does: 0.2 ms to 200 ms."""


class Contention:
    """How often transactions of one handle lost of late, from 0 to 1.

    Who loses twice running meets somebody who does the same work again and again, and who is the
    quicker the longer he is left alone: two that alternate cost each other half of their work, and
    the processors' spinning in wait for each other. So such a one stays away for long, and the next
    ones of its handle do, until more have been committed. Who loses once tries again within ms.
    """

    __slots__ = ("_share",)

    def __init__(self) -> None:
        self._share = 0.0

    def won(self) -> None:
        """Note a commit."""
        if self._share:
            self._share = self._share * 0.99 if self._share > 0.01 else 0.0

    def lost(self, *, again: bool) -> float:
        """Note a conflict; returns the bound of the wait that is to follow, in seconds."""
        self._share += (1 - self._share) * (0.9 if again else 0.5)
        wait_s: float = FIRST_WAIT_S * 2 ** (DOUBLINGS_MAX * self._share)
        return min(wait_s, LONGEST_WAIT_S)


class Backoff:
    """Decides how long to wait before the next attempt, and when to give up.

    Waits are drawn at random up to a bound that doubles with each attempt: those who lost against
    each other don't come back together, and those who lost often leave the key to the others.

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

    def after(self, error: Exception, bound_s: float = 0.0) -> None:
        """Wait before the next attempt; raise what the last one failed with if there is none.

        Shape:  bound_s, of this wait, if it is to be longer than the attempts ask for.
        """
        self.failed += 1
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0 or (self._attempts is not None and self.failed >= self._attempts):
            raise error
        time.sleep(min(random.random() * max(self._wait_s, bound_s), left_s))
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
