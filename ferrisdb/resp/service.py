"""What the sessions of one worker share; the socket server's handler."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ferrisdb.kernel.space import Space
from ferrisdb.keys import CURSORS_PREFIX, DEFAULT_PREFIX, prefix_end
from ferrisdb.options import Options
from ferrisdb.resp.authentication import Authentication
from ferrisdb.resp.counting import KeyCount
from ferrisdb.resp.cursors import Stems
from ferrisdb.resp.failures import failure_of_status
from ferrisdb.resp.gathering import Gatherings
from ferrisdb.resp.identity import group_id, own_user, peer_of
from ferrisdb.resp.peers import Alone, Peers, Request
from ferrisdb.resp.replies import Failure, encode
from ferrisdb.resp.session import Session
from ferrisdb.resp.settings import Settings
from ferrisdb.resp.threads import Threads
from ferrisdb.resp.tls import TlsFilter, server_context
from ferrisdb.resp.turns import Turns
from ferrisdb.resp.users import DEFAULT, User
from ferrisdb.seams import RealRng

if TYPE_CHECKING:
    from ferrisdb.attached import Attached
    from ferrisdb.kernel.batch import BatchBuffer
    from ferrisdb.seams import Clock, Rng

KIND_UNIX = 0
KIND_TCP = 1
KIND_TLS = 2
"""What a connection came by; the numbers are the kernel server's."""

COUNTING_WAITING_MAX = 256

RECLAIM_AFTER_S = 1.0
RECLAIM_KEYS_MIN = 4096


class Token(Protocol):
    """Who waits for a commit."""

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Take the commit's answer."""


class Filter(Protocol):
    """What stands between a socket and the server; `tls.TlsFilter` is one."""

    def received(self, data: bytes) -> bytes:
        """Take what has arrived; return the plaintext in it."""

    def sending(self, data: bytes) -> bytes:
        """Take plaintext; return all ciphertext that is to be sent."""

    def pending(self) -> bytes:
        """Return ciphertext that is to be sent without any plaintext."""


class Server(Protocol):
    """What sessions ask of the socket server; `kernel.server.SocketServer` is one."""

    @property
    def counters(self) -> dict[str, int]:
        """Figures since the worker's start."""

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

    def post(self, fn: Callable[[], None]) -> None:
        """Have a function called in the loop's thread; from any thread."""

    def close(self, conn: int, *, flush: bool = True) -> None:
        """Close a connection, behind what is to be sent with `flush`."""

    def connections(self) -> list[int]:
        """Return all connections."""

    def describe(self, conn: int) -> dict[str, int]:
        """Return the figures of a connection."""

    def set_limits(
        self,
        *,
        connection_count_max: int,
        request_bytes_max: int,
        output_bytes_max: int,
        idle_ns: int,
        partial_ns: int,
    ) -> None:
        """Change the bounds."""

    def set_filter(self, conn: int, lens: Filter) -> None:
        """Put a filter before a connection that has just been opened."""


class _Opened(NamedTuple):
    """How a connection began, where that is not as most do: by the service's own user."""

    kind: int
    user: User | None
    authenticated: bool


_OWN = _Opened(KIND_UNIX, None, True)


class Service:
    """One worker's part of the service.

    Shape:   durability, of commands of connections that have not chosen one; worker_number, from
             0; options, resolved.
    Owner:   the worker's loop.
    """

    #: Set once it is made, for it is made with this handler.
    server: Server

    def __init__(
        self,
        attached: Attached,
        clock: Clock,
        *,
        durability: int,
        worker_number: int = 0,
        options: Options | None = None,
        rng: Rng | None = None,
    ) -> None:
        """Read the users and, for TLS, the certificate.

        Raises:  UsageError, AccessError, StorageError: they can't be.
        """
        self.attached: Attached = attached
        self.clock = clock
        self.rng: Rng = rng or RealRng()
        self.durability = durability
        self.worker_number = worker_number
        self.options: Options = options or Options()
        self.settings: Settings = Settings.of(self.options)
        self.timeout_ns = attached.timeout_ns
        #: What commands read and write: the default key space.
        self.space = Space(attached, DEFAULT_PREFIX)
        #: What cursors refer to.
        self.stems_space = Space(attached, CURSORS_PREFIX)
        self.stems = Stems()
        self.turns = Turns()
        self.gatherings = Gatherings()
        self.counting = Threads(
            "counting keys", self._post, thread_count=1, waiting_max=COUNTING_WAITING_MAX
        )
        self.reclaiming = Threads("reclaiming space", self._post, thread_count=1, waiting_max=1)
        self._is_reclaiming = False
        self.authentication = Authentication(attached.path, self.rng, self._post)
        self.peers: Peers = Alone(self.answer)
        self.started_us = clock.wall_us()
        #: The server's counters when CONFIG RESETSTAT came.
        self.counted_before: dict[str, int] = {}
        #: For INFO.
        self.key_count = KeyCount()
        self.sessions: dict[int, Session] = {}
        self._ids = itertools.count((worker_number << 40) + 1)
        self._opened: dict[int, _Opened] = {}
        self._group = group_id(self.options.socket_group)
        self._tls = None
        if self.options.tls_port is not None and self.options.tls_cert_file is not None:
            self._tls = server_context(self.options.tls_cert_file, self.options.tls_key_file)

    def _post(self, fn: Callable[[], None]) -> None:
        self.server.post(fn)

    def reclaim(self) -> None:
        """Have what is about to be removed as a whole merged away: scans step over it until then.

        In a thread, for the coordinator's answer is waited for there; once for all who ask within
        RECLAIM_AFTER_S, in which their commits come about; and not where there is little.
        """
        view = self.attached.view
        if self._is_reclaiming or view is None:
            return
        key_count = sum(memtable.key_count for memtable in view.memtables)
        if key_count < RECLAIM_KEYS_MIN and not view.page.tables:
            return
        self._is_reclaiming = True
        prefix = self.space.prefix

        def ask() -> None:
            threading.Event().wait(RECLAIM_AFTER_S)
            self._is_reclaiming = False
            self.attached.ask_compaction(prefix, prefix_end(prefix))

        self.reclaiming.run(ask)

    def next_session_id(self) -> int:
        """Return an id that no session of any worker had."""
        return next(self._ids)

    # The server's handler

    def opened(self, conn: int, fd: int, kind: int) -> bool:
        """Take a new connection; False: it is to be closed at once."""
        begun = self._begin(fd, kind)
        if begun is None:
            return False
        if begun != _OWN:
            # Most are as `_OWN` is, and cost nothing here.
            self._opened[conn] = begun
        if kind == KIND_TLS:
            assert self._tls is not None, "there is no listener for TLS without a certificate"
            self.server.set_filter(conn, TlsFilter(self._tls))
        self._configure(conn, begun)
        return True

    def _begin(self, fd: int, kind: int) -> _Opened | None:
        """Tell how a connection begins (identity.py, U1 to U3); None: not at all."""
        if kind != KIND_UNIX:
            return _Opened(kind, None, False)
        peer = peer_of(fd)
        if peer is not None and peer.uid == own_user():
            return _OWN
        if peer is None or self._group is None or self._group not in peer.groups:
            return None
        self.reload()
        user = self.authentication.users.by_name.get(DEFAULT)
        return _Opened(kind, user, user is not None)

    def command(self, conn: int, args: list[bytes]) -> bytes | None:
        """Execute a command; returns its reply, None if it comes later."""
        session = self.sessions.get(conn)
        if session is None:
            session = self.session(conn)
        return session.execute(args)

    def session(self, conn: int) -> Session:
        """Return a connection's session; there is none until it is needed."""
        session = self.sessions.get(conn)
        if session is None:
            begun = self._opened.get(conn, _OWN)
            session = self.sessions[conn] = Session(self, conn, begun.kind)
            session.user, session.authenticated = begun.user, begun.authenticated
        return session

    def start_over(self, session: Session) -> None:
        """Make a session whose it was when it began."""
        begun = self._opened.get(session.conn, _OWN)
        user = begun.user
        if user is not None:
            user = self.authentication.users.by_name.get(user.name)
        session.user = user
        session.authenticated = begun.authenticated and (begun.user is None or user is not None)

    def closed(self, conn: int) -> None:
        """Forget a connection."""
        self._opened.pop(conn, None)
        session = self.sessions.pop(conn, None)
        if session is not None:
            session.is_closed = True

    def failure(self, status: int) -> bytes:
        """Return the encoded error line of a commit's status."""
        return encode(Failure(failure_of_status(status)), 2)

    # For commands and peers

    def all_sessions(self) -> list[Session]:
        """Return the sessions of all connections of this worker, of silent ones, too."""
        return [self.session(conn) for conn in self.server.connections()]

    def answer(self, request: Request) -> Any:
        """Answer what this worker or another one asks."""
        from ferrisdb.resp.questions import ANSWERS

        name, *values = request
        return ANSWERS[name](self, *values)

    def apply_settings(self) -> None:
        """Let the server keep the bounds that the settings say."""
        self.server.set_limits(**self.settings.limits())

    def reload(self, *, tells: bool = True) -> None:
        """Read the users again if they have changed: sessions of those that are gone are closed.

        Shape:   tells, whether the other workers are told to do so, too.
        """
        if not self.authentication.refresh():
            return
        if tells:
            self.peers.tell(("reload",))
        users = self.authentication.users.by_name
        for conn, former in list(self._opened.items()):
            if former.user is not None:
                user = users.get(former.user.name)
                self._opened[conn] = begun = _Opened(former.kind, user, user is not None)
                if conn not in self.sessions:
                    self._configure(conn, begun)
        for session in list(self.sessions.values()):
            held = session.user
            if held is None or held == users.get(held.name):
                continue
            session.user = users.get(held.name)
            if session.user is None:
                session.authenticated = False
                self.server.close(session.conn, flush=False)
            else:
                session.configure()

    def _configure(self, conn: int, begun: _Opened) -> None:
        """Tell the kernel what it may do for a connection that has no session."""
        self.server.configure(
            conn,
            fast=begun.authenticated and (begun.user is None or begun.user.may_all),
            protocol=2,
            durability=self.durability,
            authenticated=begun.authenticated,
        )
