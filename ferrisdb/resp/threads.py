"""Do off the loop what would hold it up: hashing of passwords, counting of many keys, pauses.

A fixed number of threads with a bounded queue before them, so that no flood of requests makes more
of either. The results come back into the loop by `post`. The threads are daemons: they keep no
process from ending.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from ferrisdb.errors import Error
from ferrisdb.resp.command import CommandError, Deferred
from ferrisdb.resp.failures import failure_of
from ferrisdb.resp.replies import Failure

_log = logging.getLogger("ferrisdb.resp")

Post = Callable[[Callable[[], None]], None]
"""Have a function called in the loop's thread."""


class Threads:
    """Threads for one kind of work.

    Shape:   thread_count, made as they are needed; waiting_max, jobs that may wait for one.
    Owner:   the worker's loop.
    """

    def __init__(self, name: str, post: Post, *, thread_count: int, waiting_max: int) -> None:
        self._name = name
        self._post = post
        self._left = thread_count
        self._jobs: queue.Queue[tuple[Callable[[], Any], Deferred]] = queue.Queue(waiting_max)

    def run(self, job: Callable[[], Any]) -> Deferred:
        """Have a job done; what it returns is the reply, and what of ours it raises is one, too.

        Raises:  CommandError, too many are waiting.
        """
        deferred = Deferred()
        try:
            self._jobs.put_nowait((job, deferred))
        except queue.Full:
            raise CommandError(
                f"TRYAGAIN too many clients wait for {self._name}: try again later"
            ) from None
        if self._left:
            self._left -= 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return deferred

    def _work(self) -> None:
        while True:
            job, deferred = self._jobs.get()
            reply: Any
            try:
                reply = job()
            except (CommandError, Error) as error:
                reply = Failure(failure_of(error))
            except Exception as error:
                _log.exception("%s failed", self._name)
                reply = Failure(f"ERR {self._name} failed: {type(error).__name__}".encode())
            self._post(lambda d=deferred, r=reply: d.resolve(r))  # type: ignore[misc]


def later(post: Post, seconds: float) -> Deferred:
    """Return what is resolved with None in so many seconds, by a thread of its own."""
    deferred = Deferred()

    def wait() -> None:
        threading.Event().wait(seconds)
        post(lambda: deferred.resolve(None))

    threading.Thread(target=wait, name="pause", daemon=True).start()
    return deferred
