"""Start, find, kill and miss the processes and the shared memory of one directory's service."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from ferrisdb.shm.names import SegmentNames
from tests.support.leaks import SHM_DIR
from tests.support.service import environment, serve_command

LOG_NAME = "service.log"


def python(*arguments: object) -> list[str]:
    """Return the command that runs a module of this tree, which has to be importable."""
    return [sys.executable, "-m", *(str(argument) for argument in arguments)]


def start_service(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a service of our own, which logs where one that `open` starts does.

    It has no sockets, unless the options say `--readers`.
    """
    with open(directory / LOG_NAME, "ab") as log:
        return subprocess.Popen(
            serve_command(directory, *options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
        )


def coordinators(directory: Path) -> list[psutil.Process]:
    """Return every process that serves the directory, or means to; the oldest first."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            # Not the shell through which `open` starts it.
            serves = "serve" in words and os.path.basename(words[0]) != "sh"
            if serves and str(directory) in words and _lives(process):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return a coordinator's living children: its compactor, the tracker of multiprocess."""
    try:
        return [child for child in process.children() if _lives(child)]
    except psutil.Error:
        return []


def readers(directory: Path) -> list[psutil.Process]:
    """Return the living reader workers of the directory's service, by their numbers."""
    found: list[tuple[int, psutil.Process]] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "ferrisdb.workers.reader" in words and str(directory) in words and _lives(process):
                found.append((int(words[-2]), process))
    return [process for _, process in sorted(found, key=lambda one: one[0])]


def kill(*processes: psutil.Process) -> None:
    """Send SIGKILL to all at once, then wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(map(_lives, processes)), "a killed process goes")


def stop_services(directory: Path, own: subprocess.Popen[bytes] | None = None) -> None:
    """Tell every service of the directory to stop, and wait until it has; `own` is our child."""
    for process in coordinators(directory):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    if own is not None:
        own.wait(30)
    wait_until(lambda: not coordinators(directory), "the service leaves")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Look again until the condition holds."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"waited {timeout_s:g} s, and never: {what}"
        time.sleep(0.005)


def nonce(directory: Path) -> str:
    """Return what is in the name of each of a directory's segments."""
    names = SegmentNames.read(str(directory))
    assert names is not None, f"no service has run for {directory}"
    return names.nonce


def segments(nonce: str) -> list[str]:
    """Return the names in shared memory that have a nonce in them."""
    return sorted(name for name in os.listdir(SHM_DIR) if name.startswith(f"fdb{nonce}."))


def segment_bytes(nonce: str) -> int:
    """Return how much memory the segments of a nonce hold."""
    total = 0
    for name in segments(nonce):
        with contextlib.suppress(FileNotFoundError):
            total += (SHM_DIR / name).stat().st_blocks * 512
    return total


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
