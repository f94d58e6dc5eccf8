"""Goal: the workers of a service are one to whoever is connected to any of them.

Method: a real service with several workers; connections that are known to be on different ones.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ferrisdb
from ferrisdb.exit_codes import ExitCode
from ferrisdb.resp.passwords import hash_password
from ferrisdb.resp.users import User, load_users, save_users
from ferrisdb.seams import RealFileSystem, RealRng
from tests.support.processes import kill, readers, wait_until
from tests.support.raw_client import ConnectionGoneError, RawClient, ping
from tests.support.service import refused_start, serving

SOCKET = "ferris.sock"
WORKER_SHIFT = 40
"""A client's id has its worker's number above these bits."""


@contextmanager
def _on_each(directory: Path, count: int) -> Iterator[list[RawClient]]:
    """Give one connection to each of the workers, in the order of their numbers."""
    with ExitStack() as stack:
        found: dict[int, RawClient] = {}
        begin = time.monotonic()
        while len(found) < count:
            assert time.monotonic() < begin + 30, f"no connection came to some of {count} workers"
            client = stack.enter_context(RawClient(directory / SOCKET))
            if found.setdefault(_worker_of(client), client) is not client:
                # Those who are there take turns; one that is on its way needs a moment.
                time.sleep(0.01)
        yield [found[number] for number in sorted(found)]


def _worker_of(client: RawClient) -> int:
    said = client.call(b"CLIENT", b"ID")
    assert said is not None
    return int(said[1:]) >> WORKER_SHIFT


def _listed(client: RawClient) -> int:
    said = client.call(b"CLIENT", b"LIST")
    assert said is not None
    return said.count(b"\n")


def test_clients_of_all_workers_are_listed_and_killed(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"), _on_each(directory, 2) as (first, second):
        with ferrisdb.open(directory, start=False) as db:
            assert _listed(first) == _listed(second) == db.stats()["connections"]
        victim = second.call(b"CLIENT", b"ID")
        assert victim is not None
        assert first.call(b"CLIENT", b"KILL", b"ID", victim[1:]) == b":1"
        assert second.is_closed_by_peer()


def test_a_worker_that_hangs_makes_an_answer_partial_and_not_late(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"), _on_each(directory, 2) as (first, _):
        whole = _listed(first)
        hung = readers(directory)[1]
        hung.suspend()
        try:
            begin = time.monotonic()
            assert 0 < _listed(first) < whole
            assert time.monotonic() - begin > 0.9
        finally:
            hung.resume()
        assert _listed(first) == whole


def test_a_setting_reaches_every_worker_also_one_that_starts_later(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"):
        with _on_each(directory, 2) as (first, second):
            assert first.call(b"CONFIG", b"SET", b"timeout", b"1234") == b"+OK"
            wait_until(lambda: _timeout(second) == b"1234", "the other has heard of it")
            kill(readers(directory)[1])
        with _on_each(directory, 2) as (first, second):
            wait_until(lambda: _timeout(second) == b"1234", "its successor has, too")


def _timeout(client: RawClient) -> bytes | None:
    assert client.call(b"CONFIG", b"GET", b"timeout") == b"*2"
    assert client.bulk() == b"timeout"
    return client.bulk()


def test_shutdown_ends_the_service(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2") as service:
        with RawClient(directory / SOCKET) as client:
            assert client.call(b"SET", b"key", b"value") == b"+OK"
            try:
                client.call(b"SHUTDOWN")
            except ConnectionGoneError:
                pass
            assert service.wait(30) == ExitCode.OK
    assert not (directory / SOCKET).exists()
    with serving(directory, "--readers", "1"):
        with RawClient(directory / SOCKET) as client:
            assert client.call(b"GET", b"key") == b"value"


def test_what_was_asked_before_a_stop_is_answered(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    count = 2000
    with serving(directory, "--readers", "1") as service:
        assert ping(directory / SOCKET) == b"+PONG"
        with RawClient(directory / SOCKET) as client:
            client.send(*[(b"SET", b"key%d" % n, b"value") for n in range(count)])
            assert client.line() == b"+OK"
            service.send_signal(signal.SIGTERM)
            answered = 1
            try:
                while client.line() == b"+OK":
                    answered += 1
            except ConnectionGoneError:
                pass
        service.wait(30)
    with serving(directory, "--readers", "0"), ferrisdb.open(directory, start=False) as db:
        there = sum(1 for _ in db.scan(prefix=b"key"))
    # All had been sent, so all had come when the worker was told to leave, and none is in doubt.
    assert answered == there == count


def test_tcp_serves_users_and_hears_of_new_ones(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir(mode=0o700)
    _add_user(directory, "default", b"secret")
    port = _free_port()
    with serving(directory, "--readers", "2", "--tcp-port", str(port)) as service:
        address = ("127.0.0.1", port)
        with RawClient(address) as client:
            assert client.call(b"GET", b"key") == b"-NOAUTH Authentication required."
            assert client.call(b"AUTH", b"secret") == b"+OK"
            assert client.call(b"GET", b"key") is None
        _add_user(directory, "later", b"other")
        service.send_signal(signal.SIGHUP)
        with RawClient(address) as client:
            assert client.call(b"AUTH", b"later", b"other") == b"+OK"


def test_a_port_that_is_taken_is_told_of(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir(mode=0o700)
    _add_user(directory, "default", b"secret")
    port = _free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused = refused_start(directory, "--tcp-port", str(port))
    assert refused.returncode == ExitCode.UNAVAILABLE
    assert b"in use" in refused.stderr


def _add_user(directory: Path, name: str, password: bytes) -> None:
    users = dict(load_users(str(directory)).by_name)
    users[name] = User(name, hash_password(password, RealRng()))
    save_users(str(directory), users, RealFileSystem())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
