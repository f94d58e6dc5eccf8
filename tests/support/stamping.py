"""Stamp batches with a counter in two keys, far apart, for those who copy the database meanwhile.

Run as `python -m tests.support.stamping DIRECTORY NAME FOLDER`; ends when FOLDER/stop is there.

B1  The n-th batch of a writer NAME puts n under `a/NAME` and `z/NAME`, and rewrites some rows
    between them: whatever is a whole number of batches shows the same number in both.
B2  FOLDER/NAME holds the last number acknowledged, as 8 bytes.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ferrisdb
from tests.support.databases import wait_until
from tests.support.processes import python
from tests.support.service import environment


def write(directory: str, name: str, folder: Path) -> None:
    """Play a writer."""
    with open(folder / name, "r+b") as file, mmap.mmap(file.fileno(), 8) as acknowledged:
        with ferrisdb.open(directory, durability="os", timeout=60) as db:
            number = 0
            while not (folder / "stop").exists():
                number += 1
                stamp = b"%d" % number
                with db.write_batch() as batch:
                    batch.put(b"a/" + name.encode(), stamp)
                    for row in range(8):
                        key = b"m/%s/%d" % (name.encode(), (number * 7 + row) % 300)
                        batch.put(key, stamp + b"." * 200)
                    batch.delete(b"m/%s/%d" % (name.encode(), number % 300))
                    batch.put(b"z/" + name.encode(), stamp)
                acknowledged[:] = number.to_bytes(8, "little")


@contextmanager
def stamping(directory: Path, folder: Path, names: tuple[str, ...]) -> Iterator[Callable[[], None]]:
    """Run writers; yields what waits until each of them has had a batch acknowledged anew."""
    for name in names:
        (folder / name).write_bytes(bytes(8))
    writers = [
        subprocess.Popen(
            python("tests.support.stamping", directory, name, folder), env=environment()
        )
        for name in names
    ]

    def go_on() -> None:
        before = acknowledged(folder, names)
        wait_until(lambda: all(n > before[name] for name, n in acknowledged(folder, names).items()))

    try:
        go_on()
        yield go_on
    finally:
        (folder / "stop").touch()
        codes = [writer.wait(60) for writer in writers]
    assert codes == [0] * len(names)


def acknowledged(folder: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Return each writer's last acknowledged number."""
    return {name: int.from_bytes((folder / name).read_bytes(), "little") for name in names}


def shown(rows: Mapping[bytes, bytes], names: tuple[str, ...]) -> dict[str, int]:
    """Return each writer's number as a copy of the database shows it.

    Raises: AssertionError, half a batch (B1).
    """
    numbers = {}
    for name in names:
        first, last = rows.get(b"a/" + name.encode()), rows.get(b"z/" + name.encode())
        assert first == last, f"half a batch of {name}: {first!r} and {last!r}"
        numbers[name] = int(first or 0)
    return numbers


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
