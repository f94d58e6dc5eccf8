"""Open databases for tests, with settings of their own; stop their services behind them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ferrisdb
from ferrisdb import service
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment

TIMEOUT_S = 30.0


def configure(path: Path, **settings: int | float | str) -> str:
    """Make the directory, with these settings for its service; returns its name."""
    path.mkdir(exist_ok=True)
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    (path / "ferrisdb.toml").write_text("".join(lines).replace("'", '"'))
    return str(path)


def coordinator_pid(path: Path | str) -> int:
    """Return the process id of the service that runs for the directory."""
    found = service.find(str(path))
    assert found is not None, f"no service runs for {path}"
    return found.control.coordinator_pid


def wait_until_gone(path: Path | str) -> None:
    """Wait until nobody holds the directory's LOCK."""
    give_up = time.monotonic() + TIMEOUT_S
    while DirectoryLock.is_held(str(path)):
        assert time.monotonic() < give_up, f"the service for {path} did not leave"
        time.sleep(0.005)


def stop_service(path: Path | str, number: int = signal.SIGTERM) -> None:
    """Send the directory's coordinator a signal and wait until it is gone; none running is fine."""
    found = service.find(str(path))
    if found is not None:
        pid = found.control.coordinator_pid
        del found
        os.kill(pid, number)
    wait_until_gone(path)


@contextmanager
def opened(
    path: Path, *, durability: str = "os", timeout: float = TIMEOUT_S
) -> Iterator[ferrisdb.Database]:
    """Open a database; at the end close the handle and stop the service."""
    db = ferrisdb.open(path, durability=durability, timeout=timeout)
    try:
        yield db
    finally:
        db.close()
        stop_service(path)


def wait_until_prepared(path: Path | str) -> None:
    """Wait until the compactor has made the next memtable, so that the service is at rest."""
    names = SegmentNames.read(str(path))
    assert names is not None
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        numbers = sorted(int(file.stem) for file in Path(path).glob("*.wal"))
        if len(numbers) > 1 and Segment.open(names.name("m", numbers[-1]), writable=False):
            return
        assert time.monotonic() < give_up, f"no memtable was prepared for {path}"
        time.sleep(0.005)
