"""TLS between a socket and the server: a filter that turns ciphertext into requests, replies back.

The server hands in what arrives and sends what comes out; nothing here touches a socket. A client
that does not finish its handshake costs HANDSHAKE_BYTES_MAX at most, and the server's limit on
time; what is wrong with its bytes is an `ssl.SSLError`, upon which the connection is closed behind
the alert that `pending` still has.
"""

from __future__ import annotations

import ssl
from typing import Final

from ferrisdb.errors import UsageError

HANDSHAKE_BYTES_MAX: Final = 128 << 10
_READ_BYTES: Final = 64 << 10


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Return what connections are made with: TLS 1.2 or later.

    Shape:   files in PEM; key None: it is in the certificate's file.
    Raises:  UsageError, they can't be read, or don't fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # With a password, or a key that has one would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"TLS certificate {certificate}: {error.strerror or error}") from error
    return context


class TlsFilter:
    """One connection's TLS.

    Raises:  ssl.SSLError by any call: the connection is to be closed.
    Owner:   the server's loop.
    """

    __slots__ = ("_handshake_left", "_incoming", "_is_done", "_object", "_outgoing", "_waiting")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_done = False
        self._handshake_left = HANDSHAKE_BYTES_MAX
        #: To be sent behind the handshake.
        self._waiting = b""

    def received(self, data: bytes) -> bytes:
        """Take what has arrived; return the plaintext in it."""
        self._incoming.write(data)
        if not self._is_done and not self._shake(len(data)):
            return b""
        pieces = []
        try:
            while piece := self._object.read(_READ_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            # The client has closed its side in order; the socket's end follows.
            pass
        return b"".join(pieces)

    def sending(self, data: bytes) -> bytes:
        """Take plaintext; return all ciphertext that is to be sent."""
        if self._is_done:
            if data:
                self._object.write(data)
        elif len(self._waiting) + len(data) > HANDSHAKE_BYTES_MAX:
            raise ssl.SSLError("too much to send before the handshake")
        else:
            self._waiting += data
        return self._outgoing.read()

    def pending(self) -> bytes:
        """Return ciphertext that is to be sent without any plaintext: handshake and alerts."""
        return self._outgoing.read()

    def _shake(self, count: int) -> bool:
        """Go on with the handshake; tell whether it is done."""
        self._handshake_left -= count
        if self._handshake_left < 0:
            raise ssl.SSLError("the handshake is longer than any")
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._is_done = True
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self._object.write(waiting)
        return True
