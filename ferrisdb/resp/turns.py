"""Decide which execution of a worker makes its attempt when.

Attempts that lost a conflict stand in line for the key that it was about: the first of a line runs
again at once, the others behind it. So the connections of one worker that all change one key
take turns, and don't run in vain against each other. Among workers no pause is needed: a
conflict means that somebody's commit went through.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ferrisdb.resp.execution import Execution

IN_FLIGHT_MAX: Final = 128
"""Attempts of a worker under way at once; half of the pins that an attached process has."""


class Turns:
    """The executions of one worker that are under way or wait. Owner: its loop."""

    __slots__ = ("_in_flight", "_is_running", "_lines", "_ready")

    def __init__(self) -> None:
        self._in_flight = 0
        self._is_running = False
        #: Who may run as soon as there is room.
        self._ready: deque[Execution] = deque()
        #: By key; the first of each line is under way, or ready.
        self._lines: dict[bytes, deque[Execution]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nobody waits."""
        return not (self._in_flight or self._ready or self._lines)

    def admit(self, execution: Execution) -> None:
        """Have it make an attempt as soon as there is room."""
        self._ready.append(execution)
        self._run()

    def landed(self) -> None:
        """Take note that an attempt has ended."""
        self._in_flight -= 1
        self._run()

    def _run(self) -> None:
        # An attempt that ends at once comes back here: a loop and no recursion.
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._ready and self._in_flight < IN_FLIGHT_MAX:
                self._in_flight += 1
                self._ready.popleft().attempt()
        finally:
            self._is_running = False

    def again(self, execution: Execution, key: bytes | None) -> None:
        """Have it make another attempt: in line for the key, if one is known."""
        if key is not None and execution.line != key:
            self.leave(execution)
            execution.line = key
            line = self._lines.get(key)
            if line is not None:
                line.append(execution)
                return
            self._lines[key] = deque([execution])
        self.admit(execution)

    def leave(self, execution: Execution) -> None:
        """Take it out of its line, if it stands in one, and let the next one run."""
        key, execution.line = execution.line, None
        if key is None:
            return
        line = self._lines[key]
        assert line[0] is execution, "only the first of a line runs"
        line.popleft()
        if line:
            self.admit(line[0])
        else:
            del self._lines[key]
