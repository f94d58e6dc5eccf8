"""Goal: the kernel's socket server answers in order, bounds what a client costs, and never lies about
a commit. Method: a server in a thread over a real service; plain sockets; a handler of the test."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import ferrisdb
from ferrisdb.errors import UsageError
from ferrisdb.kernel import layout
from tests.support.databases import configure, coordinator_pid, opened
from tests.support.socket_server import (
    Handler,
    Served,
    bulk,
    is_silent,
    receive,
    receive_all,
    request,
    serving,
    wait_until,
)

BOTH = pytest.mark.parametrize("fast", [False, True], ids=["python", "kernel"])


def _exchange(client: socket.socket, sent: bytes, expected: bytes) -> None:
    client.sendall(sent)
    assert receive(client, len(expected)) == expected


# Order


@BOTH
def test_a_pipeline_is_answered_in_its_order(tmp_path: Path, fast: bool) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=fast)) as served:
        client = served.connect()
        for n in range(20):
            sent = b"ping\r\n" + request("SET", "k", n) + request("SET", f"k{n}", n * 7)
            sent += request("ECHO", f"e{n}") + request("PING")
            told = b"+PONG\r\n+OK\r\n+OK\r\n" + bulk(b"e%d" % n) + b"+PONG\r\n"
            _exchange(client, sent * 3, told * 3)
            assert db[b"k"] == b"%d" % n
        assert db[b"k19"] == b"133"


def test_reads_behind_writes_of_a_pipeline_see_them(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        sent = told = b""
        for n in range(300):
            value = b"%d" % n * (n % 50)
            sent += request("SET", "k", value) + request("GET", "k")
            told += b"+OK\r\n" + bulk(value)
            if n % 3 == 0:
                sent += request("EXISTS", "k", "nothing", "k") + request("INCR", "n")
                told += b":2\r\n:%d\r\n" % (n // 3 + 1)
        _exchange(client, sent, told)


def test_commands_of_the_kernel_do_what_redis_says(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        ask = served.connect()
        db.put(b"gone", b"x", expires_at=1)
        db.put(b"with expiry", b"7", ttl=1000)
        for sent, told in [
            (request("GET", "absent"), b"$-1\r\n"),
            (request("GET", "gone"), b"$-1\r\n"),
            (request("SET", "", ""), b"+OK\r\n"),
            (request("GET", ""), b"$0\r\n\r\n"),
            (request("MSET", "a", 1, "b", b"\r\n", "a", 3), b"+OK\r\n"),
            (request("MGET", "a", "absent", "b", "a"), b"*4\r\n$1\r\n3\r\n$-1\r\n$2\r\n\r\n\r\n$1\r\n3\r\n"),
            (request("exists", "a", "b", "gone", "a"), b":3\r\n"),
            (request("INCR", "a"), b":4\r\n"),
            (request("DECR", "fresh"), b":-1\r\n"),
            (request("INCRBY", "a", 38), b":42\r\n"),
            (request("DECRBY", "a", 2), b":40\r\n"),
            (request("INCRBY", "a", -50), b":-10\r\n"),
            (request("INCR", "b"), b"-ERR value is not an integer or out of range\r\n"),
            (request("SET", "top", (1 << 63) - 1), b"+OK\r\n"),
            (request("INCR", "top"), b"-ERR increment or decrement would overflow\r\n"),
            (request("INCR", "with expiry"), b":8\r\n"),
            (request("DEL", "absent"), b":0\r\n"),
            (request("DEL", "a", "a", "absent", "gone", "b"), b":2\r\n"),
            (request("UNLINK", "top"), b":1\r\n"),
            (request("MGET", "a", "b", "top"), b"*3\r\n" + b"$-1\r\n" * 3),
        ]:
            _exchange(ask, sent, told)
        assert served.handler.asked == []
        assert 900 < (db.ttl(b"with expiry") or 0) <= 1000


def test_what_is_unusual_is_left_to_the_handler(tmp_path: Path) -> None:
    unusual = [
        request("GET"),
        request("GET", "a", "b"),
        request("GET", b"k" * 65536),
        request("SET", "a"),
        request("SET", "a", "b", "EX", 1),
        request("SET", b"k" * 65536, "v"),
        request("SET", "a", b"v" * 65536),
        request("MSET", "a", "b", "c"),
        request("MSET"),
        request("INCR"),
        request("INCRBY", "a", "x"),
        request("INCRBY", "a", "1" * 30),
        request("DECRBY", "a", -(1 << 63)),
        request("INCR", "long"),
        request("PING", "x"),
        request("DEL"),
        request("MGET"),
        request("EXISTS"),
        request("MGET", "a", b"k" * 65536),
        request("get", "a", "b"),
        request("GETSET", "a", "b"),
        request("X"),
        request(""),
    ]
    with opened(tmp_path / "db") as db:
        db[b"long"] = b"1" * 21
        handler = Handler(fast=True)
        handler.commands = dict.fromkeys(
            [b"get", b"set", b"mset", b"incr", b"incrby", b"decrby", b"ping", b"del", b"mget"],
            lambda conn, args: b"+asked\r\n",
        ) | dict.fromkeys([b"exists", b"getset", b"x", b""], lambda conn, args: b"+asked\r\n")
        with serving(db.path, handler) as served:
            _exchange(served.connect(), b"".join(unusual), b"+asked\r\n" * len(unusual))
        assert len(handler.asked) == len(unusual)


def test_inline_commands_are_the_handlers(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        sent = request("SET", "k", "v") + b'echo "a b"\r\n' + request("SET", "k", "w")
        told = b"+OK\r\n" + bulk(b"a b") + b"+OK\r\n"
        _exchange(served.connect(), sent * 10, told * 10)
        assert [args for _, args in served.handler.asked] == [[b"echo", b"a b"]] * 10


def test_nulls_are_of_the_connections_protocol(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True, protocol=3)) as served:
        _exchange(
            served.connect(), request("GET", "a") + request("MGET", "a", "b"), b"_\r\n*2\r\n_\r\n_\r\n"
        )


def test_random_commands_do_what_a_dictionary_does(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    path = configure(tmp_path / "db", memtable_bytes=1 << 18)
    model: dict[bytes, bytes] = {}

    def some() -> list[bytes]:
        return [b"k%d" % rng.randrange(40) for _ in range(rng.randrange(1, 21))]

    def one() -> tuple[bytes, bytes]:
        keys = some()
        kind = rng.randrange(6)
        if kind == 0:
            model[keys[0]] = b"v" * rng.randrange(3000)
            return request("SET", keys[0], model[keys[0]]), b"+OK\r\n"
        if kind == 1:
            value = model.get(keys[0])
            return request("GET", keys[0]), b"$-1\r\n" if value is None else bulk(value)
        if kind == 2:
            values = [model.get(key) for key in keys]
            return request("MGET", *keys), b"*%d\r\n" % len(keys) + b"".join(
                b"$-1\r\n" if value is None else bulk(value) for value in values
            )
        if kind == 3:
            keys = keys[:16]
            return request("EXISTS", *keys), b":%d\r\n" % sum(key in model for key in keys)
        if kind == 4:
            keys = keys[:8]
            gone = {key for key in keys if model.pop(key, None) is not None}
            return request("DEL", *keys), b":%d\r\n" % len(gone)
        key = b"n%d" % rng.randrange(5)
        model[key] = b"%d" % (int(model.get(key, b"0")) + 3)
        return request("INCRBY", key, 3), b":%b\r\n" % model[key]

    with opened(Path(path)) as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        for _ in range(60):
            sent, told = zip(*(one() for _ in range(rng.randrange(1, 60))), strict=True)
            try:
                _exchange(client, b"".join(sent), b"".join(told))
            except AssertionError:
                raise AssertionError(f"seed {seed}") from None
        assert dict(db.items()) == model, f"seed {seed}"


# Batches


def test_writes_of_many_connections_share_batches(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        clients = [served.connect() for _ in range(20)]
        before = served.server.attached.counters()["requests"]
        for n, client in enumerate(clients):
            client.sendall(b"".join(request("SET", f"{n}/{i}", i) for i in range(200)))
        for client in clients:
            assert receive(client, 1000) == b"+OK\r\n" * 200
        requests = served.server.attached.counters()["requests"] - before
        assert requests < 400, "of 4,000 writes"
        assert len(db) == 4000
        assert db[b"19/199"] == b"199"


def test_more_than_the_ring_holds_is_written_all_the_same(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        value = b"v" * 50_000
        clients = [served.connect() for _ in range(4)]

        def fill(n: int) -> None:
            sent = b"".join(request("SET", f"{n}/{i}", value) for i in range(100))
            threading.Thread(target=clients[n].sendall, args=(sent,)).start()
            assert receive(clients[n], 500) == b"+OK\r\n" * 100

        threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(db) == 400


def test_durable_writes_are_acknowledged_too(tmp_path: Path) -> None:
    handler = Handler(fast=True)
    handler.durability = layout.DURABILITY_SYNC
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        _exchange(served.connect(), request("SET", "a", "b") * 50, b"+OK\r\n" * 50)
        assert db[b"a"] == b"b"


def test_values_larger_than_the_ring_are_committed_in_turn(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        first, second = served.connect(), served.connect()
        large = os.urandom(3 << 20)
        for n in range(3):
            sent = request("SET", f"l{n}", large) + request("SET", f"s{n}", n)
            threading.Thread(target=first.sendall, args=(sent,)).start()
            _exchange(second, request("SET", f"m{n}", large) + request("GET", f"m{n}"),
                      b"+OK\r\n" + bulk(large))
            assert receive(first, 10) == b"+OK\r\n" * 2
        assert db[b"l2"] == large
        assert len(db) == 9


def test_a_batch_over_half_a_memtable_is_an_error_of_its_command(tmp_path: Path) -> None:
    path = configure(tmp_path / "db", memtable_bytes=1 << 18)
    with opened(Path(path)) as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        client.sendall(request("SET", "k", b"v" * 200_000))
        assert receive_all(client) == b"-ERR internal error\r\n"
        # Plain ones are cut to what a memtable takes.
        _exchange(served.connect(), request("SET", "k", b"v" * 60_000) * 20, b"+OK\r\n" * 20)


def test_counters_are_exact_while_memtables_are_flushed_under_them(tmp_path: Path) -> None:
    """Where the history has gone on the way, an increment is done again, and only then."""
    path = configure(tmp_path / "db", memtable_bytes=1 << 18)
    with opened(Path(path)) as db, serving(db.path, Handler(fast=True)) as served:
        rounds, keys = 40, 25

        def count() -> None:
            client = served.connect()
            for _ in range(rounds):
                client.sendall(b"".join(request("INCR", f"n{k}") for k in range(keys)))
                for _ in range(keys):
                    line = b""
                    while not line.endswith(b"\r\n"):
                        line += receive(client, 1)
                    assert line.startswith(b":")

        def fill() -> None:
            client = served.connect()
            for n in range(60):
                _exchange(client, request("SET", f"f{n}", b"v" * 20_000) * 4, b"+OK\r\n" * 4)

        threads = [threading.Thread(target=work) for work in (count, count, count, fill)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [db[b"n%d" % k] for k in range(keys)] == [b"%d" % (3 * rounds)] * keys


# Requests in pieces


@BOTH
def test_requests_may_come_in_any_pieces(tmp_path: Path, fast: bool) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=fast)) as served:
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


def test_many_arguments_in_pieces(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        db[b"k"] = b"v"
        sent = request("MGET", *["k"] * 30_000)
        told = b"*30000\r\n" + b"$1\r\nv\r\n" * 30_000
        client = served.connect()
        for _ in range(2):
            for at in range(0, len(sent), 1000):
                client.sendall(sent[at : at + 1000])
            assert receive(client, len(told)) == told


# Handlers


def test_a_deferred_command_holds_back_those_behind_it(tmp_path: Path) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        first, second = served.connect(), served.connect()
        first.sendall(request("WAIT") + request("SET", "a", 1) + request("GET", "a"))
        wait_until(lambda: len(handler.asked) == 1)
        first.sendall(request("ECHO", "behind"))
        _exchange(second, request("SET", "b", 2), b"+OK\r\n")
        assert is_silent(first)
        assert b"a" not in db
        conn = handler.asked[0][0]
        served.server.post(lambda: served.server.send(conn, b"+push\r\n"))
        assert receive(first, 7) == b"+push\r\n"
        served.server.post(lambda: served.server.reply(conn, b"+now\r\n"))
        told = b"+now\r\n+OK\r\n$1\r\n1\r\n" + bulk(b"behind")
        assert receive(first, len(told)) == told


def test_a_reply_may_come_before_its_command_returns(tmp_path: Path) -> None:
    handler = Handler(fast=False)

    def at_once(conn: int, args: list[bytes]) -> None:
        handler.server.send(conn, b"+first\r\n")
        handler.server.reply(conn, b"+second\r\n")

    handler.commands[b"x"] = at_once
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        _exchange(served.connect(), request("X") * 2 + request("PING"),
                  b"+first\r\n+second\r\n" * 2 + b"+PONG\r\n")


def test_a_reply_that_nobody_waits_for_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=False)) as served:
        client = served.connect()
        _exchange(client, request("PING"), b"+PONG\r\n")

        def refused() -> bool:
            served.server.reply(999, b"of a closed one: ignored")
            with pytest.raises(UsageError):
                served.server.reply(served.server.connections()[0], b"+no\r\n")
            return True

        assert served.call(refused)
        _exchange(client, request("PING"), b"+PONG\r\n")


@pytest.mark.parametrize("answer", [ValueError("a bug"), "no bytes"], ids=["raises", "text"])
def test_a_bug_of_the_handler_closes_its_connection_alone(
    tmp_path: Path, answer: Exception | str, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(conn: int, args: list[bytes]) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # the bug

    handler = Handler(fast=False)
    handler.commands[b"bug"] = bug
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        other = served.connect()
        client = served.connect()
        client.sendall(request("PING") + request("BUG") + request("PING"))
        assert receive_all(client) == b"+PONG\r\n-ERR internal error\r\n"
        _exchange(other, request("PING"), b"+PONG\r\n")
        wait_until(lambda: handler.was_closed == [2])
    assert "a command" in caplog.text


def test_posted_calls_run_in_the_loop_and_their_bugs_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=False)) as served:
        served.server.post(lambda: 1 // 0)
        assert served.call(threading.current_thread) != threading.current_thread()
    assert "what was posted" in caplog.text


def test_closing_says_what_was_told_before(tmp_path: Path) -> None:
    handler = Handler(fast=False)
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        client = served.connect()
        client.sendall(request("ECHO", b"x" * 1_000_000) + b"quit\r\nping\r\n")
        assert receive_all(client) == bulk(b"x" * 1_000_000) + b"+OK\r\n"
        assert handler.was_closed == [1]
        second = served.connect()
        _exchange(second, request("PING"), b"+PONG\r\n")
        served.server.post(lambda: served.server.close(2, flush=False))
        assert receive_all(second) == b""
        third = served.connect()
        _exchange(third, request("PING"), b"+PONG\r\n")
        assert served.call(served.server.connections) == [3]


def test_refused_connections_are_closed_untold(tmp_path: Path) -> None:
    handler = Handler(fast=False)
    handler.opened = lambda conn, fd, kind: False  # type: ignore[method-assign]  # a refusal
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        assert receive_all(served.connect()) == b""
        assert served.call(lambda: served.server.counters)["rejected_total"] == 1  # type: ignore[index]
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


def test_a_filter_lies_between_wire_and_commands(tmp_path: Path) -> None:
    class Filtering(Handler):
        def opened(self, conn: int, fd: int, kind: int) -> bool:
            self.server.set_filter(conn, Scrambled())
            return super().opened(conn, fd, kind)

    turn = Scrambled().sending
    handler = Filtering(fast=True)
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        client = served.connect()
        for n in range(3):
            sent = request("SET", "k", b"v" * 100_000 * n) + request("GET", "k") + b"ping\r\n"
            told = (b"" if n else turn(b"hello")) + b"+OK\r\n" + bulk(b"v" * 100_000 * n) + b"+PONG\r\n"
            threading.Thread(target=client.sendall, args=(turn(sent),)).start()
            assert receive(client, len(told)) == turn(told)
        served.server.post(lambda: served.server.send(1, b"+push\r\n"))
        assert receive(client, 7) == turn(b"+push\r\n")
        client.sendall(b"\xff")
        assert receive_all(client) == b""
        bad = served.connect()
        bad.sendall(b"\xff")
        assert receive_all(bad) == b"hello"


# Bounds


def test_a_client_that_does_not_read_holds_up_nobody_else(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        db[b"large"] = value = os.urandom(1 << 20)
        lazy, other = served.connect(), served.connect()
        lazy.settimeout(1)
        lazy.sendall(request("GET", "large") * 100 + request("ECHO", "end"))
        _exchange(other, request("SET", "a", 1) + request("GET", "a"), b"+OK\r\n$1\r\n1\r\n")
        number = served.handler.was_opened[0]
        described = served.call(lambda: served.server.describe(number))
        assert described["output_bytes"] < 4 << 20  # type: ignore[index]
        assert described["commands"] < 10  # type: ignore[index]
        for _ in range(100):
            assert receive(lazy, len(bulk(value))) == bulk(value)
        assert receive(lazy, 9) == bulk(b"end")


def test_a_reply_above_the_limit_closes_the_connection(tmp_path: Path) -> None:
    limits = {"output_bytes_max": 2 << 20}
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True), **limits) as served:
        db[b"large"] = bytes(1 << 20)
        client = served.connect()
        client.sendall(request("MGET", *["large"] * 50))
        assert len(receive_all(client)) < 4 << 20
        python = served.connect()
        python.sendall(request("ECHO", b"x" * (8 << 20)))
        assert len(receive_all(python)) < 8 << 20
        _exchange(served.connect(), request("PING"), b"+PONG\r\n")


def test_what_incomplete_requests_may_take_is_bounded(tmp_path: Path) -> None:
    limits = {"input_bytes_max": 4 << 20}
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True), **limits) as served:
        clients = [served.connect() for _ in range(4)]
        ended = 0
        for client in clients:
            try:
                client.sendall(b"*2\r\n$3\r\nGET\r\n$8000000\r\n" + bytes(2 << 20))
                _exchange(served.connect(), request("PING"), b"+PONG\r\n")
                ended += not is_silent(client)
            except ConnectionError:
                ended += 1
        assert ended >= 2
        _exchange(served.connect(), request("PING"), b"+PONG\r\n")


def test_arguments_have_a_limit_and_so_have_strangers(tmp_path: Path) -> None:
    handler = Handler(fast=True, authenticated=False)
    with (
        opened(tmp_path / "db") as db,
        serving(db.path, handler, request_bytes_max=100_000) as served,
    ):
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


def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    limits = {"connection_count_max": 2}
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True), **limits) as served:
        first, second = served.connect(), served.connect()
        for client in (first, second):
            _exchange(client, request("PING"), b"+PONG\r\n")
        assert receive_all(served.connect()) == b"-ERR max number of clients reached\r\n"
        first.close()
        wait_until(lambda: len(served.handler.was_closed) == 1)
        _exchange(served.connect(), request("PING"), b"+PONG\r\n")
        assert served.call(lambda: served.server.counters) == {
            **served.server.counters, "connections_total": 3, "connections_now": 2,
            "rejected_total": 1, "commands_total": 3,
        }


@pytest.mark.parametrize("limit", ["idle_ns", "partial_ns"])
def test_who_keeps_silent_too_long_is_closed(tmp_path: Path, limit: str) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    limits = {limit: 100_000_000}
    with opened(tmp_path / "db") as db, serving(db.path, handler, **limits) as served:
        half, waiting = served.connect(), served.connect()
        waiting.sendall(request("WAIT"))
        half.sendall(request("PING") + b"*2\r\n$4\r\nEC")
        assert receive_all(half) == b"+PONG\r\n"
        assert is_silent(waiting)


# Ends


def test_a_client_that_has_said_all_gets_all_answers(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        sent = request("SET", "a", b"x" * 50_000) * 20 + request("GET", "a") + b"ping\r\n"
        threading.Thread(
            target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR))
        ).start()
        assert receive_all(client) == b"+OK\r\n" * 20 + bulk(b"x" * 50_000) + b"+PONG\r\n"


def test_what_a_client_sent_before_it_left_is_done(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        client.sendall(
            b"".join(request("SET", f"k{n}", n) + request("INCR", "n") for n in range(100))
        )
        client.close()
        wait_until(lambda: db.get(b"n") == b"100")
        wait_until(lambda: served.handler.was_closed == [1])
        assert len(db) == 101


def test_a_client_that_leaves_while_it_waits_costs_no_time(tmp_path: Path) -> None:
    handler = Handler(fast=True)
    handler.commands[b"wait"] = lambda conn, args: None
    with opened(tmp_path / "db") as db, serving(db.path, handler) as served:
        client = served.connect()
        client.sendall(request("WAIT") + request("SET", "a", 1))
        wait_until(lambda: len(handler.asked) == 1)
        client.close()
        _exchange(served.connect(), request("PING"), b"+PONG\r\n")
        before = _cpu_ticks("server")
        assert is_silent(served.connect(), 0.5)
        assert _cpu_ticks("server") - before < 20, "it spins"
        assert handler.was_closed == []
        served.server.post(lambda: served.server.reply(1, b"+late\r\n"))
        wait_until(lambda: handler.was_closed == [1])


def _cpu_ticks(name: str) -> int:
    del name
    return int(os.times().user * 100 + os.times().system * 100)


def test_garbage_hurts_no_one(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    parts = [b"*", b"$", b"\r\n", b"1", b"3", b"GET", b"SET", b"k", b"*3\r\n$3\r\nSET\r\n", b"-1", b'"']
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
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
            _exchange(other, request("PING"), b"+PONG\r\n")
        wait_until(lambda: len(served.handler.was_closed) == 200)


def test_a_listener_may_be_left(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        _exchange(client, request("PING"), b"+PONG\r\n")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            fd = listener.fileno()
            served.call(lambda: served.server.listen(fd, 1))
            with socket.create_connection(listener.getsockname()) as tcp:
                _exchange(tcp, request("PING") * 3, b"+PONG\r\n" * 3)
            served.call(lambda: served.server.unlisten(fd))
            with socket.create_connection(listener.getsockname()) as tcp:
                tcp.sendall(request("PING"))
                assert is_silent(tcp)
        _exchange(served.connect(), request("PING"), b"+PONG\r\n")


# The coordinator


def test_writes_under_way_when_the_coordinator_dies_get_their_true_outcome(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        counting, setting = served.connect(), served.connect()
        acknowledged = 0

        def kill() -> None:
            os.kill(coordinator_pid(tmp_path / "db"), signal.SIGKILL)
            db.put(b"started", b"again")

        timer = threading.Timer(0.3, kill)
        timer.start()
        for n in range(1, 100_000):
            _exchange(setting, request("SET", "s", n), b"+OK\r\n")
            _exchange(counting, request("INCR", "n"), b":%d\r\n" % n)
            acknowledged = n
            if not timer.is_alive() and n % 50 == 0:
                break
        assert db[b"n"] == db[b"s"] == b"%d" % acknowledged


def test_stop_ends_the_loop_and_a_later_run_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "db") as db, serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        _exchange(client, request("PING"), b"+PONG\r\n")
        done: list[Callable[[], None]] = []
        served.server.post(served.server.stop)
        wait_until(lambda: not any(t.name == "server" for t in threading.enumerate()))
        served.server.run(0)
        client.sendall(request("SET", "a", 1))
        served.server.stop()
        served.server.run(1 << 62)
        assert not done
