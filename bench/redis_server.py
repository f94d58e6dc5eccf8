"""Run the servers that the socket benchmarks compare: redis-server, and a service of ours."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

START_S = 60.0
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, and how redis-benchmark reaches it."""

    name: str
    pid: int
    path: str

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes and threads so far, ended ones included."""
        return sum(sum(process.cpu_times()[:4]) for process in self.processes())

    def private_bytes(self) -> int:
        """Return the memory that its processes share with nobody."""
        return sum(process.memory_full_info().uss for process in self.processes())

    def connect(self) -> socket.socket:
        """Return a connected socket."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(self.path)
        return made


def program(*names: str) -> str:
    """Return the path of the first of these programs that is there."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise SystemExit(f"no {names[0]} here: install Debian's redis-tools")


@contextmanager
def redis_running(folder: str, path: str | None = None) -> Iterator[Running]:
    """Run redis-server with an append-only file that is synced every second.

    Shape:   path, of its socket; otherwise it is in the folder.
    """
    os.makedirs(folder)
    path = path or os.path.join(folder, "redis.sock")
    words = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", folder]
    # Debian's redis-server is a link to this.
    executable = program("redis-server", "redis-check-rdb")
    with _process([*words, *REDIS_OPTIONS], path, executable, folder + ".log") as pid:
        yield Running("redis", pid, path)


@contextmanager
def ferrisdb_running(folder: str, readers: int | None) -> Iterator[Running]:
    """Run our service; writes by its socket survive the death of its processes ("os")."""
    os.makedirs(folder)
    lines = ['socket_durability = "os"', "connection_count_max = 20000"]
    if readers is not None:
        lines.append(f"reader_count = {readers}")
    with open(os.path.join(folder, "ferrisdb.toml"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    path = os.path.join(folder, "ferris.sock")
    command = [sys.executable, "-m", "ferrisdb.cli", "serve", folder]
    with _process(command, path, sys.executable, folder + ".log") as pid:
        yield Running("ferrisdb", pid, path)


@contextmanager
def _process(words: list[str], path: str, executable: str, log_path: str) -> Iterator[int]:
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            words, executable=executable, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _await_answer(process, path, log_path)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)


def _await_answer(process: subprocess.Popen[bytes], path: str, log_path: str) -> None:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            try:
                made.connect(path)
                made.sendall(b"PING\r\n")
                if made.recv(100) == b"+PONG\r\n":
                    return
            except OSError:
                pass
        time.sleep(0.05)
    with open(log_path, encoding="utf-8") as log:
        raise SystemExit(f"no answer at {path}:\n{log.read()[-2000:]}")
