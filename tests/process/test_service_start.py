"""Goal: whoever opens a database gets a service, one for all, and it leaves nothing behind.

Method: real processes that open the same directory at once; a service that is killed as soon as
its process is seen, long before it serves; a client that is killed just before its service stops.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import shm_child
from tests.support.processes import (
    LOG_NAME,
    coordinators,
    kill,
    nonce,
    python,
    segments,
    stop_services,
    wait_until,
)
from tests.support.service import environment, serving


def _put(directory: Path, key: str) -> subprocess.Popen[bytes]:
    words = python("ferrisdb.cli", "put", directory, key, "1")
    return subprocess.Popen(words, stderr=subprocess.PIPE, env=environment())


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()


def test_service_killed_in_its_start_is_started_again(tmp_path: Path) -> None:
    """Seen: every handle waited out its time-out, for each had started a service already."""
    directory = tmp_path / "db"
    command = _put(directory, "key")
    wait_until(lambda: bool(coordinators(directory)), "a service is started")
    kill(*coordinators(directory))
    _finish(command)
    stop_services(directory)


def test_many_handles_at_once_start_one_service(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    commands = [_put(directory, f"key{n}") for n in range(5)]
    for command in commands:
        _finish(command)
    stop_services(directory)
    log = (directory / LOG_NAME).read_text()
    assert log.count(": serving ") == 1 and "another coordinator" not in log, log


def test_stop_removes_what_a_client_left_that_died_just_before(tmp_path: Path) -> None:
    """Seen: its segment stayed until a next start: the service had not met the client yet."""
    directory = tmp_path / "db"
    with serving(directory):
        client, _ = shm_child.start("client", directory)
        shm_child.stop(client, kill=True)
        known = nonce(directory)
    assert not segments(known)
