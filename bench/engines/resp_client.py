"""A lean Redis client: one connection, one request at a time, or a batch as one request.

Redis's own client for Python takes several times as long for a call as the server; this one does
no more than write the request's bytes and find the reply's end. The engines that are reached by a
socket share it, so it favours none.
"""

from __future__ import annotations

import socket
from typing import Final

from ferrisdb.bench.engines.base import EngineError

RECEIVE_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 60.0

Reply = bytes | int | None | list["Reply"]


class ReplyError(EngineError):
    """The server answered with an error, and the connection is as good as before."""

    def __init__(self, text: str) -> None:
        super().__init__(f"the server answers {text}")
        #: The error's first word, such as "ERR".
        self.word = text.partition(" ")[0]


class RespClient:
    """A connection to a Unix socket, or whatever is connected already.

    Raises:  EngineError, the server answers with an error, and what the reply would have been is
             lost; OSError, the connection is.
    """

    __slots__ = ("_at", "_buffer", "_receive", "_send", "_socket")

    def __init__(self, place: str | socket.socket) -> None:
        self._socket = place if isinstance(place, socket.socket) else _connected(place)
        self._send = self._socket.sendall
        self._receive = self._socket.recv
        #: What has come, and how much of it is read.
        self._buffer = b""
        self._at = 0

    def get(self, key: bytes) -> bytes | None:
        """Return a key's value."""
        self._send(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
        head = self._receive(RECEIVE_BYTES)
        # The whole of a bulk reply at once, which is how nearly all come.
        if head[:1] == b"$" and (end := head.find(b"\r\n")) > 0:
            length = int(head[1:end])
            if length < 0:
                return None
            if len(head) == end + length + 4:
                return head[end + 2 : -2]
        value = self._rest_of(head)
        assert value is None or isinstance(value, bytes)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        self._send(
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
        )
        head = self._receive(RECEIVE_BYTES)
        if head != b"+OK\r\n":
            self._rest_of(head)

    def call(self, *words: bytes) -> Reply:
        """Send a request and return its reply."""
        self._send(request(*words))
        return self._rest_of(b"")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _rest_of(self, head: bytes) -> Reply:
        """Return the reply that begins so; nothing comes behind it, for nothing more was asked."""
        self._buffer, self._at = head, 0
        return self._reply()

    def _reply(self) -> Reply:
        line = self._line()
        kind = line[:1]
        if kind == b"$":
            length = int(line[1:])
            return None if length < 0 else self._bytes(length)
        if kind == b":":
            return int(line[1:])
        if kind == b"*":
            count = int(line[1:])
            # Null where a transaction has failed.
            return None if count < 0 else [self._reply() for _ in range(count)]
        if kind == b"+":
            return line[1:]
        raise ReplyError(line[1:].decode(errors="replace"))

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            self._more(1)
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if len(self._buffer) < end + 2:
            self._more(end + 2 - len(self._buffer))
            end = self._at + count
        found = self._buffer[self._at : end]
        self._at = end + 2
        return found

    def _more(self, count: int) -> None:
        """Receive so many bytes, or more; what is read already is dropped."""
        parts = [self._buffer[self._at :]]
        while count > 0:
            found = self._receive(RECEIVE_BYTES)
            if not found:
                raise EngineError("the server closed the connection")
            parts.append(found)
            count -= len(found)
        self._buffer, self._at = b"".join(parts), 0


def _connected(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(TIMEOUT_S)
    made.connect(path)
    # A socket with a time-out polls before each call; a blocking one need not.
    made.settimeout(None)
    return made


def request(*words: bytes) -> bytes:
    """Return a request's bytes."""
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)
