"""Sessions over a real database without sockets; commits are made when the test says so."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable

import ferrisdb
from ferrisdb.attached import Attached
from ferrisdb.errors import ConflictError, Error
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.options import Options
from ferrisdb.resp import all_commands
from ferrisdb.resp.service import Filter, Service, Token
from ferrisdb.resp.session import Session
from ferrisdb.seams import RealClock

TIMEOUT_S = 20.0
NOT_A_CHECK = (1 << 64) - 1

assert all_commands.MODULES


class CommitServer:
    """A socket server's face without sockets.

    It commits what is submitted at once, or, held, when `deliver` is called: in the order in which
    it came, as a ring does.
    """

    #: Set once it is made.
    handler: Service

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self._submitted: deque[tuple[Token, Callable[[], int]]] = deque()
        self._posted: deque[Callable[[], None]] = deque()
        self._open: list[int] = []
        self._count = 0
        self.is_held = False
        #: By connection: what was answered later, what was sent out of turn.
        self.replies: dict[int, list[bytes]] = {}
        self.sent: dict[int, list[bytes]] = {}
        self.closed: list[int] = []
        #: What was told.
        self.limits: dict[str, int | None] = {}
        self.filters: dict[int, Filter] = {}
        self.configured: dict[int, dict[str, int]] = {}

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
        def commit() -> int:
            return self._attached.commit(
                batch,
                durability,
                generation=generation,
                snapshot_seq=snapshot_seq,
                checks=checks,
                expiry_us=expiry_us,
            )

        self._submitted.append((token, commit))
        if not self.is_held:
            self.deliver()

    def deliver(self) -> int:
        """Commit what was submitted until now; returns how much that was."""
        count = len(self._submitted)
        answers: list[tuple[Token, int, int]] = []
        for _ in range(count):
            token, commit = self._submitted.popleft()
            try:
                answers.append((token, 0, commit() - 1))
            except ConflictError as error:
                check = -1 if error.check is None else error.check
                answers.append((token, error.wire_code, check if check >= 0 else NOT_A_CHECK))
            except Error as error:
                answers.append((token, error.wire_code, 0))
        for token, status, detail in answers:
            token.committed(status, detail, 0, False, 0)
        return count

    def post(self, fn: Callable[[], None]) -> None:
        self._posted.append(fn)

    def run_posted(self) -> None:
        """Call what was posted, as the loop does."""
        while self._posted:
            self._posted.popleft()()

    def reply(self, conn: int, data: bytes) -> None:
        self.replies.setdefault(conn, []).append(data)

    def send(self, conn: int, data: bytes) -> None:
        self.sent.setdefault(conn, []).append(data)

    def close(self, conn: int, *, flush: bool = True) -> None:
        del flush
        if conn in self._open:
            self._open.remove(conn)
            self.closed.append(conn)
            self.handler.closed(conn)

    def open(self, fd: int = -1, kind: int = 0) -> int:
        """Take a connection on; returns its number, closed if it is not wanted."""
        self._count += 1
        conn = self._count
        self._open.append(conn)
        if not self.handler.opened(conn, fd, kind):
            self._open.remove(conn)
            self.closed.append(conn)
        return conn

    def connections(self) -> list[int]:
        return list(self._open)

    def describe(self, conn: int) -> dict[str, int]:
        assert conn in self._open
        names = ("kind", "fd", "created_ns", "active_ns", "input_bytes", "output_bytes", "commands")
        return dict.fromkeys(names, 0) | {"fd": -1}

    @property
    def counters(self) -> dict[str, int]:
        return {"connections_total": self._count, "connections_now": len(self._open)}

    def set_limits(self, **limits: int | None) -> None:
        self.limits = limits

    def set_filter(self, conn: int, lens: Filter) -> None:
        self.filters[conn] = lens

    def configure(
        self, conn: int, *, fast: bool, protocol: int, durability: int, authenticated: bool
    ) -> None:
        self.configured[conn] = {
            "fast": fast,
            "protocol": protocol,
            "durability": durability,
            "authenticated": authenticated,
        }


class Client:
    """One connection."""

    def __init__(self, rig: Rig, conn: int) -> None:
        self._rig = rig
        self.conn = conn

    @property
    def db(self) -> ferrisdb.Database:
        return self._rig.db

    @property
    def session(self) -> Session:
        return self._rig.service.sessions[self.conn]

    def send(self, *words: bytes | str | int) -> bytes | None:
        """Send a command; returns the reply's bytes, None if it comes later."""
        argv = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return self._rig.service.command(self.conn, argv)

    def say(self, line: str) -> bytes | None:
        """Send a command whose words are parted by spaces; returns the reply's bytes."""
        return self.send(*line.split())

    def ask(self, *words: bytes | str | int) -> bytes:
        """Send a command and wait for its reply, which may come later."""
        reply = self.send(*words)
        give_up = time.monotonic() + TIMEOUT_S
        while reply is None:
            self._rig.server.run_posted()
            replies = self.later()
            if replies:
                (reply,) = replies
            assert time.monotonic() < give_up, f"no reply to {words[0]!r}"
        return reply

    def later(self) -> list[bytes]:
        """Return and forget the replies that came later."""
        return self._rig.server.replies.pop(self.conn, [])


class Rig:
    """A worker's service and its connections over a database."""

    def __init__(self, db: ferrisdb.Database, options: Options | None = None) -> None:
        self.db = db
        self.service = Service(
            db.attached, RealClock(), durability=layout.DURABILITY_OS, options=options
        )
        self.server = CommitServer(db.attached)
        self.server.handler = self.service
        self.service.server = self.server

    def client(self, kind: int = 0) -> Client:
        """Connect; by a Unix socket as the user that the test runs as."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            return Client(self, self.server.open(ours.fileno(), kind))
