"""The hot operations, each carried out so often that its cost a call can be counted.

    python -m ferrisdb.bench.hot_operations FOLDER

is what `instructions.py` has valgrind run. The service is an inline one (inline.py), so that an
operation that waits for a commit includes the commit. Before and behind each operation stands a
MARK; how many calls or rows lie between two marks is written to FOLDER/calls.json at the end.

The rows: 16-byte keys in an order like a random one, values of 100 bytes. Most of them lie in one
table of the last level, some in the memtable above it; a second, smaller database has six tables
of level 0 between the two. What reads is done once before it is counted, so that blocks are checked
and views are open.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from ferrisdb.bench.inline import InlineService
from ferrisdb.bench.inline_reader import InlineReader
from ferrisdb.database import Database
from ferrisdb.options import Options
from ferrisdb.transaction import Transaction

MARK: Final = "getsid"
"""The function of libc that is called between two operations, and by nothing else."""

MEMTABLE_BYTES: Final = 8 << 20
TABLE_ROWS: Final = 20_000
MEMTABLE_ROWS: Final = 2_000
BATCH_ROWS: Final = 1_000
TALL_MEMTABLE_BYTES: Final = 256 << 10
TALL_ROWS: Final = 5_000
UPPER_TABLES: Final = 6
MANY: Final = 100
RANGE_ROWS: Final = 50
GROUP: Final = 64
DEPTH: Final = 16
READS: Final = 1_000
#: Each waits up to 20 ms, for nobody wakes it.
WAITED: Final = 25

VALUE: Final = bytes(range(100))
GOT: Final = b"$100\r\n" + VALUE + b"\r\n"
STORED: Final = b"+OK\r\n"


class Counted(NamedTuple):
    """An operation: its name, how many calls or rows `run` has, and what does it."""

    name: str
    calls: int
    run: Callable[[], object]


def key_of(number: int) -> bytes:
    """Return the 16-byte key of a number; consecutive ones lie far apart."""
    return b"%016x" % (number * 0x9E3779B97F4A7C15 % (1 << 64))


def rows_of(begin: int, end: int) -> list[tuple[bytes, bytes]]:
    """Return the rows of a range of numbers."""
    return [(key_of(number), VALUE) for number in range(begin, end)]


def each(call: Callable[[bytes], object], keys: list[bytes]) -> Callable[[], None]:
    """Return what calls it with every key."""

    def run() -> None:
        for key in keys:
            call(key)

    return run


def spread(count: int, wanted: int) -> list[bytes]:
    """Return so many of the first `count` keys."""
    return [key_of(number) for number in range(0, count, count // wanted)]


def many(db: Database, keys: list[bytes]) -> Callable[[], None]:
    """Return what looks up all the keys, MANY at a time."""
    parts = [keys[at : at + MANY] for at in range(0, len(keys), MANY)]

    def run() -> None:
        for part in parts:
            db.multi_get(part)

    return run


def scan(db: Database, rows: int, *, reverse: bool = False) -> Callable[[], None]:
    """Return what reads so many rows."""

    def run() -> None:
        for _ in islice(db.scan(reverse=reverse), rows):
            pass

    return run


def warmed(*operations: Counted) -> Iterator[Counted]:
    """Yield the operations, each done once before."""
    for operation in operations:
        operation.run()
        yield operation


ABSENT: Final = [key_of(10 * TABLE_ROWS + number) for number in range(READS)]


class Stage:
    """A service, a handle, and the rows; `operations` must be carried out in their order."""

    def __init__(self, folder: str) -> None:
        self.service = InlineService(
            os.path.join(folder, "db"), Options(memtable_bytes=MEMTABLE_BYTES)
        )
        self.db = self.service.open()
        self.tall_service = InlineService(
            os.path.join(folder, "tall"), Options(memtable_bytes=TALL_MEMTABLE_BYTES)
        )
        self.tall = self.tall_service.open()
        self.reader = InlineReader(self.service, os.path.join(folder, "socket"))

    def close(self) -> None:
        """Detach, and stop the service."""
        self.reader.close()
        for db, service in ((self.db, self.service), (self.tall, self.tall_service)):
            db.close()
            service.close()

    def operations(self) -> Iterator[Counted]:
        """Yield every operation; what one writes, the ones behind it find."""
        yield from self._loads()
        yield from self._reads()
        yield from self._tall_reads()
        yield from self._writes()
        yield from self._requests()

    @staticmethod
    def _load(db: Database, rows: list[tuple[bytes, bytes]]) -> Callable[[], None]:
        batches = [rows[at : at + BATCH_ROWS] for at in range(0, len(rows), BATCH_ROWS)]

        def run() -> None:
            for batch in batches:
                db.put_many(batch)

        return run

    def _loads(self) -> Iterator[Counted]:
        db = self.db
        db.put_many(rows_of(TABLE_ROWS + MEMTABLE_ROWS, TABLE_ROWS + MEMTABLE_ROWS + 10))
        half = TABLE_ROWS // 2
        yield Counted("put_many of 1000, a row", half, self._load(db, rows_of(0, half)))
        yield Counted("flush, a row", half, db.compact)
        self._load(db, rows_of(half, TABLE_ROWS))()
        yield Counted("flush and merge, a row", TABLE_ROWS, db.compact)
        self._load(db, rows_of(TABLE_ROWS, TABLE_ROWS + MEMTABLE_ROWS))()

    def _reads(self) -> Iterator[Counted]:
        db = self.db
        in_table = spread(TABLE_ROWS, READS)
        fresh = [key_of(TABLE_ROWS + number) for number in range(READS)]
        starts = in_table[: READS // RANGE_ROWS * 2]
        rows = TABLE_ROWS // 4

        def ranges() -> None:
            for start in starts:
                list(db.scan(start=start, limit=RANGE_ROWS))

        yield from warmed(
            Counted("get from the memtable", READS, each(db.get, fresh)),
            Counted("get from a table", READS, each(db.get, in_table)),
            Counted("get of a missing key", READS, each(db.get, ABSENT)),
            Counted("multi_get of 100, a key", READS, many(db, in_table)),
            Counted("range of 50", len(starts), ranges),
            Counted("scan, a row", rows, scan(db, rows)),
            Counted("scan in reverse, a row", rows, scan(db, rows, reverse=True)),
        )

    def _tall_reads(self) -> Iterator[Counted]:
        db, service = self.tall, self.tall_service
        self._load(db, rows_of(0, TALL_ROWS))()
        db.compact()
        service.merges = False
        at = TALL_ROWS
        while db.stats()["table_count"] < 1 + UPPER_TABLES:
            for key, value in rows_of(at, at + GROUP):
                db.put(key, value, durability="async")
            service.pump()
            at += GROUP
        lowest = spread(TALL_ROWS, READS)
        yield from warmed(
            Counted("get below six tables", READS, each(db.get, lowest)),
            Counted("get of a missing key, seven tables", READS, each(db.get, ABSENT)),
            Counted("multi_get of 100 below six tables, a key", READS, many(db, lowest)),
            Counted("scan of seven tables, a row", TALL_ROWS, scan(db, TALL_ROWS)),
        )

    def _writes(self) -> Iterator[Counted]:
        db = self.db
        keys = [key_of(TABLE_ROWS + number) for number in range(MEMTABLE_ROWS)]
        grouped = [keys[at : at + GROUP] for at in range(0, len(keys), GROUP)]

        def group(first: int) -> None:
            for part in grouped[first : first + 8]:
                for key in part:
                    db.put(key, VALUE, durability="async")
                self.service.pump()

        def change(key: bytes) -> None:
            def replace(tx: Transaction) -> None:
                value = tx.get(key)
                assert value is not None
                tx.put(key, value)

            db.transact(replace)

        counters = [b"counter %08d" % number for number in range(WAITED)]
        db.put(keys[0], VALUE)
        yield Counted("put", WAITED, each(lambda key: db.put(key, VALUE), keys[:WAITED]))
        group(0)
        yield Counted("put in a group of 64", 8 * GROUP, lambda: group(8))
        change(keys[0])
        yield Counted("transaction of a get and a put", WAITED, each(change, keys[:WAITED]))
        db.add(counters[0], 1)
        yield Counted("add", WAITED, each(lambda key: db.add(key, 1), counters))

    def _requests(self) -> Iterator[Counted]:
        keys = spread(TABLE_ROWS, READS)
        gets = [self.reader.request(b"GET", key) for key in keys]
        sets = [self.reader.request(b"SET", key, VALUE) for key in keys]
        yield from warmed(
            self._requested("GET by a socket", gets[: READS // 4], GOT, 1),
            self._requested("GET by a socket, 16 deep", gets, GOT, DEPTH),
        )
        self._requested("", sets[:DEPTH], STORED, DEPTH).run()
        yield self._requested("SET by a socket", sets[: READS // 4], STORED, 1)
        yield self._requested("SET by a socket, 16 deep", sets, STORED, DEPTH)

    def _requested(self, name: str, requests: list[bytes], answer: bytes, depth: int) -> Counted:
        """Return what sends the requests, so many at a time, each answered so."""
        parts = [requests[at : at + depth] for at in range(0, len(requests), depth)]

        def run() -> None:
            for part in parts:
                self.reader.ask(b"".join(part), answer * len(part))

        return Counted(name, len(requests), run)


def main(folder: str) -> None:
    """Carry out every operation between two marks."""
    # A collection would let go of something of ours in the midst of an operation.
    gc.disable()
    calls: dict[str, int] = {}
    stage = Stage(folder)
    try:
        for operation in stage.operations():
            os.getsid(0)
            operation.run()
            os.getsid(0)
            calls[operation.name] = operation.calls
    finally:
        stage.close()
    Path(folder, "calls.json").write_text(json.dumps(calls), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
