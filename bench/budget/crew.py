"""Processes that do one engine's work at the same time, for as long as they are asked to."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Protocol, Self

from ferrisdb.bench.budget.figures import BudgetError

END_S: Final = 30.0


class Client(Protocol):
    """One process's work."""

    def run(self, seconds: float) -> Any:
        """Work for so long; return what there is to say of it."""

    def close(self) -> None:
        """Let go of everything."""


def _serve(pipe: Connection, make: Callable[..., Client], arguments: Sequence[Any]) -> None:
    """Be one of the processes: whatever the pipe asks for, until it is closed."""
    # Ctrl-C is the parent's business, which closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client = make(*arguments)
    try:
        pipe.send(None)
        while (seconds := pipe.recv()) is not None:
            pipe.send(client.run(seconds))
    except (EOFError, BrokenPipeError):
        return
    finally:
        client.close()


class Crew:
    """Processes of one engine.

    Owner: whoever made it; leaving it ends them.
    """

    def __init__(
        self, name: str, make: Callable[..., Client], arguments: Sequence[Sequence[Any]]
    ) -> None:
        """Start a process for each of `arguments`, which `make` is called with in it.

        Shape:  make, a function of a module, for it is pickled.
        Raises: BudgetError, one of them failed.
        """
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        try:
            for each in arguments:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, make, each), daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
            self._answers(len(arguments))
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Their pids."""
        return [process.pid for process in self._processes]

    def run(self, seconds: float, count: int | None = None) -> list[Any]:
        """Have the first `count` of them work at once; return what each has to say.

        Raises: BudgetError, one of them failed.
        """
        count = len(self._pipes) if count is None else count
        for pipe in self._pipes[:count]:
            pipe.send(seconds)
        return self._answers(count)

    def _answers(self, count: int) -> list[Any]:
        try:
            return [pipe.recv() for pipe in self._pipes[:count]]
        except (EOFError, ConnectionResetError):
            raise BudgetError(f"a process of {self.name} failed") from None

    def close(self) -> None:
        """End them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(END_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._pipes, self._processes = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
