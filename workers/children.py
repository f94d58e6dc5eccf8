"""Start the compactor, listen to it, and notice its death.

A thread of the coordinator waits at the pipe; what comes goes into a queue, and the doorbell is
rung, so that the commit loop comes back for it. The process itself is started by the main
thread, on whose life its PDEATHSIG hangs.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ferrisdb.workers import compactor
from ferrisdb.workers.messages import Answer, CompactorOptions, Request, Stop
from ferrisdb.workers.reader_messages import HubNote

_log = logging.getLogger("ferrisdb.coordinator")


class Died:
    """The compactor is gone; nothing more comes from it."""


class Synced:
    """The background sync of a WAL file ended."""

    __slots__ = ("number", "upto")

    def __init__(self, number: int, upto: int) -> None:
        self.number = number
        self.upto = upto


Inbox = queue.SimpleQueue[Answer | Died | Synced | HubNote]
"""What the coordinator's other threads tell its main thread."""


class CompactorPort(Protocol):
    """A compactor, as the coordinator sees it (children.CompactorProcess)."""

    def send(self, request: Request) -> None:
        """Give it a request."""

    def stop(self, timeout_s: float) -> None:
        """Have it leave."""

    def bury(self) -> int | None:
        """Take leave of one that died."""


class CompactorFactory(Protocol):
    """Starts a compactor."""

    def __call__(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> CompactorPort:
        """Start it; its answers go to the inbox, and `ring` is called behind each."""


class CompactorProcess:
    """One compactor process and the thread that listens to it."""

    def __init__(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> None:
        import multiprocess  # heavy, and needed only once the service is up

        context = multiprocess.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        self._pipe = ours
        self._inbox = inbox
        self._ring = ring
        self._process: Any = context.Process(
            target=compactor.main,
            name="ferrisdb-compactor",
            args=(directory, theirs, options, generation, os.getpid()),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._listener = threading.Thread(
            target=self._listen, name="compactor-listener", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return int(self._process.pid)

    def send(self, request: Request) -> None:
        """Give it a request; one that is dead never answers, and its death is told instead."""
        try:
            self._pipe.send(request)
        except (BrokenPipeError, ConnectionResetError, OSError):
            _log.debug("the compactor is gone before %s", type(request).__name__)

    def stop(self, timeout_s: float) -> None:
        """Have it leave; kill it if it doesn't in time."""
        self.send(Stop())
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._listener.join(1.0)
        self._pipe.close()
        self._process.close()

    def bury(self) -> int | None:
        """Take leave of one that died; returns its exit code."""
        self._process.join()
        code = self._process.exitcode
        self._listener.join(1.0)
        self._pipe.close()
        self._process.close()
        return None if code is None else int(code)

    def _listen(self) -> None:
        while True:
            try:
                answer = self._pipe.recv()
            except (EOFError, OSError):
                self._inbox.put(Died())
                self._ring()
                return
            self._inbox.put(answer)
            self._ring()
