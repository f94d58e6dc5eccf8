"""Run a SocketServer in a thread of the test, with a handler that does little but all of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferrisdb.attached import Attached
from ferrisdb.kernel import layout
from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.kernel.server import SocketServer
from ferrisdb.keys import DEFAULT_PREFIX
from tests.support.databases import TIMEOUT_S

NEVER_NS = 1 << 62

BOTH = pytest.mark.parametrize("fast", [False, True], ids=["python", "kernel"])
"""With commands that the handler carries out, and that the kernel does where it can."""


class Waiting:
    """A write of a handler's command, until it is committed."""

    def __init__(self, server: SocketServer, conn: int) -> None:
        self.server, self.conn = server, conn

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Tell the client what became of it."""
        del seq, applied, fits, result
        self.server.reply(self.conn, b"-STATUS %d\r\n" % status if status else b"+OK\r\n")


class Handler:
    """Commands in plain Python: ECHO, SET, GET and what a test adds to `commands`.

    Shape: fast, whether the kernel may carry out its own; the rest as `configure`.
    """

    def __init__(self, *, fast: bool, protocol: int = 2, authenticated: bool = True) -> None:
        self.fast, self.protocol, self.authenticated = fast, protocol, authenticated
        self.durability = layout.DURABILITY_OS
        self.server: SocketServer
        #: What was asked, in order: (connection, arguments).
        self.asked: list[tuple[int, list[bytes]]] = []
        self.was_opened: list[int] = []
        self.was_closed: list[int] = []
        self.commands: dict[bytes, Callable[[int, list[bytes]], bytes | None]] = {
            b"echo": self._echo,
            b"set": self._set,
            b"ping": lambda conn, args: b"+PONG\r\n",
            b"quit": self._quit,
        }

    def opened(self, conn: int, fd: int, kind: int) -> bool:
        """Take everybody on."""
        del fd, kind
        self.was_opened.append(conn)
        self.server.configure(
            conn,
            fast=self.fast,
            protocol=self.protocol,
            durability=self.durability,
            authenticated=self.authenticated,
        )
        return True

    def closed(self, conn: int) -> None:
        """Note it."""
        self.was_closed.append(conn)

    def command(self, conn: int, args: list[bytes]) -> bytes | None:
        """Do what `commands` says."""
        self.asked.append((conn, args))
        command = self.commands.get(args[0].lower())
        return b"-ERR unknown command\r\n" if command is None else command(conn, args)

    def failure(self, status: int) -> bytes:
        """Show the wire code."""
        return b"-STATUS %d\r\n" % status

    def _echo(self, conn: int, args: list[bytes]) -> bytes:
        del conn
        return bulk(args[1])

    def _quit(self, conn: int, args: list[bytes]) -> bytes:
        del args
        self.server.close(conn)
        return b"+OK\r\n"

    def _set(self, conn: int, args: list[bytes]) -> None:
        batch = BatchBuffer(DEFAULT_PREFIX)
        batch.put(args[1], args[2])
        self.server.submit(Waiting(self.server, conn), batch, self.durability)


def bulk(value: bytes) -> bytes:
    """Encode a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def request(*args: bytes | str | int) -> bytes:
    """Encode a request."""
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(bulk(part) for part in parts)


class Served:
    """A running server, and sockets to it."""

    def __init__(self, path: str, socket_path: Path, server: SocketServer, handler: Handler):
        self.path, self.socket_path = path, socket_path
        self.server, self.handler = server, handler
        self._sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """Open one more connection; closed behind the test."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT_S)
        client.connect(str(self.socket_path))
        self._sockets.append(client)
        return client

    def ask(self, sent: bytes, nbytes: int) -> bytes:
        """Send bytes over a new connection and read an answer of so many bytes."""
        client = self.connect()
        client.sendall(sent)
        return receive(client, nbytes)

    def call(self, fn: Callable[[], object]) -> object:
        """Run something in the server's thread and return what it returned."""
        done = threading.Event()
        found: list[object] = []

        def run() -> None:
            found.append(fn())
            done.set()

        self.server.post(run)
        assert done.wait(TIMEOUT_S)
        return found[0]

    def close(self) -> None:
        """Close the clients."""
        for client in self._sockets:
            client.close()


def receive(client: socket.socket, nbytes: int) -> bytes:
    """Read exactly so many bytes; fewer if the connection ends."""
    parts = b""
    while len(parts) < nbytes:
        more = client.recv(min(nbytes - len(parts), 1 << 20))
        if not more:
            break
        parts += more
    return parts


def receive_all(client: socket.socket) -> bytes:
    """Read until the connection ends."""
    parts = b""
    try:
        while more := client.recv(1 << 20):
            parts += more
    except ConnectionResetError:
        pass
    return parts


def exchange(client: socket.socket, sent: bytes, expected: bytes) -> None:
    """Send bytes, and see that these are answered."""
    client.sendall(sent)
    assert receive(client, len(expected)) == expected


def is_silent(client: socket.socket, seconds: float = 0.05) -> bool:
    """Tell whether nothing comes for a while."""
    client.settimeout(seconds)
    try:
        return client.recv(1, socket.MSG_PEEK) == b"" and False
    except TimeoutError:
        return True
    finally:
        client.settimeout(TIMEOUT_S)


@contextmanager
def serving(path: str, handler: Handler, **limits: int) -> Iterator[Served]:
    """Serve a database whose service runs, over a Unix socket beside it."""
    attached = Attached(path, start=True, timeout=TIMEOUT_S, durability="os")
    wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX)
    socket_path = Path(path) / "test.sock"
    listener.bind(str(socket_path))
    listener.listen(128)
    listener.setblocking(False)
    server = SocketServer(attached, handler, wake_fd=wake_fd, **limits)
    handler.server = server
    server.listen(listener.fileno(), 0)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run(NEVER_NS)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="server")
    thread.start()
    served = Served(path, socket_path, server, handler)
    try:
        yield served
    finally:
        served.close()
        server.stop()
        thread.join(TIMEOUT_S)
        server.shut()
        listener.close()
        os.close(wake_fd)
        attached.close()
        socket_path.unlink()
    assert not failures, failures


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again until it holds."""
    give_up = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.002)
