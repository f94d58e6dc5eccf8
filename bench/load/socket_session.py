"""A session over a socket: Unix, TCP or TLS, one request at a time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from itertools import chain
from typing import Final

from ferrisdb.bench.engines.base import EngineError, Pairs
from ferrisdb.bench.engines.resp_client import ReplyError, RespClient
from ferrisdb.bench.load.session import (
    DAMAGED,
    LOST,
    NO_CONNECTION,
    TIMED_OUT,
    RefusedError,
    Session,
)
from ferrisdb.bench.load.target import Target
from ferrisdb.exit_codes import ExitCode
from ferrisdb.socket_path import connect_path

_REFUSED: Final = ("WRONGPASS", "NOAUTH", "NOPERM")


class SocketSession(Session):
    """A connection."""

    def __init__(self, target: Target, durability: str | None, timeout_s: float) -> None:
        super().__init__(target, durability, timeout_s)
        self._client: RespClient | None = None
        self._engine = "ferrisdb-socket"

    @property
    def engine(self) -> str:
        """What answers: FerrisDB, or another server that speaks Redis's protocol."""
        return self._engine

    def failed(self, error: Exception) -> str:
        """Return the first word of an error reply, or what became of the connection."""
        if isinstance(error, ReplyError):
            return error.word
        was_open = self.is_open
        self.close()
        # A receive that the kernel gave up shows as one that would have to wait.
        if isinstance(error, TimeoutError | BlockingIOError | ssl.SSLWantReadError):
            return TIMED_OUT
        if isinstance(error, ValueError):
            return DAMAGED
        return LOST if was_open else NO_CONNECTION

    def delete_many(self, keys: list[bytes]) -> None:
        """Delete keys, there or not."""
        self._call(b"DEL", *keys)

    def _connect(self) -> None:
        self._client = client = RespClient(_connected(self._target, self._timeout_s))
        try:
            self._introduce()
        except ReplyError as error:
            if error.word in _REFUSED:
                raise RefusedError(
                    f"{self._target.text}: {error}", ExitCode.NO_PERMISSION
                ) from error
            raise
        self.get, self.put = client.get, client.put
        self.put_many = self._put_many

    def _introduce(self) -> None:
        target = self._target
        if target.password is not None:
            user = [target.user.encode()] if target.user is not None else []
            self._call(b"AUTH", *user, target.password.encode())
        is_ours = self._is_ours()
        self._engine = "ferrisdb-socket" if is_ours else "redis"
        if self._durability is None:
            return
        if not is_ours:
            raise RefusedError(
                f"{target.text} is not FerrisDB: its own settings say how durable a write is; "
                "leave --durability out",
                ExitCode.USAGE,
            )
        self._call(b"FERRIS.DURABILITY", self._durability.encode())

    def _is_ours(self) -> bool:
        try:
            found = self._call(b"INFO", b"server")
        except ReplyError as error:
            # A user may be kept from it: taken for ours until FERRIS.DURABILITY says otherwise.
            if error.word == "NOPERM":
                return True
            raise
        return isinstance(found, bytes) and b"ferrisdb_version" in found

    def _put_many(self, rows: Pairs) -> None:
        self._call(b"MSET", *chain.from_iterable(rows))

    def _call(self, *words: bytes) -> object:
        if self._client is None:
            raise EngineError("there is no connection")
        return self._client.call(*words)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError):
                client.close()


def _connected(target: Target, timeout_s: float) -> socket.socket:
    """Return a connected socket whose receives and sends the kernel ends after the time-out."""
    if target.host is not None:
        made = socket.create_connection((target.host, target.port), timeout_s)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout_s)
    try:
        if target.host is None:
            made.connect(_unix_path(target))
        if target.is_tls:
            made = _tls_context(target).wrap_socket(made, server_hostname=target.host)
        # A socket with a time-out of Python's polls before each call; these don't.
        limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        made.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            made.setsockopt(socket.SOL_SOCKET, option, limit)
    except BaseException:
        made.close()
        raise
    return made


def _unix_path(target: Target) -> str:
    if target.socket_path is not None:
        return target.socket_path
    assert target.directory is not None
    path = connect_path(target.directory)
    if path is None:
        raise EngineError(f"no service runs for {target.directory} that has a socket")
    return path


def _tls_context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.ca_file)
    if not target.checks_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
