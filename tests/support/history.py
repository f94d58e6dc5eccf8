"""Compare a database with what its writers noted.

Run as `python -m tests.support.history DIRECTORY FOLDER START`, so that the reader is a fresh
process; it prints one line of JSON. What must hold, with writers at work or not:

H1  Every acknowledged batch is there: the last acknowledged before the snapshot is at most the
    last one seen in it.
H2  A batch is there whole or not at all, and batch n only with batch n-1: the rows are exactly
    those of the batches 1 to head, and the mark that of the head alone.
H3  Nothing is there that was not attempted.
H4  No batch is there twice: sequence numbers, one an operation, are used up by exactly the
    batches that are there.
H5  What a reader has seen once stays: a head never goes back.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import ferrisdb
from ferrisdb.errors import SnapshotTooOldError
from tests.support.records import Batch, Life, Note, highest, value_fits
from tests.support.writers import attach


class View:
    """What one snapshot shows."""

    def __init__(self, snapshot: ferrisdb.Snapshot) -> None:
        self.seq = snapshot.seq
        self.faults: list[str] = []
        self.heads: dict[Life, int] = {}
        self.row_count = 0
        self._rows: dict[Life, Counter[int]] = {}
        self._marks: dict[Life, list[int]] = {}
        for key, value in snapshot.scan():
            self._take(key, value)
        self._look_up(snapshot)

    def _take(self, key: bytes, value: bytes) -> None:
        kind, *parts = key.split(b"/")
        writer, incarnation, *rest = (int(part) for part in parts)
        life = (writer, incarnation)
        if kind == b"head":
            self.heads[life] = int(value)
        elif kind == b"mark":
            self._marks.setdefault(life, []).append(rest[0])
        else:
            self.row_count += 1
            if not value_fits(key, value, Batch(life, rest[0]).row_count):
                self.faults.append(f"row {key!r} holds another value")
            self._rows.setdefault(life, Counter())[rest[0]] += 1

    def _look_up(self, snapshot: ferrisdb.Snapshot) -> None:
        """See that lookups find what the scan found: the newest batches, and some of all."""
        for life, head in self.heads.items():
            for number in {head, max(head - 1, 1), 1 + head // 2}:
                rows = dict(Batch(life, number).rows())
                found = snapshot.multi_get(list(rows))
                if found != list(rows.values()):
                    self.faults.append(f"lookups miss rows of batch {life} {number}")

    def check(self) -> None:
        """Note what is against H2 and H4."""
        op_count = 0
        for life in self._rows.keys() | self._marks.keys() | self.heads.keys():
            head = self.heads.get(life, 0)
            if self._marks.get(life) != [head]:
                self.faults.append(f"marks of {life}: {self._marks.get(life)}, its head is {head}")
            rows = self._rows.get(life, Counter())
            batches = [Batch(life, number) for number in range(1, head + 1)]
            wanted = Counter({batch.number: batch.row_count for batch in batches})
            if rows != wanted:
                wrong = sorted({n for n in rows | wanted if rows[n] != wanted[n]})
                self.faults.append(f"batches of {life} not whole, of 1 to {head}: {wrong[:9]}")
            op_count += sum(batch.op_count for batch in batches)
        if op_count != self.seq:
            self.faults.append(f"{self.seq} sequence numbers for {op_count} operations")


def check(db: ferrisdb.Database, folder: Path) -> View:
    """Take a snapshot and compare it with the notes."""
    seen_path = folder / "seen.json"
    seen = json.loads(seen_path.read_text()) if seen_path.exists() else []
    lowest = highest(folder, Note.ACKNOWLEDGED)
    with db.snapshot() as snapshot:
        view = View(snapshot)
    view.check()
    attempted = highest(folder, Note.ATTEMPTED)
    for life, number in lowest.items():
        if view.heads.get(life, 0) < number:
            at = view.heads.get(life, 0)
            view.faults.append(f"{life} was acknowledged up to {number} and is there up to {at}")
    for life, number in view.heads.items():
        if attempted.get(life, 0) < number:
            view.faults.append(f"{life} is there up to {number}, never attempted")
    for writer, incarnation, number in seen:
        if view.heads.get((writer, incarnation), 0) < number:
            view.faults.append(f"{(writer, incarnation)} went back from {number}")
    seen_path.write_text(json.dumps([[*life, number] for life, number in view.heads.items()]))
    return view


def main(directory: str, folder: str, start: str) -> None:
    """Check once, and say what was found."""
    begin = time.perf_counter()
    with attach(directory, start=start == "1") as db:
        while True:
            try:
                view = check(db, Path(folder))
            except SnapshotTooOldError:
                continue  # the service was restarted behind the snapshot
            break
        stats = db.stats()
    report = {
        "faults": view.faults,
        "batches": sum(view.heads.values()),
        "rows": view.row_count,
        "tables": stats["table_count"],
        "generation": stats["generation"],
        "seconds": round(time.perf_counter() - begin, 2),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
