"""What other processes do to a database, for the process tests; started by `spawn`."""

from __future__ import annotations

import mmap
import threading
from typing import Any

import ferrisdb


def pop_everything(db: ferrisdb.Database, results: Any) -> None:
    """Take items until there are none left; report them."""
    taken = []
    try:
        while True:
            taken.append(db.popitem())
    except KeyError:
        results.put(taken)
    db.close()


def set_defaults(db: ferrisdb.Database, name: bytes, results: Any) -> None:
    """Set a hundred keys to `name` unless they are there; report what they are."""
    results.put([db.setdefault(b"%d" % i, name) for i in range(100)])
    db.close()


def write_until_killed(path: str, prefix: bytes, counter: str) -> None:
    """Write keys one by one and say in the file `counter` (8 bytes) how many are acknowledged."""
    with open(counter, "r+b") as file, mmap.mmap(file.fileno(), 8) as acknowledged:
        with ferrisdb.open(path, durability="os", timeout=30) as db:
            for i in range(1_000_000):
                db.put(prefix + b"%08d" % i, b"value %d" % i)
                acknowledged[:] = (i + 1).to_bytes(8, "little")


def in_threads(count: int, target: Any) -> list[BaseException]:
    """Run target(i) in threads; return what they raised."""
    raised: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            target(i)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
