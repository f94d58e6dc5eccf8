"""Compare a database with what its writers noted.

Run as `python -m tests.support.history once|watch DIRECTORY FOLDER START`: `once`, so that the
reader is a fresh process, or `watch` until FOLDER/stop is there, so that one handle goes through
every restart. It prints one line of JSON. What must hold, with writers at work or not:

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
from typing import Any, Final

import ferrisdb
from ferrisdb.errors import SnapshotTooOldError
from tests.support.records import Batch, Life, Note, highest, value_fits
from tests.support.writers import attach

PAUSE_S: Final = 0.2


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


class Checker:
    """One reader, and the heads that it has seen."""

    def __init__(self, db: ferrisdb.Database, folder: Path) -> None:
        self._db = db
        self._folder = folder
        self._seen: dict[Life, int] = {}

    def check(self) -> View:
        """Take a snapshot and compare it with the notes."""
        lowest = highest(self._folder, Note.ACKNOWLEDGED)
        with self._db.snapshot() as snapshot:
            view = View(snapshot)
        view.check()
        attempted = highest(self._folder, Note.ATTEMPTED)
        heads, faults = view.heads, view.faults
        for life, number in lowest.items():
            if heads.get(life, 0) < number:
                at = heads.get(life, 0)
                faults.append(f"{life} was acknowledged up to {number} and is there up to {at}")
        for life, number in heads.items():
            if attempted.get(life, 0) < number:
                faults.append(f"{life} is there up to {number}, never attempted")
        for life, number in self._seen.items():
            if heads.get(life, 0) < number:
                faults.append(f"{life} went back from {number} to {heads.get(life, 0)}")
        self._seen = dict(heads)
        return view

    def load(self, path: Path) -> None:
        """Take over what an earlier process has seen."""
        rows = json.loads(path.read_text()) if path.exists() else []
        self._seen = {(writer, incarnation): number for writer, incarnation, number in rows}

    def save(self, path: Path) -> None:
        """Leave behind what this one has seen."""
        path.write_text(json.dumps([[*life, number] for life, number in self._seen.items()]))


def once(db: ferrisdb.Database, folder: Path) -> dict[str, Any]:
    """Check one snapshot."""
    begin = time.perf_counter()
    checker = Checker(db, folder)
    checker.load(folder / "seen.json")
    while True:
        try:
            view = checker.check()
        except SnapshotTooOldError:
            continue  # the service was restarted behind the snapshot
        break
    checker.save(folder / "seen.json")
    stats = db.stats()
    return {
        "faults": view.faults,
        "batches": sum(view.heads.values()),
        "rows": view.row_count,
        "tables": stats["table_count"],
        "generation": stats["generation"],
        "seconds": round(time.perf_counter() - begin, 2),
    }


def watch(db: ferrisdb.Database, folder: Path) -> dict[str, Any]:
    """Check one snapshot after the other, through every restart."""
    checker = Checker(db, folder)
    report: dict[str, Any] = {"faults": [], "checks": 0, "cut off": 0}
    while not report["faults"] and not (folder / "stop").exists():
        try:
            report["faults"] = checker.check().faults
            report["checks"] += 1
        except SnapshotTooOldError:
            report["cut off"] += 1
        time.sleep(PAUSE_S)
    return report


def main(how: str, directory: str, folder: str, start: str) -> None:
    """Check, and say what was found."""
    with attach(directory, start=start == "1") as db:
        report = (watch if how == "watch" else once)(db, Path(folder))
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
