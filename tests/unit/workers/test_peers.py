"""Questions to the other workers are answered by who is there, within a second."""

from __future__ import annotations

from typing import Any

from ferrisdb.workers.peers import ANSWER_NS, Peers
from ferrisdb.workers.reader_messages import (
    Answer,
    Answered,
    Ask,
    Asked,
    Leave,
    PeerGone,
    Question,
    ShutDown,
    Tell,
    Told,
)
from tests.support.fakes import ManualClock


class Worker:
    """Number 1 of three, which answers with its number and what it was asked."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[Any] = []
        self.heard: list[tuple[Any, ...]] = []
        self.wakes = 0
        self.peers = Peers(
            1, self.clock, send=self.sent.append, answer=self._answer, wake=self._wake
        )

    def _wake(self) -> None:
        self.wakes += 1

    def _answer(self, request: tuple[Any, ...]) -> Any:
        self.heard.append(request)
        if request == ("fail",):
            raise ValueError
        return (1, *request)

    def ask(self) -> tuple[int, list[Any]]:
        """Ask; return the question's number, and where its answer will be."""
        got: list[Any] = []
        self.peers.ask(("who",)).then(got.append)
        ask = self.sent[-1]
        assert isinstance(ask, Ask) and ask.request == ("who",)
        return ask.ask_no, got


def test_an_answer_has_everyones_in_order() -> None:
    worker = Worker()
    no, got = worker.ask()
    assert worker.peers.take(Asked(no, (0, 2)))
    assert worker.peers.take(Answered(no, 2, "two"))
    assert got == []
    assert worker.peers.take(Answered(no, 0, "zero"))
    assert got == [["zero", (1, "who"), "two"]]
    assert worker.peers.deadline_ns is None


def test_who_is_alone_answers_at_once() -> None:
    worker = Worker()
    no, got = worker.ask()
    worker.peers.take(Asked(no, ()))
    assert got == [[(1, "who")]]


def test_the_dead_are_not_waited_for() -> None:
    worker = Worker()
    no, got = worker.ask()
    # It may be dead before the hub has said whom it asked, too.
    worker.peers.take(PeerGone(0))
    worker.peers.take(Asked(no, (0, 2)))
    worker.peers.take(PeerGone(2))
    assert got == [[(1, "who")]]


def test_the_slow_are_waited_for_no_longer_than_a_second() -> None:
    worker = Worker()
    no, got = worker.ask()
    worker.peers.take(Asked(no, (0, 2)))
    worker.peers.take(Answered(no, 0, "zero"))
    assert worker.peers.deadline_ns is not None
    assert worker.wakes == 1
    worker.clock.advance_us((ANSWER_NS - 1) // 1000)
    worker.peers.expire()
    assert got == []
    worker.clock.advance_us(1)
    worker.peers.expire()
    assert got == [["zero", (1, "who")]]
    worker.peers.take(Answered(no, 2, "late"))
    assert len(got) == 1


def test_others_are_answered_and_heard() -> None:
    worker = Worker()
    worker.peers.take(Question(2, 77, ("what",)))
    assert worker.sent == [Answer(2, 77, (1, "what"))]
    worker.peers.take(Told(("set", "x")))
    assert worker.heard[-1] == ("set", "x") and len(worker.sent) == 1
    assert not worker.peers.take(Leave())


def test_a_request_that_fails_is_answered_with_nothing() -> None:
    worker = Worker()
    worker.peers.take(Question(0, 5, ("fail",)))
    assert worker.sent == [Answer(0, 5, None)]


def test_what_is_told_goes_to_the_hub() -> None:
    worker = Worker()
    worker.peers.tell(("set", 1))
    worker.peers.tell(("set", 2), key="set")
    worker.peers.shut_down()
    assert worker.sent == [Tell(("set", 1)), Tell(("set", 2), "set"), ShutDown()]
