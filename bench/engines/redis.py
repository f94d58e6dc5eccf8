"""redis-server: everything in memory, with an append-only file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from ferrisdb.bench.engines.base import OS, wait_until
from ferrisdb.bench.engines.over_socket import OverSocket
from ferrisdb.bench.redis_server import redis_running

PROGRAMS: Final = ("redis-server", "redis-check-rdb")
"""Debian's redis-server is a link to the second, which is in another package, too."""


class Redis(OverSocket):
    """redis-server, by a Unix socket, with an append-only file."""

    name = "redis"
    title = "Redis"
    setup = (
        "all data in memory; appendonly yes, no snapshots; a Unix socket, the same client as"
        " FerrisDB's, no pipelining"
    )
    lacks: ClassVar[Mapping[str, str]] = {
        "scan": "Redis keeps no order of keys",
        "mix": "Redis syncs every write or none",
    }

    @classmethod
    def done_when(cls, durability: str) -> str:
        """Say when a write is done."""
        return f"it answers: appendfsync {'everysec' if durability == OS else 'always'}"

    @classmethod
    def missing(cls) -> str | None:
        """Say whether there is a redis-server."""
        if any(shutil.which(name) for name in PROGRAMS):
            return None
        return "the program redis-server is not there: install Debian's redis-server"

    @classmethod
    def version(cls) -> str:
        """Return the server's version."""
        program = next(path for name in PROGRAMS if (path := shutil.which(name)))
        done = subprocess.run(
            ["redis-server", "--version"],
            executable=program,
            capture_output=True,
            text=True,
            check=True,
        )
        words = dict(word.partition("=")[::2] for word in done.stdout.split())
        return words.get("v", "unknown")

    @classmethod
    @contextmanager
    def served(cls, folder: str, settings: dict[str, Any] | None = None) -> Iterator[None]:
        """Run the server."""
        del settings
        with redis_running(folder, socket_of(folder)):
            yield

    def _path(self, folder: str) -> str:
        return socket_of(folder)

    def _choose(self, durability: str) -> None:
        policy = b"everysec" if durability == OS else b"always"
        self._call(b"CONFIG", b"SET", b"appendfsync", policy)

    def rest(self, seconds: float) -> None:
        """Wait while its append-only file is rewritten."""

        def is_done() -> bool:
            told = self._call(b"INFO", b"persistence")
            assert isinstance(told, bytes)
            return b"aof_rewrite_in_progress:0" in told and b"aof_rewrite_scheduled:0" in told

        wait_until(is_done, seconds)


def socket_of(folder: str) -> str:
    """Return where the server's socket is: a folder's own name may be longer than one can be."""
    name = zlib.crc32(os.path.abspath(folder).encode())
    return os.path.join(tempfile.gettempdir(), f"ferrisdb-bench-{os.getuid()}-{name:08x}.sock")
