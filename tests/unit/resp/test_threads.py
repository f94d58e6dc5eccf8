"""Goal: slow work is done off the loop, bounded in number, and its failures are replies.

Method: jobs that wait for the test; the loop is a queue.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from ferrisdb.errors import BusyError
from ferrisdb.resp.command import CommandError, Deferred
from ferrisdb.resp.replies import Failure
from ferrisdb.resp.threads import Threads, later

TIMEOUT_S = 20.0


class Loop:
    """What is posted, to be called by the test."""

    def __init__(self) -> None:
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()

    def wait(self, *deferred: Deferred) -> list[object]:
        while not all(one.is_resolved for one in deferred):
            self.posted.get(timeout=TIMEOUT_S)()
        return [one.reply for one in deferred]


def test_results_come_back_into_the_loop() -> None:
    loop = Loop()
    threads = Threads("work", loop.posted.put, thread_count=2, waiting_max=10)
    here = threading.get_ident()
    jobs = [threads.run(threading.get_ident) for _ in range(5)]
    assert not any(job.is_resolved for job in jobs)
    assert here not in loop.wait(*jobs)


def test_no_more_wait_than_may() -> None:
    loop = Loop()
    threads = Threads("work", loop.posted.put, thread_count=1, waiting_max=2)
    begun, go_on = threading.Event(), threading.Event()

    def job() -> int:
        begun.set()
        assert go_on.wait(TIMEOUT_S)
        return 7

    jobs = [threads.run(job)]
    assert begun.wait(TIMEOUT_S)
    jobs += [threads.run(job), threads.run(job)]
    with pytest.raises(CommandError, match="TRYAGAIN too many clients wait for work"):
        threads.run(job)
    go_on.set()
    assert loop.wait(*jobs) == [7, 7, 7]


def test_failures_are_replies() -> None:
    loop = Loop()
    threads = Threads("work", loop.posted.put, thread_count=1, waiting_max=10)

    def fail(error: Exception) -> Callable[[], None]:
        def job() -> None:
            raise error

        return job

    errors = [CommandError("ERR no"), BusyError("stalled"), ZeroDivisionError("oh")]
    replies = loop.wait(*[threads.run(fail(error)) for error in errors])
    assert replies == [
        Failure(b"ERR no"),
        Failure(b"TRYAGAIN writes are stalled behind the flush: nothing was written"),
        Failure(b"ERR work failed: ZeroDivisionError"),
    ]


def test_a_pause_ends() -> None:
    loop = Loop()
    assert loop.wait(later(loop.posted.put, 0.001)) == [None]
