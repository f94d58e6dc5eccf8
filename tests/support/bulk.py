"""Load random entries, read them back, and watch what memory the service takes meanwhile.

Run as `python -m tests.support.bulk load|check DIRECTORY COUNT SEED`: keys of 16 random bytes,
values of 100 that follow from the key, in batches of 1,000.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import ferrisdb
from tests.support import processes
from tests.support.service import environment

BATCH_ROWS = 1000
KEY_BYTES = 16
COORDINATOR_BYTES_MAX = 150 << 20
SEGMENT_MEMTABLES_MAX = 5
TIMEOUT_S = 1800


def keys(count: int, seed: int) -> Iterator[list[bytes]]:
    """Yield the keys, a batch at a time; distinct for all that chance can do."""
    rng = random.Random(seed)
    for first in range(0, count, BATCH_ROWS):
        rows = min(BATCH_ROWS, count - first)
        drawn = rng.randbytes(rows * KEY_BYTES)
        yield [drawn[n * KEY_BYTES : (n + 1) * KEY_BYTES] for n in range(rows)]


def value(key: bytes) -> bytes:
    """Return the 100 bytes that belong to a key."""
    return key * 6 + key[:4]


def load(db: ferrisdb.Database, count: int, seed: int) -> None:
    """Write everything."""
    for batch in keys(count, seed):
        db.put_many([(key, value(key)) for key in batch], durability="os")


def check(db: ferrisdb.Database, count: int, seed: int) -> None:
    """Read everything, by key and in order.

    Raises: AssertionError.
    """
    for batch in keys(count, seed):
        assert db.multi_get(batch) == [value(key) for key in batch]
    for reverse in (False, True):
        former, seen = None, 0
        for key, found in db.scan(reverse=reverse):
            assert found == value(key), f"{key.hex()} holds another value"
            assert former is None or (key < former if reverse else key > former)
            former, seen = key, seen + 1
        assert seen == count, f"{seen} rows of {count}"


class Watch:
    """The highest figures of a running service."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.coordinator_bytes = 0
        self.segment_bytes = 0

    def until(self, child: subprocess.Popen[bytes]) -> None:
        """Look again and again until the child has ended."""
        service = processes.coordinators(self._directory)[0]
        nonce = processes.nonce(self._directory)
        give_up = time.monotonic() + TIMEOUT_S
        while child.poll() is None:
            assert time.monotonic() < give_up, "it takes for ever"
            self.coordinator_bytes = max(self.coordinator_bytes, private_bytes(service))
            self.segment_bytes = max(self.segment_bytes, processes.segment_bytes(nonce))
            time.sleep(0.05)


def private_bytes(process: psutil.Process) -> int:
    """Return the memory that a process has for itself, mapped segments left out."""
    total = 0
    for row in process.memory_maps(grouped=False):
        if not row.path.startswith("/dev/shm/"):
            total += row.private_clean + row.private_dirty
    return total


def load_and_read(
    folder: Path, count: int, seed: int, memtable_bytes: int, say: Callable[[str], None]
) -> None:
    """Load, read back, close, kill, restart; leave no process.

    Raises: AssertionError, a row is wrong, or memory passes its bound or is left over.
    """
    directory = folder / "db"
    directory.mkdir(parents=True)
    (directory / "ferrisdb.toml").write_text(f"memtable_bytes = {memtable_bytes}\n")
    try:
        with ferrisdb.open(directory, timeout=60) as db:
            watch = Watch(directory)
            for role in ("load", "check"):
                begin = time.monotonic()
                child = _start(role, directory, count, seed)
                watch.until(child)
                assert child.returncode == 0, f"{role} failed"
                say(
                    f"{role}: {time.monotonic() - begin:.1f} s, coordinator"
                    f" {watch.coordinator_bytes / 2**20:.0f} MiB, segments"
                    f" {watch.segment_bytes / memtable_bytes:.2f} memtables"
                )
            # Tables are merged meanwhile: their bytes tell how many memtables went into them.
            flushed_bytes = db.stats()["table_bytes"]
        assert flushed_bytes >= 4 * memtable_bytes, "too few flushes: choose smaller memtables"
        assert watch.coordinator_bytes < COORDINATOR_BYTES_MAX
        assert watch.segment_bytes < SEGMENT_MEMTABLES_MAX * memtable_bytes
        _see_memory_go(directory, say)
    finally:
        processes.kill(*_everything(directory))


def _see_memory_go(directory: Path, say: Callable[[str], None]) -> None:
    nonce = processes.nonce(directory)
    # The service that `open` started leaves by itself.
    processes.wait_until(lambda: not processes.coordinators(directory), "the service leaves")
    assert not processes.segments(nonce), processes.segments(nonce)
    with ferrisdb.open(directory, timeout=60) as db:
        db.put(b"behind a restart", b"1")
        processes.kill(*_everything(directory))
        assert processes.segments(processes.nonce(directory)), "nothing to be swept"
        begin = time.monotonic()
        assert db.get(b"behind a restart") == b"1"
        db.put(b"behind a kill", b"1")
        say(f"restart behind SIGKILL: {time.monotonic() - begin:.2f} s")
    nonces = {nonce, processes.nonce(directory)}
    processes.wait_until(lambda: not processes.coordinators(directory), "the service leaves")
    left = [name for known in nonces for name in processes.segments(known)]
    assert not left, left


def _everything(directory: Path) -> list[psutil.Process]:
    found = processes.coordinators(directory)
    return found + [child for service in found for child in processes.children(service)]


def _start(role: str, directory: Path, count: int, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        processes.python("tests.support.bulk", role, directory, count, seed),
        stdin=subprocess.DEVNULL,
        env=environment(),
    )


def main(role: str, directory: str, count: str, seed: str) -> None:
    """Play one role."""
    with ferrisdb.open(directory, timeout=60) as db:
        (load if role == "load" else check)(db, int(count), int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
