"""Goal: a handler may reply at once, later or wrongly, and its connection is told in order.

Method: as test_socket_server: a server in a thread over a real service, plain sockets.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import ferrisdb
from ferrisdb.errors import UsageError
from tests.support.databases import prepared
from tests.support.socket_server import (
    Handler,
    bulk,
    exchange,
    is_silent,
    receive,
    receive_all,
    request,
    serving,
    wait_until,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ferrisdb.Database]:
    """One service for all tests that can do with its settings; its memtable lasts for them."""
    path = tmp_path_factory.mktemp("shared") / "db"
    with prepared(path, memtable_bytes=1 << 27) as db:
        yield db


@pytest.fixture
def db(shared: ferrisdb.Database) -> ferrisdb.Database:
    """The shared database, empty."""
    shared.clear()
    return shared


def test_a_deferred_command_holds_back_those_behind_it(db: ferrisdb.Database) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    with serving(db.path, handler) as served:
        first, second = served.connect(), served.connect()
        first.sendall(request("WAIT") + request("SET", "a", 1) + request("GET", "a"))
        wait_until(lambda: len(handler.asked) == 1)
        first.sendall(request("ECHO", "behind"))
        exchange(second, request("SET", "b", 2), b"+OK\r\n")
        assert is_silent(first)
        assert b"a" not in db
        conn = handler.asked[0][0]
        served.server.post(lambda: served.server.send(conn, b"+push\r\n"))
        assert receive(first, 7) == b"+push\r\n"
        served.server.post(lambda: served.server.reply(conn, b"+now\r\n"))
        told = b"+now\r\n+OK\r\n$1\r\n1\r\n" + bulk(b"behind")
        assert receive(first, len(told)) == told


def test_a_reply_may_come_before_its_command_returns(db: ferrisdb.Database) -> None:
    handler = Handler(fast=False)

    def at_once(conn: int, args: list[bytes]) -> None:
        handler.server.send(conn, b"+first\r\n")
        handler.server.reply(conn, b"+second\r\n")

    handler.commands[b"x"] = at_once
    with serving(db.path, handler) as served:
        exchange(
            served.connect(),
            request("X") * 2 + request("PING"),
            b"+first\r\n+second\r\n" * 2 + b"+PONG\r\n",
        )


def test_a_reply_that_nobody_waits_for_is_refused(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=False)) as served:
        client = served.connect()
        exchange(client, request("PING"), b"+PONG\r\n")

        def refused() -> bool:
            served.server.reply(999, b"of a closed one: ignored")
            with pytest.raises(UsageError):
                served.server.reply(served.server.connections()[0], b"+no\r\n")
            return True

        assert served.call(refused)
        exchange(client, request("PING"), b"+PONG\r\n")


@pytest.mark.parametrize("answer", [ValueError("a bug"), "no bytes"], ids=["raises", "text"])
def test_a_bug_of_the_handler_closes_its_connection_alone(
    db: ferrisdb.Database, answer: Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(conn: int, args: list[bytes]) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # the bug

    handler = Handler(fast=False)
    handler.commands[b"bug"] = bug
    with serving(db.path, handler) as served:
        other = served.connect()
        client = served.connect()
        client.sendall(request("PING") + request("BUG") + request("PING"))
        assert receive_all(client) == b"+PONG\r\n-ERR internal error\r\n"
        exchange(other, request("PING"), b"+PONG\r\n")
        wait_until(lambda: handler.was_closed == [2])
    assert "a command" in caplog.text


def test_posted_calls_run_in_the_loop_and_their_bugs_are_reported(
    db: ferrisdb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(db.path, Handler(fast=False)) as served:
        served.server.post(lambda: 1 // 0)
        assert served.call(threading.current_thread) != threading.current_thread()
    assert "what was posted" in caplog.text


def test_closing_says_what_was_told_before(db: ferrisdb.Database) -> None:
    handler = Handler(fast=False)
    with serving(db.path, handler) as served:
        client = served.connect()
        client.sendall(request("ECHO", b"x" * 1_000_000) + b"quit\r\nping\r\n")
        assert receive_all(client) == bulk(b"x" * 1_000_000) + b"+OK\r\n"
        assert handler.was_closed == [1]
        second = served.connect()
        exchange(second, request("PING"), b"+PONG\r\n")
        served.server.post(lambda: served.server.close(2, flush=False))
        assert receive_all(second) == b""
        third = served.connect()
        exchange(third, request("PING"), b"+PONG\r\n")
        assert served.call(served.server.connections) == [3]


def test_refused_connections_are_closed_untold(db: ferrisdb.Database) -> None:
    handler = Handler(fast=False)
    handler.opened = lambda conn, fd, kind: False  # type: ignore[method-assign]  # a refusal
    with serving(db.path, handler) as served:
        assert receive_all(served.connect()) == b""
        assert served.call(lambda: served.server.counters["rejected_total"]) == 1
        assert handler.was_closed == []


class Scrambled:
    """A filter that is no secret: every byte is turned over, and a greeting comes first."""

    def __init__(self) -> None:
        self._greeted = False

    def received(self, raw: bytes) -> bytes:
        if b"\xff" in raw:
            raise ValueError("not of this filter")
        return bytes(byte ^ 0x55 for byte in raw)

    def sending(self, plain: bytes) -> bytes:
        return bytes(byte ^ 0x55 for byte in plain)

    def pending(self) -> bytes:
        greeting = b"" if self._greeted else b"hello"
        self._greeted = True
        return greeting


def test_a_filter_lies_between_wire_and_commands(db: ferrisdb.Database) -> None:
    class Filtering(Handler):
        def opened(self, conn: int, fd: int, kind: int) -> bool:
            self.server.set_filter(conn, Scrambled())
            return super().opened(conn, fd, kind)

    turn = Scrambled().sending
    handler = Filtering(fast=True)
    with serving(db.path, handler) as served:
        client = served.connect()
        for n in range(3):
            sent = request("SET", "k", b"v" * 100_000 * n) + request("GET", "k") + b"ping\r\n"
            told = (
                (b"" if n else turn(b"hello"))
                + b"+OK\r\n"
                + bulk(b"v" * 100_000 * n)
                + b"+PONG\r\n"
            )
            threading.Thread(target=client.sendall, args=(turn(sent),)).start()
            assert receive(client, len(told)) == turn(told)
        served.server.post(lambda: served.server.send(1, b"+push\r\n"))
        assert receive(client, 7) == turn(b"+push\r\n")
        client.sendall(b"\xff")
        assert receive_all(client) == b""
        bad = served.connect()
        bad.sendall(b"\xff")
        assert receive_all(bad) == b"hello"
