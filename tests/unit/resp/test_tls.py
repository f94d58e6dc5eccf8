"""Goal: TLS clients get through the filter whatever the pieces, and others cost little.

Method: a client of Python's own ssl over memory; what it sends is cut into pieces.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb.errors import UsageError
from ferrisdb.options import Options
from ferrisdb.resp.service import KIND_TLS
from ferrisdb.resp.tls import HANDSHAKE_BYTES_MAX, TlsFilter, server_context
from tests.support.certificate import write_certificate
from tests.support.resp_rig import Rig


class TlsClient:
    """The other end, over memory."""

    def __init__(self, certificate: Path, version: ssl.TLSVersion | None = None) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake(self, server: TlsFilter, piece_bytes: int) -> bytes:
        """Make the handshake; returns the plaintext that came with it."""
        plain = b""
        while True:
            try:
                self.tls.do_handshake()
                return plain + self.tell(server, b"", piece_bytes)
            except ssl.SSLWantReadError:
                plain += self.tell(server, b"", piece_bytes)

    def tell(self, server: TlsFilter, text: bytes, piece_bytes: int = 1 << 20) -> bytes:
        """Send some text, in pieces; returns what the server reads."""
        if text:
            self.tls.write(text)
        data, plain = self.outgoing.read(), b""
        for at in range(0, len(data), piece_bytes):
            plain += server.received(data[at : at + piece_bytes])
            self.incoming.write(server.pending())
        return plain

    def hear(self, data: bytes) -> bytes:
        """Return the text of what the server sent."""
        self.incoming.write(data)
        pieces = []
        try:
            while piece := self.tls.read(1 << 20):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_text_goes_both_ways(
    files: tuple[Path, Path], piece_bytes: int, version: ssl.TLSVersion
) -> None:
    certificate, key = files
    server = TlsFilter(server_context(str(certificate), str(key)))
    client = TlsClient(certificate, version)
    assert client.shake(server, piece_bytes) == b""
    assert client.tls.version() == f"TLSv1.{2 if version is ssl.TLSVersion.TLSv1_2 else 3}"
    long = bytes(range(256)) * 1024
    assert client.tell(server, b"PING\r\n", piece_bytes) == b"PING\r\n"
    assert client.hear(server.sending(b"+PONG\r\n")) == b"+PONG\r\n"
    assert client.tell(server, long, 1 << 14) == long
    assert client.hear(server.sending(long)) == long
    assert server.sending(b"") == b"" and server.pending() == b""


def test_what_is_sent_too_early_follows_the_handshake(files: tuple[Path, Path]) -> None:
    certificate, key = files
    server = TlsFilter(server_context(str(certificate), str(key)))
    client = TlsClient(certificate)
    assert server.sending(b"-ERR max number of clients reached\r\n") == b""
    client.shake(server, 1 << 20)
    heard = client.hear(server.pending() + server.sending(b""))
    assert heard == b"-ERR max number of clients reached\r\n"


@pytest.mark.parametrize(
    "garbage", [b"PING\r\n", b"\x16\x03\x01" + b"\xff" * 600, b"GET / HTTP/1.1"]
)
def test_what_is_no_tls_is_an_error(files: tuple[Path, Path], garbage: bytes) -> None:
    server = TlsFilter(server_context(*map(str, files)))
    with pytest.raises(ssl.SSLError):
        for _ in range(HANDSHAKE_BYTES_MAX):
            server.received(garbage)


def test_a_handshake_without_end_is_cut_off(files: tuple[Path, Path]) -> None:
    server = TlsFilter(server_context(*map(str, files)))
    # A record of 16 KiB whose message claims to be longer, again and again.
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x02\x00\x00" + bytes((1 << 14) - 4)
    with pytest.raises(ssl.SSLError):
        for _ in range(HANDSHAKE_BYTES_MAX // len(record) + 1):
            server.received(record)
    with pytest.raises(ssl.SSLError, match="too much to send"):
        TlsFilter(server_context(*map(str, files))).sending(bytes(HANDSHAKE_BYTES_MAX + 1))


def test_the_end_of_a_connection_is_no_error(files: tuple[Path, Path]) -> None:
    certificate, key = files
    server = TlsFilter(server_context(str(certificate), str(key)))
    client = TlsClient(certificate)
    client.shake(server, 1 << 20)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert server.received(client.outgoing.read()) == b""


def test_older_protocols_are_refused(files: tuple[Path, Path]) -> None:
    context = server_context(*map(str, files))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_do_not_fit_are_named(tmp_path: Path, files: tuple[Path, Path]) -> None:
    certificate, key = files
    with pytest.raises(UsageError, match="nowhere.pem"):
        server_context(str(tmp_path / "nowhere.pem"), None)
    with pytest.raises(UsageError, match="cert.pem"):
        server_context(str(certificate), None)
    key.write_text("nonsense")
    with pytest.raises(UsageError, match="cert.pem"):
        server_context(str(certificate), str(key))


def test_a_tls_connection_gets_a_filter(db: ferrisdb.Database, files: tuple[Path, Path]) -> None:
    certificate, key = map(str, files)
    rig = Rig(db, Options(tls_port=1, tls_cert_file=certificate, tls_key_file=key))
    client = rig.client(KIND_TLS)
    lens = rig.server.filters[client.conn]
    assert isinstance(lens, TlsFilter)
    assert TlsClient(files[0]).shake(lens, 1 << 20) == b""
    assert client.say("PING") == b"-NOAUTH Authentication required.\r\n"
