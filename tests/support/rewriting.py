"""Rewrite a whole database in rounds, while others read it whole and compare.

Run as `python -m tests.support.rewriting writer|reader DIRECTORY FOLDER ROUNDS`. The rows are
those of FOLDER/rows.jsonl in key order; each hundred is one batch, stamped with its round. The
writer leaves FOLDER/done behind; readers scan until it is there, and once more in each direction.

R1  Every scan shows every row, in order, with its own text.
R2  The rows of one batch show one round.
R3  Batches are written one after the other, so in one scan the rounds fall by at most one, from
    the first batch to the last.
R4  A later scan of the same process never shows a batch in an earlier round.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import ferrisdb
from tests.support.stanzas import STAMP_BYTES, read_rows, stamp

BATCH_ROWS = 100
Rows = list[tuple[bytes, bytes]]


class Reader:
    """Scans and judges."""

    def __init__(self, db: ferrisdb.Database, rows: Rows) -> None:
        self._db = db
        self._rows = rows
        self._rounds = [0] * -(-len(rows) // BATCH_ROWS)
        self.scan_count = 0
        self.mixed_count = 0

    def scan(self, *, reverse: bool) -> None:
        """Read everything once.

        Raises: AssertionError, with the rule that is broken.
        """
        shown: list[set[bytes]] = [set() for _ in self._rounds]
        index = len(self._rows) - 1 if reverse else 0
        step = -1 if reverse else 1
        count = 0
        for key, value in self._db.scan(reverse=reverse):
            wanted, text = self._rows[index]
            assert key == wanted, f"R1: {key!r} where {wanted!r} belongs"
            assert value[STAMP_BYTES:] == text, f"R1: {key!r} holds another text"
            shown[index // BATCH_ROWS].add(value[:STAMP_BYTES])
            index += step
            count += 1
        assert count == len(self._rows), f"R1: {count} rows of {len(self._rows)}"
        rounds = []
        for batch, stamps in enumerate(shown):
            assert len(stamps) == 1, f"R2: batch {batch} shows {sorted(stamps)}"
            rounds.append(int(stamps.pop()))
        assert rounds == sorted(rounds, reverse=True), f"R3: {rounds}"
        assert rounds[0] - rounds[-1] <= 1, f"R3: {rounds}"
        for batch, (now, before) in enumerate(zip(rounds, self._rounds, strict=True)):
            assert now >= before, f"R4: batch {batch} went back from {before} to {now}"
        self._rounds = rounds
        self.scan_count += 1
        self.mixed_count += rounds[0] != rounds[-1]

    @property
    def last_round(self) -> int:
        """The latest round that a whole scan showed."""
        return self._rounds[-1]


def read(db: ferrisdb.Database, folder: Path, rows: Rows) -> None:
    """Say `ready` after a first whole scan; scan on until the writer is done; report."""
    reader = Reader(db, rows)
    reader.scan(reverse=False)
    reader.scan(reverse=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    done = False
    begin = time.perf_counter()
    while not done:
        done = (folder / "done").exists()
        for reverse in (False, True):
            reader.scan(reverse=reverse)
    report = {"scans": reader.scan_count, "mixed": reader.mixed_count, "last": reader.last_round}
    sys.stdout.write(json.dumps(report | {"seconds": time.perf_counter() - begin}) + "\n")


def write(db: ferrisdb.Database, folder: Path, rows: Rows, round_count: int) -> None:
    """Rewrite everything so many times."""
    try:
        for number in range(1, round_count + 1):
            for first in range(0, len(rows), BATCH_ROWS):
                with db.write_batch(durability="os") as batch:
                    for key, text in rows[first : first + BATCH_ROWS]:
                        batch.put(key, stamp(number) + text)
    finally:
        (folder / "done").touch()


def main(role: str, directory: str, folder: str, rounds: str) -> None:
    """Play one role."""
    rows = read_rows(Path(folder) / "rows.jsonl")
    with ferrisdb.open(directory, timeout=60) as db:
        if role == "writer":
            write(db, Path(folder), rows, int(rounds))
        else:
            read(db, Path(folder), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
