"""Goal: `ferrisdb bench load` loads a real service, judges it, and leaves nothing behind.

Method: short loads from a shell's point of view, several beside each other; one in the middle of
which the service is killed and started again.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

import ferrisdb
from ferrisdb.bench.histogram_log import merged
from ferrisdb.bench.records import keys_of
from ferrisdb.bench.results import read
from ferrisdb.exit_codes import ExitCode
from tests.support.certificate import write_certificate
from tests.support.service import command, environment, serving
from tests.support.socket_servers import PASSWORD, Served, free_port, ours_serving

SMALL = ("--keys", "300", "--clients", "2", "--warm-up", "0s")
TIMEOUT_S = 120


class Loading:
    """A load that runs."""

    #: Those of the test; one that failed leaves some.
    running: ClassVar[list[Loading]] = []

    def __init__(self, target: object, *options: str, **variables: str) -> None:
        words = command("bench", "load", str(target), *SMALL, *options)
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | variables,
        )
        self.running.append(self)

    def await_line(self, pattern: str) -> str:
        """Read the live lines until one matches."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line like {pattern!r}: {self.end()}")

    def end(self) -> tuple[int, str, str]:
        """Return exit code, output and the rest of the live lines."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out, err


@pytest.fixture(autouse=True)
def none_left_running(nothing_left_behind: None) -> Iterator[None]:
    """End the loads of a test that failed."""
    del nothing_left_behind  # which looks behind this one
    yield
    for load in Loading.running:
        load.process.kill()
        load.process.communicate()
    Loading.running.clear()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run a service with all kinds of sockets."""
    folder = tmp_path_factory.mktemp("load")
    cert, key = write_certificate(folder)
    tls: dict[str, Any] = {
        "tls_port": free_port(),
        "tls_cert_file": str(cert),
        "tls_key_file": str(key),
    }
    with ours_serving(folder, **tls) as running:
        (folder / "tls_port").write_text(str(tls["tls_port"]))
        yield running


def _keys(served: Served) -> list[bytes]:
    with ferrisdb.open(str(served.directory), start=False) as db:
        return list(db)


def _timeline(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "timeline.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_a_load_measures_judges_and_deletes_its_keys(served: Served, tmp_path: Path) -> None:
    with ferrisdb.open(str(served.directory), start=False) as db:
        db.put(b"ferrisdb-bench:somebody's", b"value")
    options = ("--duration", "1.2s", "--durability", "os", "--rate", "500")
    thresholds = ("--assert", "errors<=0", "--assert", "p50<10s", "--assert", "update.rate>50")
    attached = Loading(served.directory, *options, *thresholds, "--out", str(tmp_path / "attached"))
    closed = Loading(
        served.directory, "--socket", "--duration", "0.3s", "--assert", "p50<1ns", "--keep",
        "--prefix", "kept:",
    )  # fmt: skip
    code, out, lines = closed.end()
    assert code == ExitCode.THRESHOLD_MISSED, out
    assert "kept: 300 keys that begin with 'kept:'" in lines
    assert re.search(r"^MISSED p50<1ns: [\d.]+ (µs|ms)$", out, re.M), out
    code, out, lines = attached.end()
    assert code == ExitCode.OK, out + lines
    assert out.count("\nheld ") == 3 and "values compared:" in out and "all right" in out

    seconds = _timeline(tmp_path / "attached", "second")
    assert len(seconds) >= 2 and sum(row["seconds"] for row in seconds) >= 1.2
    (group,) = read(tmp_path / "attached").groups
    measured = group.measured["ferrisdb"]
    (cell,) = measured.rounds
    assert cell.operations == sum(row["operations"] for row in seconds) == 600
    assert (group.key.target_per_s, cell.seconds >= 1.2) == (500, True)
    latencies = merged(tmp_path / "attached" / "load.hlog")
    assert sum(histogram.total for histogram in latencies.values()) == cell.operations
    assert [row["held"] for row in _timeline(tmp_path / "attached", "verdict")] == [True] * 3
    page = (tmp_path / "attached" / "report.html").read_text()
    assert "Second by second" in page and "errors&lt;=0" in page
    assert (tmp_path / "attached" / "plots" / "timeline.png").exists()
    found = _keys(served)
    assert found[0] == b"ferrisdb-bench:somebody's"
    assert len(found) == 301 and all(key.startswith(b"kept:") for key in found[1:])


def test_tcp_and_tls_take_a_password(served: Served, tmp_path: Path) -> None:
    del tmp_path
    folder = served.directory.parent
    tls_port = int((folder / "tls_port").read_text())
    certificate = next(folder.glob("*cert*"))
    options = ("--duration", "0.3s", "--read-ratio", "1", "--quiet")
    user = "default"
    loads = [
        Loading(f"redis://{user}:wrong@127.0.0.1:{served.tcp.port}", *options),
        Loading(f"redis://{user}@127.0.0.1:{served.tcp.port}", *options, REDISCLI_AUTH=PASSWORD),
        Loading(f"rediss://{user}@localhost:{tls_port}", *options, "--ca-file", str(certificate),
                REDISCLI_AUTH=PASSWORD),
        Loading(f"rediss://{user}@localhost:{tls_port}", *options, REDISCLI_AUTH=PASSWORD),
    ]  # fmt: skip
    wrong, tcp, tls, unsigned = [load.end() for load in loads]
    assert wrong[0] == ExitCode.NO_PERMISSION and "WRONGPASS" in wrong[2]
    for code, out, err in (tcp, tls):
        assert code == ExitCode.OK, err
        assert re.search(r"^read +[1-9]", out, re.M) and "update" not in out
        assert err == "" and PASSWORD not in out
    assert unsigned[0] == ExitCode.UNAVAILABLE and "certificate" in unsigned[2]


def test_somebodys_keys_are_not_touched(served: Served) -> None:
    with ferrisdb.open(str(served.directory), start=False) as db:
        key = b"mine:" + keys_of(np.zeros(1, dtype=np.uint64))[0]
        db.put(key, b"somebody's")
    for options in ((), ("--clean-up",)):
        code, _out, lines = Loading(served.directory, "--prefix", "mine:", *options).end()
        assert code == ExitCode.USAGE and "choose another --prefix" in lines
    with ferrisdb.open(str(served.directory), start=False) as db:
        assert db.get(key) == b"somebody's"
        db.delete(key)


def test_a_load_can_be_ended_early(served: Served, tmp_path: Path) -> None:
    options = ("--duration", "1h", "--rate", "100")
    loads = [
        Loading(served.directory, *options, "--out", str(tmp_path)),
        Loading(served.directory, *options, "--socket"),
        Loading(served.directory, *options, "--prefix", "left:"),
    ]
    for load in loads:
        load.await_line(r"^ +1 +\d")
    *interrupted, killed = loads
    clients = psutil.Process(killed.process.pid).children(recursive=True)
    assert len(clients) >= 3  # two, and the server that forks them
    for load, number in zip(loads, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL), strict=True):
        load.process.send_signal(number)
    for load in interrupted:
        code, out, lines = load.end()
        assert code == ExitCode.INTERRUPTED, lines
        assert re.search(r"100/s, [\d.]+ s: \d+ operations", out), out
    assert read(tmp_path).groups[0].measured["ferrisdb"].rounds[0].operations > 50
    killed.end()
    _gone, alive = psutil.wait_procs(clients, timeout=20)
    assert not alive
    # What was killed could not delete its keys.
    found = _keys(served)
    assert not [key for key in found if re.match(rb"ferrisdb-bench:[0-9a-f]+:", key)]
    assert len([key for key in found if key.startswith(b"left:")]) == 300
    code, _out, lines = Loading(served.directory, "--prefix", "left:", "--clean-up").end()
    assert code == ExitCode.OK, lines
    assert not [key for key in _keys(served) if key.startswith(b"left:")]


def test_what_is_not_there_has_the_documented_code(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    port = free_port()
    loads = [
        (Loading(f"redis://127.0.0.1:{port}"), ExitCode.UNAVAILABLE, "refused"),
        (Loading(tmp_path / "empty"), ExitCode.NOT_OURS, "no FerrisDB database"),
        (Loading(tmp_path / "empty", "--socket"), ExitCode.UNAVAILABLE, "no service runs"),
        (Loading(tmp_path / "none"), ExitCode.USAGE, "a target is a service's directory"),
        (Loading(tmp_path, "--assert", "p99<5"), ExitCode.USAGE, "no duration"),
        (Loading(tmp_path, "--clients", "301"), ExitCode.USAGE, "as many --keys as --clients"),
        (Loading(tmp_path, "--prefix", ""), ExitCode.USAGE, "it marks what is deleted"),
        (Loading(tmp_path, "--clean-up"), ExitCode.USAGE, "needs the --prefix"),
    ]
    for load, expected, said in loads:
        code, _out, err = load.end()
        assert (code, len(err.splitlines())) == (expected, 1), err
        assert said in err


def test_a_load_outlives_the_service(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    options = ("--duration", "1h", "--rate", "200", "--timeout", "60s", "--durability", "os")
    with serving(directory, "--readers", "1") as service:
        loads = [Loading(directory, *options), Loading(directory, *options, "--socket")]
        for load in loads:
            load.await_line(r"^ +1 +[1-9]")
        service.kill()
        service.wait()
    with serving(directory, "--readers", "1"):
        for load in loads:
            # What had to begin while the service was away has waited for it.
            load.await_line(r"([3-9]\d\d ms|[\d.]+ s)(   .*)?$")
            load.process.send_signal(signal.SIGINT)
        for load in loads:
            code, out, lines = load.end()
            assert code == ExitCode.INTERRUPTED, (out, lines)
            assert "WRONG" not in out and "all right" in out
        assert "connections made again: 2" in out
        assert re.search(r"^errors: [12] (connection lost|no connection)$", out, re.M), out
