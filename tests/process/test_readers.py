"""Goal: sockets are served whoever dies, by workers that leave nothing behind and delay nobody.

Method: real services; raw connections; SIGKILL of workers and of the coordinator under load.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import ferrisdb
from ferrisdb.exit_codes import ExitCode
from ferrisdb.socket_path import PATH_BYTES_MAX, connect_path, socket_path
from tests.support.processes import (
    coordinators,
    kill,
    readers,
    start_service,
    stop_services,
    wait_until,
)
from tests.support.raw_client import ConnectionGoneError, Load, RawClient, ping
from tests.support.service import refused_start, serving

SOCKET = "ferris.sock"
BACK_S = 1.0
"""So soon a worker is there again, as the issue promises, on a machine that has nothing to do."""


def _patience_s() -> float:
    # Other test runs may have the processors: then it takes as much longer as they take.
    return BACK_S * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def test_workers_come_up_and_share_the_socket(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"):
        path = directory / SOCKET
        assert ping(path) == b"+PONG"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with RawClient(path) as client:
            assert client.call(b"SET", b"key", b"value") == b"+OK"
            assert client.call(b"GET", b"key") == b"value"
        with ferrisdb.open(directory, start=False) as db:
            assert db[b"key"] == b"value"
            wait_until(lambda: db.stats()["readers"] == 2, "both workers serve")
            with RawClient(path) as client:
                client.call(b"PING")
                figures = db.stats()
                assert figures["socket"] == str(path)
                assert figures["connections"] == 1
            numbers = sorted(row["reader"] for row in figures["clients"] if "reader" in row)
            assert numbers == [0, 1]
    assert not path.exists()
    assert not readers(directory)


def test_without_readers_there_is_no_socket(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "0"):
        assert not (directory / SOCKET).exists()
        with ferrisdb.open(directory, start=False) as db:
            assert db.stats()["socket"] is None


def test_a_killed_worker_is_back_and_no_acknowledged_write_is_lost(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"):
        path = directory / SOCKET
        wait_until(lambda: len(_serving(directory)) == 2, "both workers serve")
        with Load(path, 4) as load:
            for number in range(2):
                wait_until(lambda: min(load.acknowledged) > 20, "the load runs")
                _kill_reader(directory, number)
                before = sum(load.acknowledged)
                _wait_for_progress(load, before + 20)
            assert load.disconnects
        assert load.lost() == []


def _kill_reader(directory: Path, number: int) -> None:
    """Kill a worker under load, and see that another is there in time."""
    victim = readers(directory)[number]
    begin = time.monotonic()
    kill(victim)
    wait_until(lambda: victim.pid not in _serving(directory), "it is missed")
    wait_until(lambda: len(_serving(directory)) == 2, "another serves")
    assert time.monotonic() - begin < _patience_s()


def _wait_for_progress(load: Load, count: int) -> None:
    wait_until(lambda: sum(load.acknowledged) > count, "the load goes on")


def _serving(directory: Path) -> set[int]:
    """Return the pids of the workers that serve."""
    with ferrisdb.open(directory, start=False) as db:
        living = {process.pid for process in readers(directory)}
        return {row["pid"] for row in db.stats()["clients"] if "reader" in row} & living


def test_the_others_serve_while_a_worker_is_away(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2"):
        wait_until(lambda: len(_serving(directory)) == 2, "both workers serve")
        first, second = readers(directory)
        first.suspend()
        try:
            # The stopped one may have taken a connection; another one finds the other worker.
            assert any(ping(directory / SOCKET, 0.5) == b"+PONG" for _ in range(10))
        finally:
            first.resume()
        kill(first, second)
        assert ping(directory / SOCKET) == b"+PONG"


def test_sigterm_has_one_worker_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "1"):
        assert ping(directory / SOCKET) == b"+PONG"
        [old] = readers(directory)
        with RawClient(directory / SOCKET) as client:
            client.call(b"PING")
            old.send_signal(signal.SIGINT)
            old.send_signal(signal.SIGHUP)
            assert client.call(b"PING") == b"+PONG"
            old.send_signal(signal.SIGTERM)
            assert client.is_closed_by_peer()
        wait_until(lambda: readers(directory) not in ([old], []), "another one is there")
        assert ping(directory / SOCKET) == b"+PONG"


def test_workers_die_with_a_killed_coordinator_and_the_next_replaces_its_socket(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "db"
    directory.mkdir()
    path = directory / SOCKET
    service = start_service(directory, "--readers", "2")
    wait_until(lambda: ping(path) == b"+PONG", "the service serves")
    with Load(path, 4) as load:
        wait_until(lambda: min(load.acknowledged) > 20, "the load runs")
        workers = readers(directory)
        kill(*coordinators(directory))
        service.wait()
        psutil.wait_procs(workers, timeout=10)
        assert not readers(directory)
        assert path.exists() and ping(path) is None
        before = sum(load.acknowledged)
        begin = time.monotonic()
        service = start_service(directory, "--readers", "2")
        _wait_for_progress(load, before)
        assert time.monotonic() - begin < 4 * _patience_s()
    assert load.lost() == []
    stop_services(directory, service)
    assert not path.exists()


def test_a_service_that_open_started_has_workers_once_somebody_connects(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with ferrisdb.open(directory) as db:
        db[b"key"] = b"value"
        assert not readers(directory)
        with RawClient(directory / SOCKET) as client:
            assert client.call(b"GET", b"key") == b"value"
        assert readers(directory)
    stop_services(directory)


def test_idle_exit_waits_for_the_last_connection(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "1", "--idle-exit", "0.5") as service:
        with RawClient(directory / SOCKET) as client:
            assert client.call(b"PING") == b"+PONG"
            with pytest.raises(subprocess.TimeoutExpired):
                service.wait(1.5)
            assert client.call(b"PING") == b"+PONG"
        assert service.wait(30) == ExitCode.OK
    assert not (directory / SOCKET).exists()


def test_a_connection_in_the_backlog_keeps_an_idle_service(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "1", "--idle-exit", "0.5") as service:
        assert ping(directory / SOCKET) == b"+PONG"
        [worker] = readers(directory)
        worker.suspend()
        with RawClient(directory / SOCKET) as client:
            with pytest.raises(subprocess.TimeoutExpired):
                service.wait(1.5)
            worker.resume()
            assert client.call(b"PING") == b"+PONG"
        assert service.wait(30) == ExitCode.OK


def test_a_stop_closes_connections_and_leaves_in_time(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    with serving(directory, "--readers", "2") as service:
        with RawClient(directory / SOCKET) as client:
            assert client.call(b"SET", b"k", b"v") == b"+OK"
            begin = time.monotonic()
            service.send_signal(signal.SIGTERM)
            assert service.wait(30) == ExitCode.OK
            assert client.is_closed_by_peer()
        assert time.monotonic() - begin < 4 * _patience_s()
        with pytest.raises(ConnectionGoneError):
            RawClient(directory / SOCKET)


@pytest.mark.parametrize("runtime", [True, False], ids=["XDG_RUNTIME_DIR", "temporary directory"])
def test_a_path_too_long_to_connect_to_has_a_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: bool
) -> None:
    directory = tmp_path / ("long" * 30)
    short = Path(f"/tmp/fdb-test-{os.getpid()}")
    short.mkdir(mode=0o700)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR" if runtime else "TMPDIR", str(short))
    monkeypatch.setattr("tempfile.tempdir", None)
    try:
        with serving(directory, "--readers", "1"):
            place = connect_path(str(directory))
            assert place is not None and len(place) <= PATH_BYTES_MAX
            assert place.startswith(str(short))
            assert ping(place) == b"+PONG"
            assert os.readlink(place) == socket_path(str(directory))
            with ferrisdb.open(directory, start=False) as db:
                assert db.stats()["socket"] == place
            monkeypatch.chdir(directory)
            assert ping(SOCKET) == b"+PONG"
        assert connect_path(str(directory)) is None
        assert not os.path.lexists(place)
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["rm", "-r", str(short)], check=True)


def test_what_is_in_the_way_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / SOCKET).write_text("mine")
    refused = refused_start(tmp_path)
    assert refused.returncode == ExitCode.USAGE
    assert b"in the way" in refused.stderr
    assert (tmp_path / SOCKET).read_text() == "mine"


def test_tcp_is_refused_without_a_user_that_has_a_password(tmp_path: Path) -> None:
    refused = refused_start(tmp_path, "--tcp-port", "16379")
    assert refused.returncode == ExitCode.USAGE
    assert b"users.toml" in refused.stderr
    assert not (tmp_path / SOCKET).exists()


def test_users_that_cannot_be_read_arerefused_start(tmp_path: Path) -> None:
    (tmp_path / "users.toml").touch(mode=0o644)
    assert refused_start(tmp_path).returncode == ExitCode.NO_PERMISSION
    (tmp_path / "users.toml").chmod(0o600)
    (tmp_path / "users.toml").write_text("users = 7")
    assert refused_start(tmp_path).returncode == ExitCode.USAGE


def test_tls_is_refused_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "ferrisdb.toml").write_text('tls_port = 16380\ntls_cert_file = "absent.pem"\n')
    refused = refused_start(tmp_path)
    assert refused.returncode == ExitCode.USAGE


def test_an_unknown_group_isrefused_start(tmp_path: Path) -> None:
    (tmp_path / "ferrisdb.toml").write_text('socket_group = "nobody here"\n')
    refused = refused_start(tmp_path)
    assert refused.returncode == ExitCode.USAGE
    assert b"no such group" in refused.stderr


def test_a_group_may_be_given_the_socket(tmp_path: Path) -> None:
    (tmp_path / "ferrisdb.toml").write_text(f'socket_group = "{_own_group()}"\n')
    with serving(tmp_path, "--readers", "1"):
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o660
        assert ping(tmp_path / SOCKET) == b"+PONG"


def _own_group() -> str:
    import grp

    return grp.getgrgid(os.getgid()).gr_name


def test_checkpoint_verify_and_a_copy_take_no_notice_of_socket_and_users(tmp_path: Path) -> None:
    directory, copy = tmp_path / "db", tmp_path / "copy"
    directory.mkdir()
    (directory / "users.toml").touch(mode=0o600)
    with serving(directory, "--readers", "1"):
        with ferrisdb.open(directory, start=False) as db:
            db[b"key"] = b"value"
            assert db.verify().findings == ()
            db.checkpoint(copy)
    assert not {SOCKET, "users.toml"} & set(os.listdir(copy))
    with ferrisdb.open(copy) as db:
        assert db[b"key"] == b"value"
    stop_services(copy)
