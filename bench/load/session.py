"""A client's way to the service: attached, or a connection; lost and made again as often as needed.

`get` and `put` are the store's own calls, so that nothing of ours is timed. They raise FAILURES;
`failed` then says of which kind that is, for counting. It says nothing of whether a write was done
all the same: after an error it may have been.

S1  `open` tries again and again, with short pauses, until the time-out. Whoever has seen an error
    asks `is_open` before the next operation.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from ferrisdb.bench.engines.base import EngineError, Pairs
from ferrisdb.bench.load.target import Target
from ferrisdb.errors import Error
from ferrisdb.exit_codes import ExitCode

PAUSE_FIRST_S: Final = 0.005
PAUSE_MAX_S: Final = 0.25

NO_CONNECTION: Final = "no connection"
LOST: Final = "connection lost"
TIMED_OUT: Final = "timed out"
DAMAGED: Final = "damaged reply"

FAILURES: Final = (Error, EngineError, OSError, ValueError)
"""What an operation may raise. ValueError: a reply that is none."""


class RefusedError(Exception):
    """The service does not let us do what was asked for, now or later; the message says why."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        #: With which the command ends.
        self.code = code


class Session(ABC):
    """One client's way to the service.

    Owner:   one thread.
    """

    #: Returns a key's value; None if there is none.
    get: Callable[[bytes], bytes | None]
    #: Writes a row.
    put: Callable[[bytes, bytes], Any]
    #: Writes rows as one batch.
    put_many: Callable[[Pairs], Any]

    def __init__(self, target: Target, durability: str | None, timeout_s: float) -> None:
        """Prepare it; `open` connects.

        Shape:   durability, "sync" or "os"; None: as the service has it.
        """
        self._target = target
        self._durability = durability
        self._timeout_s = timeout_s
        self._was_open = False
        self.is_open = False
        #: How often it was opened again.
        self.reconnects = 0

    def open(self, *, patient: bool = True) -> None:
        """Connect, if it isn't connected (S1).

        Shape:   patient, whether to try more than once.
        Raises:  what FAILURES has, as the last attempt did; RefusedError.
        """
        if self.is_open:
            return
        give_up, pause = time.monotonic() + self._timeout_s, PAUSE_FIRST_S
        while True:
            try:
                self._connect()
                break
            except FAILURES:
                self.close()
                if not patient or time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX_S)
        self.reconnects += self._was_open
        self.is_open = self._was_open = True

    def close(self) -> None:
        """Let go of the service; again and again does no harm."""
        self.is_open = False
        self._disconnect()

    @property
    @abstractmethod
    def engine(self) -> str:
        """What answers, by the name that results have for it; known once it was open."""

    @abstractmethod
    def failed(self, error: Exception) -> str:
        """Return the kind of an error that an operation raised, and close what it has broken."""

    @abstractmethod
    def delete_many(self, keys: list[bytes]) -> None:
        """Delete keys, there or not."""

    @abstractmethod
    def _connect(self) -> None:
        """Connect once."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of whatever there is."""


def new_session(target: Target, durability: str | None, timeout_s: float) -> Session:
    """Return a session that is not open yet."""
    # Imported here: each needs what the other doesn't.
    if target.is_attached:
        from ferrisdb.bench.load.attached_session import AttachedSession

        return AttachedSession(target, durability, timeout_s)
    from ferrisdb.bench.load.socket_session import SocketSession

    return SocketSession(target, durability, timeout_s)
