"""Goal: the kernel's socket server answers in order, and never lies about a commit.

Method: a server in a thread over a real service; plain sockets; a handler of the test.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import ferrisdb
from ferrisdb.attached import Attached
from ferrisdb.kernel import layout
from tests.support.databases import configure, coordinator_pid, opened, prepared
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


# Order


@BOTH
def test_a_pipeline_is_answered_in_its_order(db: ferrisdb.Database, fast: bool) -> None:
    with serving(db.path, Handler(fast=fast)) as served:
        client = served.connect()
        for n in range(20):
            sent = b"ping\r\n" + request("SET", "k", n) + request("SET", f"k{n}", n * 7)
            sent += request("ECHO", f"e{n}") + request("PING")
            told = b"+PONG\r\n+OK\r\n+OK\r\n" + bulk(b"e%d" % n) + b"+PONG\r\n"
            exchange(client, sent * 3, told * 3)
            assert db[b"k"] == b"%d" % n
        assert db[b"k19"] == b"133"


def test_reads_behind_writes_of_a_pipeline_see_them(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        sent = told = b""
        for n in range(300):
            value = b"%d" % n * (n % 50)
            sent += request("SET", "k", value) + request("GET", "k")
            told += b"+OK\r\n" + bulk(value)
            if n % 3 == 0:
                sent += request("EXISTS", "k", "nothing", "k") + request("INCR", "n")
                told += b":2\r\n:%d\r\n" % (n // 3 + 1)
        exchange(client, sent, told)


def test_commands_of_the_kernel_do_what_redis_says(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        ask = served.connect()
        db.put(b"gone", b"x", expires_at=1)
        db.put(b"with expiry", b"7", ttl=1000)
        for sent, told in [
            (request("GET", "absent"), b"$-1\r\n"),
            (request("GET", "gone"), b"$-1\r\n"),
            (request("SET", "", ""), b"+OK\r\n"),
            (request("GET", ""), b"$0\r\n\r\n"),
            (request("MSET", "a", 1, "b", b"\r\n", "a", 3), b"+OK\r\n"),
            (
                request("MGET", "a", "absent", "b", "a"),
                b"*4\r\n$1\r\n3\r\n$-1\r\n$2\r\n\r\n\r\n$1\r\n3\r\n",
            ),
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
            exchange(ask, sent, told)
        assert served.handler.asked == []
        assert 900 < (db.ttl(b"with expiry") or 0) <= 1000


def test_what_is_unusual_is_left_to_the_handler(db: ferrisdb.Database) -> None:
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
    db[b"long"] = b"1" * 21
    handler = Handler(fast=True)
    handler.commands = dict.fromkeys(
        [b"get", b"set", b"mset", b"incr", b"incrby", b"decrby", b"ping", b"del", b"mget"],
        lambda conn, args: b"+asked\r\n",
    ) | dict.fromkeys([b"exists", b"getset", b"x", b""], lambda conn, args: b"+asked\r\n")
    with serving(db.path, handler) as served:
        exchange(served.connect(), b"".join(unusual), b"+asked\r\n" * len(unusual))
    assert len(handler.asked) == len(unusual)


def test_inline_commands_are_the_handlers(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        sent = request("SET", "k", "v") + b'echo "a b"\r\n' + request("SET", "k", "w")
        told = b"+OK\r\n" + bulk(b"a b") + b"+OK\r\n"
        exchange(served.connect(), sent * 10, told * 10)
        assert [args for _, args in served.handler.asked] == [[b"echo", b"a b"]] * 10


def test_nulls_are_of_the_connections_protocol(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True, protocol=3)) as served:
        exchange(
            served.connect(),
            request("GET", "a") + request("MGET", "a", "b"),
            b"_\r\n*2\r\n_\r\n_\r\n",
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
                exchange(client, b"".join(sent), b"".join(told))
            except AssertionError:
                raise AssertionError(f"seed {seed}") from None
        assert dict(db.items()) == model, f"seed {seed}"


# Batches


def test_writes_of_many_connections_share_batches(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
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


def test_more_than_the_ring_holds_is_written_all_the_same(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
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


def test_durable_writes_are_acknowledged_too(db: ferrisdb.Database) -> None:
    handler = Handler(fast=True)
    handler.durability = layout.DURABILITY_SYNC
    with serving(db.path, handler) as served:
        exchange(served.connect(), request("SET", "a", "b") * 50, b"+OK\r\n" * 50)
        assert db[b"a"] == b"b"


def test_values_larger_than_the_ring_are_committed_in_turn(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        first, second = served.connect(), served.connect()
        large = os.urandom(3 << 20)
        for n in range(3):
            sent = request("SET", f"l{n}", large) + request("SET", f"s{n}", n)
            threading.Thread(target=first.sendall, args=(sent,)).start()
            exchange(
                second,
                request("SET", f"m{n}", large) + request("GET", f"m{n}"),
                b"+OK\r\n" + bulk(large),
            )
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
        exchange(served.connect(), request("SET", "k", b"v" * 60_000) * 20, b"+OK\r\n" * 20)


def test_counters_are_exact_while_memtables_are_flushed_under_them(tmp_path: Path) -> None:
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
            for n in range(300):
                db.put(b"f%d" % n, b"v" * 20_000)

        threads = [threading.Thread(target=work) for work in (count, count, count, fill)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [db[b"n%d" % k] for k in range(keys)] == [b"%d" % (3 * rounds)] * keys


def test_an_increment_whose_history_is_gone_is_done_again(tmp_path: Path) -> None:
    path = configure(tmp_path / "db", memtable_bytes=1 << 18)
    with opened(Path(path)) as db, serving(db.path, Handler(fast=True)) as served:
        db[b"n"] = b"5"
        db.compact()
        attached = served.server.attached
        assert isinstance(attached, Attached)
        assert attached._registration is not None
        segment = attached._registration.segment.view
        tail = layout.load64(segment, layout.CLIENT_TAIL)
        client = served.connect()
        os.kill(coordinator_pid(path), signal.SIGSTOP)
        client.sendall(request("INCR", "n") + request("GET", "n"))
        wait_until(lambda: layout.load64(segment, layout.CLIENT_TAIL) != tail)
        pushed = layout.load64(segment, layout.CLIENT_TAIL)
        # The coordinator does not see the request until what it was read from is long flushed.
        layout.store64(segment, layout.CLIENT_TAIL, tail)
        os.kill(coordinator_pid(path), signal.SIGCONT)
        for n in range(20):
            db.put(b"f%d" % n, b"v" * 30_000)
        db.compact()
        layout.store64(segment, layout.CLIENT_TAIL, pushed)
        attached._call_attention()
        assert receive(client, 11) == b":6\r\n$1\r\n6\r\n"
        assert attached.counters()["requests"] == 2


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
            exchange(setting, request("SET", "s", n), b"+OK\r\n")
            exchange(counting, request("INCR", "n"), b":%d\r\n" % n)
            acknowledged = n
            if not timer.is_alive() and n % 50 == 0:
                break
        assert db[b"n"] == db[b"s"] == b"%d" % acknowledged


def test_stop_ends_the_loop_and_a_later_run_goes_on(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        client = served.connect()
        exchange(client, request("PING"), b"+PONG\r\n")
        served.server.post(served.server.stop)
        wait_until(lambda: not any(t.name == "server" for t in threading.enumerate()))
        client.sendall(request("PING") + request("X"))
        served.handler.commands[b"x"] = lambda conn, args: served.server.stop()
        served.server.run(1 << 62)
        served.server.run(0)
        assert receive(client, 7) == b"+PONG\r\n"


def _server_cpu_s() -> float:
    """Return what the server's thread has used; others of this process may be busy, too."""
    number = next(t.native_id for t in threading.enumerate() if t.name == "server")
    rows = [row for row in psutil.Process().threads() if row.id == number]
    return float(rows[0].user_time + rows[0].system_time)


def test_where_no_descriptor_is_left_connections_wait(db: ferrisdb.Database) -> None:
    with serving(db.path, Handler(fast=True)) as served:
        exchange(served.connect(), request("PING"), b"+PONG\r\n")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_UNIX) as client:
            before = _server_cpu_s()
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            try:
                client.connect(str(served.socket_path))
                client.sendall(request("PING"))
                assert is_silent(client, 1.0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert _server_cpu_s() - before < 0.5, "it spins"
            client.settimeout(30)
            assert receive(client, 7) == b"+PONG\r\n"
