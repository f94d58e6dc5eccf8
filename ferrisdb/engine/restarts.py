"""Decide when a process that died is started again: pauses grow, and end in giving up.

Pure: events carry the time. Deaths older than LOOP_NS are forgotten, and those before a life that
was long enough to have been of use.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PAUSE_NS_FIRST = 100_000_000
PAUSE_NS_MAX = 5_000_000_000
LOOP_COUNT = 8
LOOP_NS = 60_000_000_000
#: Of a reader worker: about a second of it is its start.
STEADY_NS = 2_500_000_000


@dataclass(slots=True)
class Restarts:
    """The deaths of one process and its successors.

    Units: first_ns, pause behind the first death; the next is PAUSE_NS_FIRST at least, and each
           one twice the one before; steady_ns, how long one has to live for the deaths before to
           be forgotten, None: however long, they are not.
    """

    first_ns: int
    steady_ns: int | None = None
    _deaths: list[int] = field(default_factory=list)
    _due_ns: int | None = None
    _began_ns: int | None = None

    def died(self, now_ns: int) -> None:
        """Note a death."""
        self._forget(now_ns)
        if self._was_steady(now_ns):
            self._deaths.clear()
        self._began_ns = None
        self._deaths.append(now_ns)
        pause_ns = self.first_ns
        for _ in self._deaths[1:]:
            pause_ns = min(max(2 * pause_ns, PAUSE_NS_FIRST), PAUSE_NS_MAX)
        self._due_ns = now_ns + pause_ns

    def take_due(self, now_ns: int) -> bool:
        """Tell whether it is to be started now; once for each death."""
        if self._due_ns is None or now_ns < self._due_ns:
            return False
        self._due_ns = None
        self._began_ns = now_ns
        return True

    def is_loop(self, now_ns: int) -> bool:
        """Tell whether it dies again and again."""
        self._forget(now_ns)
        return len(self._deaths) >= LOOP_COUNT

    def _was_steady(self, now_ns: int) -> bool:
        if self.steady_ns is None or self._began_ns is None:
            return False
        return now_ns - self._began_ns >= self.steady_ns

    def _forget(self, now_ns: int) -> None:
        self._deaths = [at_ns for at_ns in self._deaths if now_ns - at_ns < LOOP_NS]
