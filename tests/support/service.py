"""Run the real commands and the real service, as a user's shell would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ferrisdb
from ferrisdb import errors

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


def environment() -> dict[str, str]:
    """Return an environment in which a child finds this tree's package."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def command(*arguments: str) -> list[str]:
    """Return the command line of `ferrisdb ARGUMENTS`."""
    return [sys.executable, "-m", "ferrisdb.cli", *arguments]


def serve_command(directory: Path, *options: str) -> list[str]:
    """Return the command line of a service without sockets, unless the options say otherwise."""
    readers = () if "--readers" in options else ("--readers", "0")
    return command("serve", str(directory), *readers, *options)


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end."""
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, env=environment(), timeout=120
    )


def refused_start(directory: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run a service with sockets that is expected not to come up."""
    words = serve_command(directory, "--readers", "1", *options)
    return subprocess.run(words, capture_output=True, env=environment(), timeout=60)


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service for the directory and end it by SIGTERM, unless it has ended by itself.

    It has no sockets, unless the options say `--readers`.

    Its log is in the file `serve.log` beside the directory.
    """
    log_path = directory.with_name(f"{directory.name}.serve.log")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            serve_command(directory, *options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
        )
    try:
        _wait_until_ready(directory, process, log_path)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _wait_until_ready(directory: Path, process: subprocess.Popen[bytes], log_path: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            ferrisdb.open(str(directory), start=False, timeout=1.0).close()
            return
        except errors.Error:
            if time.monotonic() > give_up:
                raise
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the service ended: {log_path.read_text()}")
