"""A process that is attached to the database of a model test and does what it is told.

Run as `python -m tests.support.model_child DIRECTORY DESCRIPTOR`: operations come through a socket
and answers go back, until it is closed.
"""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from typing import Any

from tests.support.model_ops import Actor, Op
from tests.support.processes import python
from tests.support.service import ROOT, environment

START_TIMEOUT_S = 60.0


class RemoteActor:
    """`model_ops.Actor` in another process."""

    def __init__(self, path: str, timeout_s: float) -> None:
        """Start the process and wait until it is attached."""
        self._timeout_s = timeout_s
        ours, theirs = Pipe()
        self._pipe: Connection[Any, Any] = ours
        self._process = subprocess.Popen(
            python(__name__, path, theirs.fileno(), timeout_s),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env=environment(),
        )
        theirs.close()
        self._answer(START_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def do(self, op: Op) -> Any:
        """Have the operation carried out; return its answer or raise what it raised."""
        self._pipe.send(op)
        return self._answer(2 * self._timeout_s)

    def close(self) -> None:
        """Have the process leave."""
        self._pipe.close()
        try:
            self._process.wait(START_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _answer(self, timeout_s: float) -> Any:
        assert self._pipe.poll(timeout_s), "the other process does not answer"
        answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer


def main(path: str, descriptor: str, timeout_s: str) -> None:
    """Do what comes, until nothing comes any more."""
    pipe: Connection[Any, Any] = Connection(int(descriptor))
    actor = Actor(path, float(timeout_s))
    pipe.send((None, None))
    while True:
        try:
            op = pipe.recv()
        except (EOFError, ConnectionResetError):
            break
        answer: tuple[Any, Exception | None]
        try:
            answer = (actor.do(op), None)
        except Exception as error:
            answer = (None, error)
        pipe.send(answer)
    actor.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
