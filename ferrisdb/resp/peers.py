"""The other workers of the service, as commands see them; workers/peers.py is the real thing.

A request is a tuple of a name and plain values; every worker answers it by `Service.answer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ferrisdb.errors import UsageError
from ferrisdb.resp.command import Deferred

Request = tuple[Any, ...]


class Peers(Protocol):
    """All workers of the service."""

    def ask(self, request: Request) -> Deferred:
        """Ask all workers, this one too; resolved with the list of their answers.

        A worker that can't answer, or not in time, has None in it, or is left out.
        """

    def tell(self, request: Request, *, key: str | None = None) -> None:
        """Tell the other workers; under a key, those that start later are told the last, too."""

    def shut_down(self) -> None:
        """Have the whole service end cleanly."""


class Alone:
    """The peers of a worker that is the only one, and of no service."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self._answer = answer

    def ask(self, request: Request) -> Deferred:
        deferred = Deferred()
        deferred.resolve([self._answer(request)])
        return deferred

    def tell(self, request: Request, *, key: str | None = None) -> None:
        pass

    def shut_down(self) -> None:
        raise UsageError("no service runs that could be shut down")
