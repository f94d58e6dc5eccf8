"""Clients of a crew for its tests, in a module that a spawned process can import."""

from __future__ import annotations


class Counting:
    """Answers what it is told to have done."""

    def __init__(self, done_per_s: float) -> None:
        self._done_per_s = done_per_s

    def run(self, seconds: float) -> float:
        """Return something that tells the seconds apart."""
        return self._done_per_s * seconds

    def close(self) -> None:
        """Nothing to do."""


class Failing:
    """Can't be made."""

    def __init__(self) -> None:
        raise RuntimeError("it can't be made")

    def run(self, seconds: float) -> float:
        """Never called."""
        raise AssertionError(seconds)

    def close(self) -> None:
        """Nothing to do."""
