"""What the socket server asks of those who use it: the commands, and what waits for a commit."""

from __future__ import annotations

from typing import Protocol


class Handler(Protocol):
    """What a server's connections are served by. All of it is called in the loop's thread.

    An exception of `command` closes its connection; one of another is reported, no more.
    """

    def opened(self, conn: int, fd: int, kind: int) -> bool:
        """Take a connection on, before its first byte is read; False: it is closed, untold."""

    def command(self, conn: int, args: list[bytes]) -> bytes | None:
        """Carry out a command; args[0] is its name as it was sent.

        Returns: the reply, encoded, perhaps empty; None: it comes by `SocketServer.reply`, and
                 the connection's further commands wait for it.
        """

    def closed(self, conn: int) -> None:
        """Forget a connection that was taken on; its number never comes again."""

    def failure(self, status: int) -> bytes:
        """Return the error line of a commit's wire code, encoded."""


class Token(Protocol):
    """What waits for a commit."""

    def committed(self, status: int, seq: int, applied: int, fits: bool, result: int) -> None:
        """Learn what became of it.

        Shape:   status, 0 or a wire code; seq, the last sequence, of a conflict which check
                 failed; the others of its atomic operations, as `RingProducer.commit_replied`.
        """


class Filter(Protocol):
    """What lies between a connection's socket and its bytes: TLS. An exception closes it."""

    def received(self, raw: bytes) -> bytes:
        """Take bytes off the wire; return what they say."""

    def sending(self, plain: bytes) -> bytes:
        """Return the bytes that say this on the wire."""

    def pending(self) -> bytes:
        """Return bytes of its own that have to go out; asked behind `received`."""
