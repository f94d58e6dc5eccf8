"""The processes in which clients live, as the runner holds them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from ferrisdb.bench.client import READY, Failure, serve
from ferrisdb.bench.task import Tally, Task

ANSWER_S: Final = 120.0
"""A client that is silent for so long beyond its time is given up."""

LOAD_S: Final = 3600.0
LEAD_NS: Final = 20_000_000
"""So long before the moment at which all begin, the processes are told of it."""


class CellFailure(Exception):
    """A cell could not be measured, or its engine answered wrongly; the message says why."""


class CellUnable(CellFailure):
    """This machine, or this run's size, doesn't allow the cell; nothing went wrong."""


class _Member:
    """One process and its pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        # A daemon: it ends with the runner, whatever becomes of that.
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self, give_up_s: float) -> Any:
        """Return the next answer.

        Raises:  CellFailure, the process failed, has ended, or is silent until `give_up_s` of the
                 monotonic clock.
        """
        try:
            if not self.pipe.poll(max(give_up_s - time.monotonic(), 0)):
                raise CellFailure("a client does not answer")
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(1.0)
            code = self.process.exitcode
            raise CellFailure(f"a client's process has ended with code {code}") from None
        if isinstance(answer, Failure):
            raise CellFailure(answer.why)
        return answer

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(5.0)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.process.close()


class Crew:
    """Clients' processes; they are started when they are needed and stay for later cells.

    Owner:  whoever made it; leaving it ends them.
    """

    def __init__(self) -> None:
        self._members: list[_Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        while self._members:
            self._members.pop().end()

    def start(self, count: int) -> None:
        """See that there are so many processes."""
        fresh = [_Member() for _ in range(count - len(self._members))]
        self._members += fresh
        give_up_s = time.monotonic() + ANSWER_S
        for member in fresh:
            member.answer(give_up_s)

    def ask(self, *order: Any) -> Any:
        """Have one process carry out an order.

        Raises:  CellFailure.
        """
        self.start(1)
        self._members[0].pipe.send(order)
        try:
            return self._members[0].answer(time.monotonic() + LOAD_S)
        except CellFailure:
            self._renew()
            raise

    def run(self, groups: Sequence[list[Task]]) -> list[Tally]:
        """Have processes do tasks at the same time, each the tasks of a group.

        Raises:  CellFailure.
        """
        self.start(len(groups))
        members = self._members[: len(groups)]
        task = groups[0][0]
        opened_s = time.monotonic() + ANSWER_S
        over_s = opened_s + task.warm_s + task.seconds + ANSWER_S
        try:
            for member, group in zip(members, groups, strict=True):
                member.pipe.send(("run", group))
            for member in members:
                ready = member.answer(opened_s)
                assert ready == READY
            begin_ns = time.perf_counter_ns() + LEAD_NS
            for member in members:
                member.pipe.send(begin_ns)
            return [tally for member in members for tally in member.answer(over_s)]
        except CellFailure:
            # The others may be anywhere in it.
            self._renew()
            raise

    def _renew(self) -> None:
        count = len(self._members)
        self.close()
        self.start(count)
