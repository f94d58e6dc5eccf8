"""Goal: the clients that people have work against our sockets, as they are.

Method: redis-py in both protocols, redis-cli, redis-benchmark, hiredis and ioredis talk to a real
service over its Unix socket and over TCP. FERRISDB_TEST_PEER=redis runs the same tests against
redis-server.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import redis_child
from tests.support.processes import python
from tests.support.redis_programs import compiled, node_package, program
from tests.support.resp_wire import Address
from tests.support.service import ROOT, environment
from tests.support.socket_servers import Served, running

BENCHMARKED = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]
PROCESSES = 4
INCREMENTS = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("clients")) as served:
        yield served


def _settings(address: Address) -> dict[str, Any]:
    where: dict[str, Any] = (
        {"unix_socket_path": address.path}
        if address.path
        else {"host": address.host, "port": address.port}
    )
    if address.password:
        where |= {"username": address.user, "password": address.password}
    return where


def _url(address: Address) -> str:
    user = f"{address.user}:{address.password.replace(' ', '%20')}@" if address.password else ""
    if address.path:
        return f"unix://{user}{address.path}"
    return f"redis://{user}{address.host}:{address.port}"


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, server: Served) -> Address:
    return server.unix if request.param == "unix" else server.tcp


Connect = Callable[..., Any]


@pytest.fixture
def connect(address: Address, protocol: int) -> Iterator[Connect]:
    """Make clients; the first finds no key."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        client = redis.Redis(**_settings(address), protocol=protocol, **options)
        if not made:
            client.flushall()
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


# redis-py


def test_commands_by_redis_py(connect: Connect) -> None:
    client = connect()
    assert client.ping() and client.echo("said") == b"said"
    assert client.set("k", b"\x00\xff") and client.get("k") == b"\x00\xff"
    assert client.set("k", "v", nx=True) is None
    assert client.set("k", "v", get=True, ex=100) == b"\x00\xff" and 90 < client.ttl("k") <= 100
    assert client.getex("k", persist=True) == b"v" and client.ttl("k") == -1
    assert client.mset({"a": "1", "b": "2"}) and client.mget("a", "absent", "b") == [
        b"1", None, b"2",
    ]  # fmt: skip
    assert client.msetnx({"a": "9", "c": "3"}) is False and client.get("c") is None
    assert client.incr("n") == 1 and client.incrby("n", 41) == 42 and client.decr("n", 2) == 40
    assert client.incrbyfloat("f", 1.5) == pytest.approx(1.5)
    assert client.append("k", "w") == 2 and client.strlen("k") == 2
    assert client.getrange("k", 0, 0) == b"v" and client.setrange("k", 3, "x") == 4
    assert client.get("k") == b"vw\x00x"
    assert client.setbit("bits", 7, 1) == 0 and client.bitcount("bits") == 1
    assert client.bitpos("bits", 1) == 7 and client.getbit("bits", 7) == 1
    assert client.type("k") == b"string" and client.exists("k", "a", "absent") == 2
    assert client.rename("k", "k2") and client.copy("k2", "k3") and client.randomkey() is not None
    assert client.expireat("k3", 4102444800) and client.expiretime("k3") == 4102444800
    assert sorted(client.keys("k*")) == [b"k2", b"k3"] and client.dbsize() == 7
    assert sorted(client.scan_iter(match="[ab]", count=1)) == [b"a", b"b"]
    assert client.getdel("k2") == b"vw\x00x" and client.delete("a", "b", "absent") == 2
    assert client.lcs("k3", "f") in (b"", "") and client.unlink("k3") == 1
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.incr("f")
    with pytest.raises(redis.ResponseError, match="unknown command 'LPUSH'|WRONGTYPE"):
        client.lpush("f", "x")
    assert client.flushdb() and client.dbsize() == 0


def test_what_a_connection_says_and_is_told(connect: Connect, protocol: int) -> None:
    client = connect(client_name="somebody", decode_responses=True)
    assert client.client_getname() == "somebody"
    mine = client.client_info()
    assert mine["name"] == "somebody" and int(mine["resp"]) == protocol
    assert client.client_id() == int(mine["id"])
    assert str(mine["id"]) in [str(row["id"]) for row in client.client_list()]
    assert client.client_setname("another") and client.client_getname() == "another"
    told = client.info()
    assert int(told["process_id"]) > 0 and "redis_version" in told
    assert client.time()[0] > 1_700_000_000 and client.command_count() > 70
    assert "get" in client.command() and client.config_get("maxmemory-policy") is not None
    with pytest.raises(redis.ResponseError, match="DB index is out of range|index"):
        client.select(10**9)


def test_binary_keys_and_large_values(connect: Connect) -> None:
    client = connect()
    for key in (b"", b"\r\n$5\r\n", bytes(range(256)), b"k" * 60_000):
        value = key * 3 + b"\x00"
        assert client.set(key, value) and client.get(key) == value
    large = bytes(range(256)) * (1 << 15)
    assert client.set("large", large) and client.get("large") == large
    assert client.strlen("large") == len(large)


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_pipelines(connect: Connect, transaction: bool) -> None:
    client = connect()
    with client.pipeline(transaction=transaction) as pipe:
        for number in range(1000):
            pipe.set(f"k{number}", number).incr("n").get(f"k{number}")
        found = pipe.execute()
    assert found[1::3] == list(range(1, 1001))
    assert found[2::3] == [b"%d" % number for number in range(1000)]
    with client.pipeline(transaction=transaction) as pipe:
        pipe.set("text", "x").incr("text").get("text")
        found = pipe.execute(raise_on_error=False)
    assert found[0] is True and isinstance(found[1], redis.ResponseError) and found[2] == b"x"


def test_a_watched_key_that_changes_undoes_the_transaction(connect: Connect) -> None:
    client, other = connect(), connect()
    client.set("k", 1)
    with client.pipeline() as pipe:
        pipe.watch("k", "absent")
        assert pipe.get("k") == b"1"
        other.set("absent", "made")
        pipe.multi()
        pipe.set("k", 2)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert client.get("k") == b"1"
    with client.pipeline() as pipe:
        pipe.watch("k")
        pipe.multi()
        other.set("unwatched", "v")
        pipe.set("k", 3).get("unwatched")
        assert pipe.execute() == [True, b"v"]

    def increase(pipe: Any) -> None:
        value = int(pipe.get("k"))
        pipe.multi()
        pipe.set("k", value + 1)

    assert client.transaction(increase, "k") == [True] and client.get("k") == b"4"


def test_optimistic_increments_of_several_processes_end_at_the_exact_count(server: Served) -> None:
    urls = [_url(server.unix), _url(server.tcp)] * (PROCESSES // 2)
    with redis.Redis(**_settings(server.unix)) as client:
        client.delete(redis_child.KEY)
        children = [
            subprocess.Popen(
                python("tests.support.redis_child", url, INCREMENTS),
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env=environment(),
            )
            for url in urls
        ]
        lost = [int(child.communicate(timeout=120)[0]) for child in children]
        assert [child.returncode for child in children] == [0] * PROCESSES
        assert client.get(redis_child.KEY) == b"%d" % (PROCESSES * INCREMENTS), lost


def test_a_pool_of_connections_in_threads(server: Served, protocol: int) -> None:
    pool = redis.BlockingConnectionPool.from_url(
        _url(server.tcp), max_connections=8, protocol=protocol
    )
    client: Any = redis.Redis(connection_pool=pool)
    client.delete("shared")
    begun = threading.Barrier(16)

    def work(number: int) -> None:
        begun.wait(30)
        for turn in range(50):
            key, value = f"thread:{number}", b"%d" % turn
            client.set(key, value)
            assert client.get(key) == value
            client.incr("shared")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert client.get("shared") == b"800"
    client.close()
    pool.disconnect()


def test_asyncio_client(address: Address, protocol: int) -> None:
    async def one(client: Any, number: int) -> int:
        await client.set(f"task:{number}", number)
        async with client.pipeline(transaction=True) as pipe:
            found = await pipe.get(f"task:{number}").incr("tasks").execute()
        assert found[0] == b"%d" % number
        return int(found[1])

    async def main() -> None:
        client: Any = redis.asyncio.Redis(
            **_settings(address), protocol=protocol, max_connections=200
        )
        async with client:
            await client.delete("tasks")
            counts = await asyncio.gather(*(one(client, number) for number in range(100)))
            assert sorted(counts) == list(range(1, 101))
            found = [key async for key in client.scan_iter(match="task:*", count=7)]
            assert sorted(found) == sorted(b"task:%d" % number for number in range(100))

    asyncio.run(main())


def test_a_wrong_password_is_refused(server: Served, protocol: int) -> None:
    for password in ("wrong", None):
        with redis.Redis(
            host=server.tcp.host,
            port=server.tcp.port,
            password=password,
            protocol=protocol,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            with pytest.raises(redis.AuthenticationError):
                client.get("k")


# redis-cli


def _cli(address: Address, *words: str, stdin: bytes = b"") -> str:
    if address.path:
        where = ["-s", address.path]
    else:
        where = ["-h", address.host, "-p", str(address.port)]
    if address.password:
        where += ["--user", address.user, "--pass", address.password, "--no-auth-warning"]
    done = subprocess.run(
        [program("redis-cli"), *where, *words], input=stdin, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_redis_cli(address: Address) -> None:
    assert _cli(address, "FLUSHALL") == "OK\n"
    assert _cli(address, "SET", "cli:k", "a b") == "OK\n"
    assert _cli(address, "--no-raw", "GET", "cli:k") == '"a b"\n'
    assert _cli(address, "--no-raw", "GET", "cli:absent") == "(nil)\n"
    assert _cli(address, "-3", "--no-raw", "GET", "cli:absent") == "(nil)\n"
    assert _cli(address, "-3", "--no-raw", "HELLO").startswith('1# "server" => ')
    assert "ERR wrong number of arguments for 'get' command" in _cli(address, "GET")
    assert "ERR unknown command" in _cli(address, "NOPE", "x")
    assert _cli(address, "-r", "3", "INCR", "cli:n") == "1\n2\n3\n"
    lines = b"MULTI\nINCR cli:n\nSET cli:n 'it\\'s'\nEXEC\nGET cli:n\n"
    assert _cli(address, stdin=lines) == "OK\nQUEUED\nQUEUED\n4\nOK\nit's\n"
    assert sorted(_cli(address, "--scan").split()) == ["cli:k", "cli:n"]
    assert _cli(address, "--scan", "--pattern", "*:k").split() == ["cli:k"]
    assert "redis_version:" in _cli(address, "INFO", "server")


def test_redis_cli_pipe_mode(address: Address) -> None:
    count = 5_000
    requests = b"".join(b"SET pipe:%d value:%d\r\n" % (n, n) for n in range(count))
    assert f"errors: 0, replies: {count}" in _cli(address, "--pipe", stdin=requests)
    assert _cli(address, "GET", f"pipe:{count - 1}") == f"value:{count - 1}\n"


# redis-benchmark


@pytest.mark.parametrize("depth", [1, 16])
def test_redis_benchmark(address: Address, depth: int) -> None:
    where = ["-s", address.path] if address.path else ["-h", address.host, "-p", str(address.port)]
    if address.password:
        where += ["--user", address.user, "-a", address.password]
    tests = "ping,set,get,incr,mset"
    done = subprocess.run(
        [program("redis-benchmark"), *where, "-t", tests, "-n", "3000", "-c", "20",
         "-P", str(depth), "-r", "1000", "-d", "100", "-q", "--csv"],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    rows = [line.split('","') for line in done.stdout.splitlines() if line.startswith('"')]
    assert [row[0].strip('"') for row in rows[1:]] == BENCHMARKED, done.stdout + done.stderr
    assert all(float(row[1]) > 0 for row in rows[1:])
    assert "rror" not in done.stdout + done.stderr


# Other languages


def _where(address: Address) -> list[str]:
    if address.path:
        return [address.path]
    return [address.host, str(address.port), address.user, address.password]


def _says_ok(*words: str | Path, modules: Path | None = None) -> None:
    more = {"NODE_PATH": str(modules)} if modules else {}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**environment(), **more}
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_hiredis_in_c(server: Served, tmp_path: Path) -> None:
    path = compiled(ROOT / "tests" / "support" / "hiredis_client.c", tmp_path, "hiredis")
    if server.is_ours:
        _says_ok(path, *_where(server.unix))
    _says_ok(path, *_where(server.tcp))


def test_ioredis_in_node(server: Served) -> None:
    node, modules = node_package("ioredis")
    script = ROOT / "tests" / "support" / "ioredis_client.js"
    if server.is_ours:
        _says_ok(node, script, *_where(server.unix), modules=modules)
    _says_ok(node, script, *_where(server.tcp), modules=modules)
