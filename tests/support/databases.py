"""Open databases for tests, with settings of their own; stop their services behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

import ferrisdb
from ferrisdb import errors, service
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.segment import Segment
from tests.support.service import command, environment

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
    """Send the directory's coordinator a signal and wait until it is gone; none running is fine.

    What a killed one has left in shared memory is removed by starting another.
    """
    found = service.find(str(path))
    if found is not None:
        pid = found.control.coordinator_pid
        del found
        os.kill(pid, number)
    wait_until_gone(path)
    if number == signal.SIGTERM and os.path.exists(path) and segments(path):
        ferrisdb.open(path, timeout=TIMEOUT_S).close()
        stop_service(path)


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


@contextmanager
def prepared(path: Path, **settings: int | float | str) -> Iterator[ferrisdb.Database]:
    """Open a database, with these settings if any, once its service is at rest."""
    if settings:
        configure(path, **settings)
    with opened(path) as db:
        wait_until_prepared(path)
        yield db


@contextmanager
def emptied(path: Path) -> Iterator[ferrisdb.Database]:
    """Open a database whose service runs, and remove what is in it."""
    with ferrisdb.open(path, start=False, durability="os", timeout=20) as db:
        db.clear()
        yield db


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


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again until it holds."""
    give_up = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


def segments(path: Path | str) -> list[str]:
    """Return the names of the directory's segments that exist, but those of clients."""
    names = SegmentNames.read(str(path))
    assert names is not None
    mark = f"fdb{names.nonce}."
    return [n for n in os.listdir("/dev/shm") if n.startswith(mark) and ".c" not in n]


def kill_compactor(path: Path | str) -> None:
    """Kill the coordinator's compactor, once it has one."""
    coordinator = psutil.Process(coordinator_pid(path))

    def killed() -> bool:
        for child in coordinator.children():
            # One that was killed before may just be going.
            with suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return True
        return False

    wait_until(killed)


def accepts(db: ferrisdb.Database) -> bool:
    """Tell whether the database takes writes."""
    try:
        db.put(b"accepted", b"")
    except errors.Error:
        return False
    return True


def serve(path: Path | str, *within: str) -> subprocess.CompletedProcess[bytes]:
    """Run `ferrisdb serve` to its end, behind another command if one is given."""
    return subprocess.run(
        [*within, *command("serve", str(path))], capture_output=True, env=environment(), timeout=60
    )


def open_as_nobody(path: Path | str, *, start: bool) -> str:
    """Open the database in a child without privileges; return the name of the error, or "none"."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "none"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            ferrisdb.open(path, start=start, timeout=5).close()
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said
