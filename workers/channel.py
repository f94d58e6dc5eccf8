"""Carry messages between the coordinator and a reader worker over a stream socket.

A message is a frozen value (reader_messages.py), pickled, behind its length in four bytes. Both
ends are processes of one service, parent and child; nobody else has the socket.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from typing import Any

_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 1 << 16
OUTPUT_BYTES_MAX = 16 << 20
"""What may wait for a worker that takes no messages."""


def encode(message: object) -> bytes:
    """Return a message as it is sent."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


class Channel:
    """The worker's end: sends from any thread, and waits for messages in one."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._stream.fileno()

    def send(self, message: object) -> None:
        """Send a message.

        Raises: OSError, the coordinator is gone.
        """
        with self._lock:
            self._stream.sendall(encode(message))

    def receive(self) -> Any:
        """Wait for a message.

        Raises: EOFError, the coordinator is gone.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

    def close(self) -> None:
        """Let the other end know that nothing more comes."""
        self._stream.close()

    def _exactly(self, nbytes: int) -> bytearray:
        received = bytearray()
        while len(received) < nbytes:
            try:
                part = self._stream.recv(min(nbytes - len(received), _CHUNK_BYTES))
            except OSError as error:
                raise EOFError from error
            if not part:
                raise EOFError
            received += part
        return received


class QueuedChannel:
    """The coordinator's end: never waits; what the worker doesn't take yet is kept for it.

    Owner: one thread, which calls `flush` when the socket can be written to.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._input = bytearray()
        self._output = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._stream.fileno()

    @property
    def has_output(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._output)

    @property
    def is_stuck(self) -> bool:
        """Whether the worker has not taken messages for so long that it is not worth more."""
        return len(self._output) > OUTPUT_BYTES_MAX

    def send(self, message: object) -> None:
        """Send a message, now or later; to one that is gone nothing is sent."""
        self._output += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what the worker takes now."""
        try:
            while self._output:
                del self._output[: self._stream.send(self._output)]
        except BlockingIOError:
            pass
        except OSError:
            self._output.clear()  # its death is seen by `receive`

    def receive(self) -> list[Any]:
        """Return the messages that have come.

        Raises: EOFError, the worker is gone, and its messages were returned before.
        """
        is_over = False
        try:
            while len(part := self._stream.recv(_CHUNK_BYTES)):
                self._input += part
            is_over = True
        except BlockingIOError:
            pass
        except OSError:
            is_over = True
        messages = list(self._take())
        if is_over and not messages:
            raise EOFError
        return messages

    def close(self) -> None:
        """Close the socket."""
        self._stream.close()

    def _take(self) -> list[Any]:
        found, at = [], 0
        while len(self._input) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._input, at)
            end = at + _LENGTH.size + length
            if len(self._input) < end:
                break
            found.append(pickle.loads(bytes(self._input[at + _LENGTH.size : end])))
            at = end
        del self._input[:at]
        return found
