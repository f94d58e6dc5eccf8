"""Ask and tell the other reader workers, through the coordinator's hub (readers.py).

A question goes to every worker that serves; its answers are collected until all are there, or
until ANSWER_NS have passed, or the workers that are missing have died: then it is answered with
what there is.

Owner: the worker's loop.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ferrisdb.resp.command import Deferred
from ferrisdb.seams import Clock
from ferrisdb.workers.reader_messages import (
    Answer,
    Answered,
    Ask,
    Asked,
    PeerGone,
    Question,
    Request,
    ShutDown,
    Tell,
    Told,
)

ANSWER_NS = 1_000_000_000
_log = logging.getLogger("ferrisdb.reader")


@dataclass(slots=True)
class _Open:
    """A question that is not answered yet."""

    deferred: Deferred
    deadline_ns: int
    answers: dict[int, Any]
    #: Who is to answer; None: not known yet.
    asked: set[int] | None = None
    gone: set[int] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        return self.asked is not None and self.asked <= self.answers.keys() | self.gone


class Peers:
    """The other workers, as one of them sees them."""

    def __init__(
        self,
        number: int,
        clock: Clock,
        *,
        send: Callable[[object], None],
        answer: Callable[[Request], Any],
        wake: Callable[[], None],
    ) -> None:
        """Shape: number, our own; send, to the hub; answer, what we say to a request ourselves;
        wake, has the loop look at `deadline_ns` again."""
        self._number = number
        self._clock = clock
        self._send = send
        self._answer = answer
        self._wake = wake
        # Beyond the numbers of whoever had ours before: a late answer to it is none for us.
        self._numbers = itertools.count(clock.monotonic_ns())
        self._open: dict[int, _Open] = {}

    # What commands call

    def ask(self, request: Request) -> Deferred:
        """Ask all workers, ourselves too.

        Returns: what will have the list of the answers, in the order of the workers' numbers.
        """
        ask_no = next(self._numbers)
        deadline_ns = self._clock.monotonic_ns() + ANSWER_NS
        question = _Open(Deferred(), deadline_ns, {self._number: self._say(request)})
        self._open[ask_no] = question
        self._send(Ask(ask_no, request))
        self._wake()
        return question.deferred

    def tell(self, request: Request, *, key: str | None = None) -> None:
        """Tell the other workers; nothing comes back.

        Shape:   key, if given: workers that start later are told the last request under it, too.
        """
        self._send(Tell(request, key))

    def shut_down(self) -> None:
        """Have the whole service end cleanly."""
        self._send(ShutDown())

    # What the loop calls

    def take(self, message: object) -> bool:
        """Deal with a message from the hub; tell whether it was for us."""
        match message:
            case Question():
                answer = self._say(message.request)
                self._send(Answer(message.asker, message.ask_no, answer))
            case Told():
                self._say(message.request)
            case Asked():
                question = self._open.get(message.ask_no)
                if question is not None:
                    question.asked = set(message.numbers)
                    self._finish(message.ask_no, question)
            case Answered():
                question = self._open.get(message.ask_no)
                if question is not None:
                    question.answers[message.number] = message.answer
                    self._finish(message.ask_no, question)
            case PeerGone():
                for ask_no, question in list(self._open.items()):
                    question.gone.add(message.number)
                    self._finish(ask_no, question)
            case _:
                return False
        return True

    @property
    def deadline_ns(self) -> int | None:
        """When `expire` has something to do next."""
        return min((question.deadline_ns for question in self._open.values()), default=None)

    def expire(self) -> None:
        """Answer what has waited for long enough with what there is."""
        now_ns = self._clock.monotonic_ns()
        for ask_no, question in list(self._open.items()):
            if now_ns >= question.deadline_ns:
                self._finish(ask_no, question, is_over=True)

    def _finish(self, ask_no: int, question: _Open, *, is_over: bool = False) -> None:
        if not (is_over or question.is_complete):
            return
        del self._open[ask_no]
        question.deferred.resolve([question.answers[n] for n in sorted(question.answers)])

    def _say(self, request: Request) -> Any:
        try:
            return self._answer(request)
        except Exception:
            # A request that we can't answer must not cost our clients their connections.
            _log.exception("no answer to %r", request[:1])
            return None
