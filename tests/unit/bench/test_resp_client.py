"""The lean client reads replies whole, however they come. Method: a server that replays bytes."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.bench.engines import EngineError
from ferrisdb.bench.engines.resp_client import RespClient, request


class Server:
    """Answers one connection with what it is told, in pieces."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self.client = RespClient(path)
        self._connection, _ = self._listener.accept()
        self.asked = b""

    def answer(self, *pieces: bytes) -> threading.Thread:
        """Answer the next request; each piece is sent when the one before has been read."""

        def work() -> None:
            self.asked = self._connection.recv(1 << 16)
            for piece in pieces:
                self._connection.sendall(piece)
                _wait_until_read(self._connection)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def close(self) -> None:
        self.client.close()
        self.hang_up()
        self._listener.close()

    def hang_up(self) -> None:
        self._connection.close()


def _wait_until_read(connection: socket.socket) -> None:
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
        time.sleep(0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(str(tmp_path / "s"))
    yield made
    made.close()


VALUE = b"v\r\n" * 100


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 6, 7, 150, 305, 306])
def test_a_value_comes_whole_or_in_pieces(server: Server, cut: int) -> None:
    reply = b"$300\r\n" + VALUE + b"\r\n"
    pieces = [piece for piece in (reply[:cut], reply[cut:]) if piece]
    thread = server.answer(*pieces)
    assert server.client.get(b"key") == VALUE
    thread.join()
    assert server.asked == request(b"GET", b"key")


def test_an_absent_value_is_none(server: Server) -> None:
    thread = server.answer(b"$-1\r\n")
    assert server.client.get(b"key") is None
    thread.join()


def test_a_write_is_acknowledged_or_refused(server: Server) -> None:
    thread = server.answer(b"+O", b"K\r\n")
    server.client.put(b"key", b"value")
    thread.join()
    assert server.asked == request(b"SET", b"key", b"value")
    thread = server.answer(b"-OOM no room\r\n")
    with pytest.raises(EngineError, match="OOM no room"):
        server.client.put(b"key", b"value")
    thread.join()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lists_come_in_pieces(server: Server, size: int) -> None:
    reply = b"*3\r\n*2\r\n$1\r\na\r\n:12\r\n$-1\r\n*-1\r\n"
    thread = server.answer(*(reply[at : at + size] for at in range(0, len(reply), size)))
    assert server.client.call(b"ANY") == [[b"a", 12], None, None]
    thread.join()


def test_a_lost_connection_is_told(server: Server) -> None:
    server.hang_up()
    with pytest.raises((EngineError, OSError)):
        server.client.call(b"PING")
