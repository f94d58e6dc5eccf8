"""Speak RESP over a bare socket, with nothing between the test and the bytes.

A reply is kept as a tree that loses nothing: `Node.kind` is its first byte, `Node.raw` its bytes.
This is the tests' own reading of the protocol, shared with nothing of the server.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any

LINES = b"+-:,#_("
BLOBS = b"$=!"
AGGREGATES = b"*~>%"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a socket's path, or a host and a port."""

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    user: str = ""
    password: str = ""

    def connect(self, timeout_s: float | None) -> socket.socket:
        """Return a connected socket; nobody has authenticated yet."""
        if not self.path:
            made = socket.create_connection((self.host, self.port), timeout_s)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout_s)
        try:
            made.connect(self.path)
        except BaseException:
            made.close()
            raise
        return made


@dataclass(frozen=True, slots=True)
class Node:
    """One reply, or a part of one."""

    kind: bytes
    value: Any
    """Line and blob: bytes, or None for a null. Aggregate: a list of nodes, or None."""
    raw: bytes

    @property
    def is_error(self) -> bool:
        """Tell whether it is an error."""
        return self.kind in b"-!"

    def plain(self) -> Any:
        """Return what a client's user would get."""
        if self.value is None or self.kind == b"_":
            return None
        if self.kind == b":":
            return int(self.value)
        if self.kind in AGGREGATES:
            parts = [node.plain() for node in self.value]
            if self.kind == b"%":
                return dict(zip(parts[::2], parts[1::2], strict=True))
            return parts
        if self.is_error:
            return RuntimeError(self.value.decode("latin-1"))
        return self.value


class Incomplete(Exception):
    """The bytes so far don't hold a whole reply."""


def parse(data: bytes, at: int = 0) -> tuple[Node, int]:
    """Read one reply; returns it and where the next begins.

    Raises: Incomplete; ValueError, these bytes are no RESP.
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line = data[at : at + 1], data[at + 1 : end]
    end += 2
    if kind in LINES:
        return Node(kind, line, data[at:end]), end
    if not kind or kind not in BLOBS + AGGREGATES:
        raise ValueError(f"no RESP at {data[at : at + 60]!r}")
    count = int(line)
    if count < 0:
        return Node(kind, None, data[at:end]), end
    if kind in BLOBS:
        stop = end + count
        if len(data) < stop + 2:
            raise Incomplete
        if data[stop : stop + 2] != b"\r\n":
            raise ValueError(f"a blob of {count} bytes ends in {data[stop : stop + 2]!r}")
        return Node(kind, data[end:stop], data[at : stop + 2]), stop + 2
    parts = []
    for _ in range(2 * count if kind == b"%" else count):
        part, end = parse(data, end)
        parts.append(part)
    return Node(kind, parts, data[at:end]), end


def encode(*words: bytes | str | int) -> bytes:
    """Return a request as an array of blobs."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join(
        [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
    )


class Wire:
    """One connection.

    Raises: EOFError, the server has closed it; TimeoutError; ValueError, it doesn't speak RESP.
    """

    def __init__(self, address: Address, *, timeout_s: float = 10.0, protocol: int = 2) -> None:
        self.socket = address.connect(timeout_s)
        self._input = b""
        try:
            if address.password:
                user = [address.user] if address.user else []
                self.require(b"AUTH", *user, address.password)
            if protocol != 2:
                self.require(b"HELLO", protocol)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def read(self) -> Node:
        """Wait for one reply."""
        while True:
            try:
                node, end = parse(self._input)
            except Incomplete:
                self._receive()
                continue
            self._input = self._input[end:]
            return node

    def read_many(self, count: int) -> list[Node]:
        """Wait for so many replies."""
        found: list[Node] = []
        at = 0
        while len(found) < count:
            try:
                node, at = parse(self._input, at)
                found.append(node)
            except Incomplete:
                self._input, at = self._input[at:], 0
                self._receive()
        self._input = self._input[at:]
        return found

    def _receive(self) -> None:
        more = self.socket.recv(1 << 18)
        if not more:
            raise EOFError("the server has closed the connection")
        self._input += more

    def call(self, *words: bytes | str | int) -> Any:
        """Run one command; returns its plain reply, an error as a RuntimeError."""
        self.send(encode(*words))
        return self.read().plain()

    def require(self, *words: bytes | str | int) -> Any:
        """Run one command and raise what is an error."""
        reply = self.call(*words)
        if isinstance(reply, RuntimeError):
            raise reply
        return reply

    def pipeline(self, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        """Send several commands at once; returns their plain replies."""
        self.send(b"".join(encode(*command) for command in commands))
        return [node.plain() for node in self.read_many(len(commands))]
