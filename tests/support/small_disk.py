"""A file system of a few MiB that a test can fill to the byte, and a reader that never stops.

Mounting takes privileges; `may_mount` tells whether this process has them, and `in_namespace`
gives a command that has them wherever the kernel lets users make namespaces of their own.

Run as a program, the reader scans a database whose values follow from their keys, until its
standard input ends, and prints how often it has done so: it fails at the first wrong value, at a
row that was there and is gone, and at any error.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ferrisdb
from tests.support.service import environment

PAGE_BYTES = 4096


class SmallDisk:
    """A mounted tmpfs and the ballast that fills it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def fill(self, leave_bytes: int = 0) -> None:
        """Leave that much space, or less."""
        with self._ballast.open("ab") as file:
            for _ in range(20):
                status = os.statvfs(self.directory)
                more = status.f_bavail * status.f_frsize - leave_bytes
                if more <= 0:
                    return
                # Whoever takes space meanwhile leaves less for us.
                with contextlib.suppress(OSError):
                    ballast = os.fstat(file.fileno()).st_size
                    os.posix_fallocate(file.fileno(), ballast, more)
                    return

    def free(self) -> None:
        """Give all of it back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(directory: Path, nbytes: int) -> Iterator[SmallDisk]:
    """Mount a file system of a size."""
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def may_mount() -> bool:
    """Tell whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            with small_disk(Path(directory), 1 << 20):
                return True
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False


def in_namespace(*command: str) -> list[str]:
    """Return a command line that runs another with mounts of its own."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", *command]


def value_of(key: bytes) -> bytes:
    """Return the value that a key has, always."""
    return (key * 64)[: 200 + int(key) % 100]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Have another process read all the time; fails if it found anything wrong or got nowhere."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.small_disk", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        yield
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors.decode()
    assert int(said) > 1, "the reader did not get on"


def _read(path: str) -> None:
    count, rounds = 0, 0
    os.set_blocking(0, False)
    with ferrisdb.open(path, start=False, timeout=30) as db:
        while _goes_on():
            rows = 0
            for key, value in db.scan():
                assert value == value_of(key), key
                rows += 1
            assert rows >= count, f"{count} rows were there, {rows} are"
            assert db.get(b"%06d" % (rows // 2)) in (value_of(b"%06d" % (rows // 2)), None)
            count, rounds = rows, rounds + 1
    sys.stdout.write(str(rounds))


def _goes_on() -> bool:
    try:
        return os.read(0, 1) != b""
    except BlockingIOError:
        return True


if __name__ == "__main__":
    _read(sys.argv[1])
