"""A reader worker's sockets in the thread of an inline service: one connection, round by round."""

from __future__ import annotations

import os
import socket
import time

from ferrisdb.bench.inline import InlineService
from ferrisdb.kernel.layout import DURABILITY_OS
from ferrisdb.kernel.server import SocketServer
from ferrisdb.options import Options
from ferrisdb.resp import all_commands
from ferrisdb.resp.service import KIND_UNIX, Service
from ferrisdb.seams import RealClock

assert all_commands.MODULES, "the registry is full once they are imported"

GATHERED_S = 0.0002
_FOREVER_NS = 3_600_000_000_000


class InlineReader:
    """The worker and its client.

    Owner:   the service's thread.
    """

    def __init__(self, service: InlineService, socket_path: str) -> None:
        self._inline = service
        self._attached = service.attach()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        handler = Service(self._attached, RealClock(), durability=DURABILITY_OS, options=Options())
        self._server = SocketServer(
            self._attached, handler, wake_fd=self._wake_fd, **handler.settings.limits()
        )
        handler.server = self._server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(socket_path)
        self._listener.listen()
        self._listener.setblocking(False)
        self._server.listen(self._listener.fileno(), KIND_UNIX)
        self._client = socket.socket(socket.AF_UNIX)
        self._client.connect(socket_path)
        self._client.setblocking(False)
        self.ask(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")

    @staticmethod
    def request(*words: bytes) -> bytes:
        """Return a command's bytes."""
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        return b"".join(parts)

    def ask(self, requests: bytes, expected: bytes) -> None:
        """Send requests and take the answers, which must be as expected."""
        self._client.sendall(requests)
        answers = b""
        for _ in range(4):
            self._serve()
            try:
                answers += self._client.recv(1 << 20)
            except BlockingIOError:
                pass
            if len(answers) >= len(expected):
                break
            # Writes that it has gathered are pushed when they have waited for a while.
            time.sleep(GATHERED_S)
            self._serve()
            self._inline.pump()
        if answers != expected:
            raise RuntimeError(f"wrong answer to {requests[:60]!r}: {answers[:60]!r}")

    def _serve(self) -> None:
        # The first round calls `post`, so that there is something to do, and epoll is asked
        # without waiting; the second one calls `stop`, does the work and is the last.
        self._server.post(lambda: self._server.post(self._server.stop))
        self._server.run(time.monotonic_ns() + _FOREVER_NS)

    def close(self) -> None:
        """Close the sockets, and detach."""
        self._server.shut()
        self._client.close()
        self._listener.close()
        self._attached.close()
        os.close(self._wake_fd)
