"""Speak just enough RESP to ask a service something, and to notice that a connection is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Self


class ConnectionGoneError(Exception):
    """The service closed the connection, or isn't there."""


class RawClient:
    """One connection; replies are lines or bulks, and those of arrays are taken one by one.

    Shape: place, a Unix socket's path, or host and port.
    """

    def __init__(self, place: Path | str | tuple[str, int], timeout_s: float = 30.0) -> None:
        is_tcp = isinstance(place, tuple)
        self._socket = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(place if isinstance(place, tuple) else str(place))
        except OSError as error:
            self._socket.close()
            raise ConnectionGoneError(str(error)) from error
        self._input = b""

    def call(self, *words: bytes) -> bytes | None:
        """Return the reply to a command: a bulk's bytes, else the line with its first byte.

        Raises: ConnectionGoneError.
        """
        self.send(words)
        line = self.line()
        return self._bulk(line) if line.startswith(b"$") else line

    def send(self, *commands: tuple[bytes, ...]) -> None:
        """Send commands, and wait for nothing.

        Raises: ConnectionGoneError.
        """
        sent = b""
        for words in commands:
            bulks = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
            sent += b"*%d\r\n%b" % (len(words), bulks)
        try:
            self._socket.sendall(sent)
        except OSError as error:
            raise ConnectionGoneError(str(error)) from error

    def line(self) -> bytes:
        """Return the next line that comes, without its end.

        Raises: ConnectionGoneError.
        """
        while b"\r\n" not in self._input:
            self._receive()
        line, _, self._input = self._input.partition(b"\r\n")
        return line

    def bulk(self) -> bytes | None:
        """Return the next bulk that comes.

        Raises: ConnectionGoneError.
        """
        return self._bulk(self.line())

    def is_closed_by_peer(self) -> bool:
        """Wait for the end of the connection; tell whether it came."""
        try:
            return self._socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _bulk(self, line: bytes) -> bytes | None:
        nbytes = int(line[1:])
        if nbytes < 0:
            return None
        while len(self._input) < nbytes + 2:
            self._receive()
        found, self._input = self._input[:nbytes], self._input[nbytes + 2 :]
        return found

    def _receive(self) -> None:
        try:
            part = self._socket.recv(1 << 16)
        except OSError as error:
            raise ConnectionGoneError(str(error)) from error
        if not part:
            raise ConnectionGoneError("closed by the service")
        self._input += part


def ping(path: Path | str, timeout_s: float = 30.0) -> bytes | None:
    """Return what a new connection's PING is answered with, None if there is no service."""
    with contextlib.suppress(ConnectionGoneError), RawClient(path, timeout_s) as client:
        return client.call(b"PING")
    return None


class Load:
    """Threads that set keys, each on a connection of its own, and connect anew when it is gone."""

    def __init__(self, path: Path, thread_count: int) -> None:
        self._path = path
        self._stopping = threading.Event()
        #: Of each thread, how many of its keys (`t<thread>.<n>`, value n) were acknowledged.
        self.acknowledged = [0] * thread_count
        self.disconnects = 0
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(thread_count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def lost(self) -> list[bytes]:
        """Return the keys that were acknowledged and are not there."""
        missing = []
        with RawClient(self._path) as client:
            for thread, count in enumerate(self.acknowledged):
                for n in range(count):
                    key = b"t%d.%d" % (thread, n)
                    if client.call(b"GET", key) != b"%d" % n:
                        missing.append(key)
        return missing

    def _run(self, thread: int) -> None:
        while not self._stopping.is_set():
            try:
                with RawClient(self._path) as client:
                    while not self._stopping.is_set():
                        n = self.acknowledged[thread]
                        if client.call(b"SET", b"t%d.%d" % (thread, n), b"%d" % n) == b"+OK":
                            self.acknowledged[thread] = n + 1
            except ConnectionGoneError:
                self.disconnects += 1
                time.sleep(0.01)
