"""What the sessions of one worker share; the socket server's handler."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

from ferrisdb.kernel.space import Space
from ferrisdb.keys import DEFAULT_PREFIX
from ferrisdb.resp.failures import failure_of_status
from ferrisdb.resp.replies import Failure, encode
from ferrisdb.resp.session import Session
from ferrisdb.resp.turns import Turns

if TYPE_CHECKING:
    from ferrisdb.attached import Attached
    from ferrisdb.kernel.batch import BatchBuffer
    from ferrisdb.seams import Clock


class Token(Protocol):
    """Who waits for a commit."""

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Take the commit's answer."""


class Server(Protocol):
    """What sessions ask of the socket server; `kernel.server.SocketServer` is one."""

    def submit(
        self,
        token: Token,
        batch: BatchBuffer,
        durability: int,
        generation: int = 0,
        snapshot_seq: int = 0,
        checks: bytes = b"",
        expiry_us: int = 0,
    ) -> None:
        """Have a batch committed; `token.committed` is called later."""

    def reply(self, conn: int, data: bytes) -> None:
        """Answer a deferred command."""

    def configure(
        self, conn: int, *, fast: bool, protocol: int, durability: int, authenticated: bool
    ) -> None:
        """Say what the kernel may do for a connection by itself."""


class Service:
    """One worker's part of the service.

    Shape:   durability, of commands of connections that have not chosen one; worker_number, from
             0.
    Owner:   the worker's loop.
    """

    #: Set once it is made, for it is made with this handler.
    server: Server

    def __init__(
        self, attached: Attached, clock: Clock, *, durability: int, worker_number: int = 0
    ) -> None:
        self.attached = attached
        self.clock = clock
        self.durability = durability
        self.timeout_ns = attached.timeout_ns
        #: What commands read and write: the default key space.
        self.space = Space(attached, DEFAULT_PREFIX)
        self.turns = Turns()
        self.sessions: dict[int, Session] = {}
        self._ids = itertools.count((worker_number << 40) + 1)
        self._kinds: dict[int, int] = {}

    def next_session_id(self) -> int:
        """Return an id that no session of any worker had."""
        return next(self._ids)

    # The server's handler

    def opened(self, conn: int, fd: int, kind: int) -> bool:
        """Take a new connection."""
        del fd
        self._kinds[conn] = kind
        return True

    def command(self, conn: int, args: list[bytes]) -> bytes | None:
        """Execute a command; returns its reply, None if it comes later."""
        session = self.sessions.get(conn)
        if session is None:
            session = self.sessions[conn] = Session(self, conn, self._kinds.get(conn, 0))
        return session.execute(args)

    def closed(self, conn: int) -> None:
        """Forget a connection."""
        self._kinds.pop(conn, None)
        session = self.sessions.pop(conn, None)
        if session is not None:
            session.is_closed = True

    def failure(self, status: int) -> bytes:
        """Return the encoded error line of a commit's status."""
        return encode(Failure(failure_of_status(status)), 2)

    def all_sessions(self) -> list[Any]:
        """Return the sessions of this worker."""
        return list(self.sessions.values())
