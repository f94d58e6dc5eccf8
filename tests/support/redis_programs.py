"""Find Redis's programs and clients of other languages, or skip the test and say what to install.

`scripts/test` installs them where it can: Debian's packages redis-tools and libhiredis-dev, and
ioredis by npm into build/node. Debian's redis-server is only a link (and a system service beside
it, which nobody needs here) to a program in redis-tools.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.resp_wire import Address, Wire
from tests.support.service import ROOT

PASSWORD = "differential"
START_TIMEOUT_S = 20.0
NODE_MODULES = ROOT / "build" / "node" / "node_modules"
SHIPPED_AS = {"redis-server": "redis-check-rdb"}
"""The program of redis-tools that is another one when it is called by that name."""


def program(name: str) -> str:
    """Return the path of one of Redis's programs; skips the test without it."""
    path = shutil.which(name) or shutil.which(SHIPPED_AS.get(name, name))
    if path is None:
        pytest.skip(f"no {name} here: install Debian's redis-tools, or run scripts/test as root")
    return path


def node_package(name: str) -> tuple[str, Path]:
    """Return node's path and the folder of one of npm's packages; skips the test without them."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / name).is_dir():
        pytest.skip(f"no {name} here: needs node, and npm install --prefix build/node {name}")
    return node, NODE_MODULES


def compiled(source: Path, folder: Path, *libraries: str) -> Path:
    """Return the program that a C file makes; skips the test without compiler or library."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler here")
    target = folder / source.stem
    flags = [f"-l{name}" for name in libraries]
    done = subprocess.run(
        [compiler, "-O1", "-Wall", "-o", str(target), str(source), *flags],
        capture_output=True,
        text=True,
    )
    if "hiredis" in done.stderr and "No such file" in done.stderr:
        pytest.skip("no hiredis here: install Debian's libhiredis-dev, or run scripts/test as root")
    assert done.returncode == 0, done.stderr
    return target


def version_of_redis() -> tuple[int, int]:
    """Return the first two numbers of the server's version."""
    path = program("redis-server")
    said = subprocess.run(
        ["redis-server", "--version"], executable=path, capture_output=True, text=True, check=True
    ).stdout
    major, minor = said.split("v=")[1].split(".")[:2]
    return int(major), int(minor)


@contextmanager
def redis_serving(folder: Path, *options: str, port: int = 0, password: str = "") -> Iterator[int]:
    """Run a real server whose socket is `redis.sock` in the folder; yields its process id.

    It saves nothing unless the options say so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    words += ["--unixsocket", str(folder / "redis.sock"), "--unixsocketperm", "700"]
    if password:
        words += ["--requirepass", password]
    with open(folder / "redis.log", "ab") as log:
        process = subprocess.Popen(
            ["redis-server", *words, *options],
            executable=program("redis-server"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        await_answer(Address(path=str(folder / "redis.sock"), password=password))
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def await_answer(address: Address, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until a server answers PING at the address."""
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            with Wire(address, timeout_s=2.0) as wire:
                if wire.call(b"PING") == b"PONG":
                    return
        except (OSError, EOFError):
            pass
        assert time.monotonic() < give_up, f"no server answers at {address}"
        time.sleep(0.02)
