"""Goal: what one client sends, or fails to read, costs bounded memory and hurts no other.

Method: as test_socket_server: a server in a thread over a real service, plain sockets.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import ferrisdb
from tests.support.databases import prepared
from tests.support.socket_server import (
    BOTH,
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


# Requests in pieces


@BOTH
def test_requests_may_come_in_any_pieces(db: ferrisdb.Database, fast: bool) -> None:
    with serving(db.path, Handler(fast=fast)) as served:
        client = served.connect()
        sent = (request("SET", "k", b"v" * 300) + b"ping\r\n" + request("ECHO", b"e" * 100)) * 2
        told = (b"+OK\r\n+PONG\r\n" + bulk(b"e" * 100)) * 2
        for size in (1, 7, 64, 200):
            for at in range(0, len(sent), size):
                client.sendall(sent[at : at + size])
            assert receive(client, len(told)) == told
        assert db[b"k"] == b"v" * 300
        number = served.handler.was_opened[0]
        assert served.call(lambda: served.server.describe(number)["input_bytes"]) == 0


def test_many_arguments_in_pieces(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        db[b"k"] = b"v"
        sent = request("MGET", *["k"] * 30_000)
        told = b"*30000\r\n" + b"$1\r\nv\r\n" * 30_000
        client = served.connect()
        for _ in range(2):
            for at in range(0, len(sent), 1000):
                client.sendall(sent[at : at + 1000])
            assert receive(client, len(told)) == told


# Bounds


def test_a_client_that_does_not_read_holds_up_nobody_else(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        db[b"large"] = value = os.urandom(1 << 20)
        lazy, other = served.connect(), served.connect()
        lazy.settimeout(1)
        lazy.sendall(request("GET", "large") * 100 + request("ECHO", "end"))
        exchange(other, request("SET", "a", 1) + request("GET", "a"), b"+OK\r\n$1\r\n1\r\n")
        number = served.handler.was_opened[0]
        described = served.call(lambda: served.server.describe(number))
        assert described["output_bytes"] < 4 << 20  # type: ignore[index]
        assert described["commands"] < 10  # type: ignore[index]
        for _ in range(100):
            assert receive(lazy, len(bulk(value))) == bulk(value)
        assert receive(lazy, 9) == bulk(b"end")


def test_a_reply_above_the_limit_closes_the_connection(db: ferrisdb.Database) -> None:
    limits = {"output_bytes_max": 2 << 20}
    with serving(db.path, Handler(fast=True), **limits) as served:
        db[b"large"] = bytes(1 << 20)
        client = served.connect()
        client.sendall(request("MGET", *["large"] * 50))
        assert len(receive_all(client)) < 4 << 20
        python = served.connect()
        python.sendall(request("ECHO", b"x" * (8 << 20)))
        assert len(receive_all(python)) < 8 << 20
        exchange(served.connect(), request("PING"), b"+PONG\r\n")


def test_what_incomplete_requests_may_take_is_bounded(db: ferrisdb.Database) -> None:
    limits = {"input_bytes_max": 4 << 20}
    with serving(db.path, Handler(fast=True), **limits) as served:
        clients = [served.connect() for _ in range(4)]
        ended = 0
        for client in clients:
            try:
                client.sendall(b"*2\r\n$3\r\nGET\r\n$8000000\r\n" + bytes(2 << 20))
                exchange(served.connect(), request("PING"), b"+PONG\r\n")
                ended += not is_silent(client)
            except ConnectionError:
                ended += 1
        assert ended >= 2
        exchange(served.connect(), request("PING"), b"+PONG\r\n")


def test_arguments_have_a_limit_and_so_have_strangers(db: ferrisdb.Database) -> None:
    handler = Handler(fast=True, authenticated=False)
    with serving(db.path, handler, request_bytes_max=100_000) as served:
        text = b"-ERR Protocol error: unauthenticated bulk length\r\n"
        client = served.connect()
        client.sendall(request("PING") + b"*2\r\n$4\r\nPING\r\n$16385\r\n")
        assert receive_all(client) == b"+PONG\r\n" + text
        handler.authenticated = True
        client = served.connect()
        client.sendall(request("SET", "a", "b") + b"*2\r\n$4\r\nPING\r\n$100001\r\n")
        assert receive_all(client) == b"+OK\r\n-ERR Protocol error: invalid bulk length\r\n"
        client = served.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert receive_all(client) == b""


def test_one_connection_too_many_is_told_so(db: ferrisdb.Database) -> None:
    limits = {"connection_count_max": 2}
    with serving(db.path, Handler(fast=True), **limits) as served:
        first, second = served.connect(), served.connect()
        for client in (first, second):
            exchange(client, request("PING"), b"+PONG\r\n")
        assert receive_all(served.connect()) == b"-ERR max number of clients reached\r\n"
        first.close()
        wait_until(lambda: len(served.handler.was_closed) == 1)
        exchange(served.connect(), request("PING"), b"+PONG\r\n")
        assert served.call(lambda: served.server.counters) == {
            **served.server.counters,
            "connections_total": 3,
            "connections_now": 2,
            "rejected_total": 1,
            "commands_total": 3,
        }


@pytest.mark.parametrize("limit", ["idle_ns", "partial_ns"])
def test_who_keeps_silent_too_long_is_closed(db: ferrisdb.Database, limit: str) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    limits = {limit: 100_000_000}
    with serving(db.path, handler, **limits) as served:
        half, waiting = served.connect(), served.connect()
        waiting.sendall(request("WAIT"))
        half.sendall(request("PING") + b"*2\r\n$4\r\nEC")
        assert receive_all(half) == b"+PONG\r\n"
        assert is_silent(waiting)


# Ends


def test_a_client_that_has_said_all_gets_all_answers(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        sent = request("SET", "a", b"x" * 50_000) * 20 + request("GET", "a") + b"ping\r\n"

        def say() -> None:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=say).start()
        assert receive_all(client) == b"+OK\r\n" * 20 + bulk(b"x" * 50_000) + b"+PONG\r\n"


def test_what_a_client_sent_before_it_left_is_done(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        client.sendall(
            b"".join(request("SET", f"k{n}", n) + request("INCR", "n") for n in range(100))
        )
        client.close()
        wait_until(lambda: db.get(b"n") == b"100")
        wait_until(lambda: served.handler.was_closed == [1])
        assert len(db) == 101


def test_a_client_that_leaves_while_it_waits_costs_no_time(db: ferrisdb.Database) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    with serving(db.path, handler) as served:
        client = served.connect()
        client.sendall(request("WAIT") + request("SET", "a", 1))
        wait_until(lambda: len(handler.asked) == 1)
        client.close()
        exchange(served.connect(), request("PING"), b"+PONG\r\n")
        before = time.process_time()
        assert is_silent(served.connect(), 0.5)
        assert time.process_time() - before < 0.2, "it spins"
        assert handler.was_closed == []
        served.server.post(lambda: served.server.reply(1, b"+late\r\n"))
        wait_until(lambda: handler.was_closed == [1])


def test_garbage_hurts_no_one(db: ferrisdb.Database) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    parts = [
        b"*",
        b"$",
        b"\r\n",
        b"1",
        b"3",
        b"GET",
        b"SET",
        b"k",
        b"*3\r\n$3\r\nSET\r\n",
        b"-1",
        b'"',
    ]
    with serving(db.path, Handler(fast=True)) as served:
        other = served.connect()
        for _ in range(200):
            client = served.connect()
            if rng.random() < 0.5:
                sent = rng.randbytes(rng.randrange(1, 2000))
            else:
                sent = b"".join(rng.choices(parts, k=rng.randrange(1, 200)))
            client.sendall(sent)
            if rng.random() < 0.5:
                client.shutdown(socket.SHUT_WR)
                receive_all(client)
            client.close()
            exchange(other, request("PING"), b"+PONG\r\n")
        wait_until(lambda: len(served.handler.was_closed) == 200)


def test_a_listener_may_be_left(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        exchange(client, request("PING"), b"+PONG\r\n")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            fd = listener.fileno()
            served.call(lambda: served.server.listen(fd, 1))
            with socket.create_connection(listener.getsockname()) as tcp:
                exchange(tcp, request("PING") * 3, b"+PONG\r\n" * 3)
            served.call(lambda: served.server.unlisten(fd))
            with socket.create_connection(listener.getsockname()) as tcp:
                tcp.sendall(request("PING"))
                assert is_silent(tcp)
        exchange(served.connect(), request("PING"), b"+PONG\r\n")
