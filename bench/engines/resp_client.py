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

    __slots__ = ("_buffer", "_receive", "_send", "_socket")

    def __init__(self, place: str | socket.socket) -> None:
        self._socket = place if isinstance(place, socket.socket) else _connected(place)
        self._send = self._socket.sendall
        self._receive = self._socket.recv
        self._buffer = b""

    def get(self, key: bytes) -> bytes | None:
        """Return a key's value."""
        self._send(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
        head = self._receive(RECEIVE_BYTES)
        # The whole of a bulk reply at once, which is how nearly all come.
        if head[:1] == b"$" and head[-2:] == b"\r\n":
            end = head.find(b"\r\n")
            length = int(head[1:end])
            if length < 0:
                return None
            if len(head) == end + length + 4:
                return head[end + 2 : -2]
        self._buffer = head
        value = self._reply()
        assert value is None or isinstance(value, bytes)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        self._send(
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
        )
        reply = self._receive(RECEIVE_BYTES)
        if reply != b"+OK\r\n":
            self._buffer = reply
            self._reply()

    def call(self, *words: bytes) -> Reply:
        """Send a request and return its reply."""
        self._send(request(*words))
        return self._reply()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _reply(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._bytes(length + 2)[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"*":
            # Null where a transaction has failed.
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        if kind == b"+":
            return rest
        raise ReplyError(rest.decode(errors="replace"))

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _bytes(self, count: int) -> bytes:
        if len(self._buffer) < count:
            parts, have = [self._buffer], len(self._buffer)
            while have < count:
                parts.append(self._received())
                have += len(parts[-1])
            self._buffer = b"".join(parts)
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _more(self) -> None:
        self._buffer += self._received()

    def _received(self) -> bytes:
        found = self._receive(RECEIVE_BYTES)
        if not found:
            raise EngineError("the server closed the connection")
        return found


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
