"""Fill shared memory under a database and free it again: run where /dev/shm is small and private.

`python -m tests.support.full_memory DIRECTORY`, in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path

import ferrisdb
from ferrisdb import errors
from tests.support import databases
from tests.support.small_disk import SmallDisk, value_of


def main(path: Path) -> None:
    """Live through a shortage; fails if anything is not as promised."""
    memory = SmallDisk(Path("/dev/shm"))
    with databases.opened(path) as db, ferrisdb.open(path, start=False) as reader:
        pid = databases.coordinator_pid(path)
        databases.wait_until_prepared(path)
        memory.fill()
        written = 0
        with contextlib.suppress(errors.SharedMemoryFullError):
            for number in itertools.count():
                db.put(b"%06d" % number, value_of(b"%06d" % number))
                written += 1
        assert list(reader.scan()) == [(k, value_of(k)) for k in map(_key, range(written))]
        databases.wait_until(lambda: reader.stats()["state"] == "shared memory full")
        memory.free()
        databases.wait_until(lambda: databases.accepts(db))
        databases.wait_until(lambda: reader.stats()["state"] == "running")
        assert databases.coordinator_pid(path) == pid
        assert len(reader) == written + 1
    sys.stdout.write("lived through it")


def _key(number: int) -> bytes:
    return b"%06d" % number


if __name__ == "__main__":
    main(Path(sys.argv[1]))
