"""A load's clients, each a process: start them, tell them what to do, hear what they did.

They are forked from a server that has imported everything once, so that fifty of them start in a
moment and share their memory.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.worker import DONE, STOP, Refusal, serve
from ferrisdb.exit_codes import ExitCode

GRACE_S: Final = 5.0


class ClientFailedError(Exception):
    """A client can't go on; the message says why."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        #: With which the command ends.
        self.code = code


class Crew:
    """All clients of one load.

    Owner:  one thread, in the process that makes it.
    """

    def __init__(self, plan: Plan) -> None:
        """Start them."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([serve.__module__])
        self._grace_s = plan.timeout_s + GRACE_S
        self._pipes: dict[Connection, int] = {}
        self._processes: list[BaseProcess] = []
        self._done: set[int] = set()
        for client in range(plan.clients):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, plan, client), name=f"client {client}", daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes[ours] = client

    @property
    def is_done(self) -> bool:
        """Tell whether every client has done its part."""
        return len(self._done) == len(self._processes)

    def tell(self, order: object) -> None:
        """Send an order to every client that isn't done."""
        for pipe, client in self._pipes.items():
            if client not in self._done:
                try:
                    pipe.send(order)
                except OSError:
                    continue  # `hear` says what became of it

    def await_all(self, answer: str) -> None:
        """Wait until every client has given an answer.

        Raises:  ClientFailedError.
        """
        missing = set(self._pipes.values())
        while missing:
            for client, message in self.hear(None):
                assert message == answer, message
                missing.discard(client)

    def hear(self, timeout_s: float | None) -> Iterator[tuple[int, Any]]:
        """Yield the messages that are there by then, with the numbers of their clients.

        Shape:   timeout_s, longest wait for the first; None: as long as it takes.
        Raises:  ClientFailedError.
        """
        pipes = [pipe for pipe, client in self._pipes.items() if client not in self._done]
        for pipe in wait(pipes, timeout_s):
            assert isinstance(pipe, Connection)
            client = self._pipes[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                process = self._processes[client]
                process.join(GRACE_S)
                raise ClientFailedError(
                    f"client {client} has ended (exit code {process.exitcode})", ExitCode.INTERNAL
                ) from None
            if isinstance(message, Refusal):
                raise ClientFailedError(message.why, message.code)
            if message == DONE:
                self._done.add(client)
            else:
                yield client, message

    def stop(self) -> Iterator[tuple[int, Any]]:
        """Have all clients end now, and yield what they still have to say."""
        self.tell(STOP)
        give_up = time.monotonic() + self._grace_s
        while not self.is_done and time.monotonic() < give_up:
            yield from self.hear(max(give_up - time.monotonic(), 0))

    def close(self) -> None:
        """End every process that is left."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(GRACE_S if self.is_done else 0.5)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
