"""A process that commits one batch after the other and notes each before and after.

Run as `python -m tests.support.writers DIRECTORY FOLDER WRITER START PAUSE_MS`; it leaves when
FOLDER/stop is there. START is 1 if it may start a service. Exit code 3: a commit raised something
that it must not.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import ferrisdb
from ferrisdb.errors import (
    BusyError,
    CommitUnknownError,
    Error,
    NotADatabaseError,
    UnavailableError,
)
from tests.support.records import Batch, Note, Record

TIMEOUT_S = 30.0


def attach(directory: str, *, start: bool) -> ferrisdb.Database:
    """Open the database; where somebody else starts the service, wait for that."""
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ferrisdb.open(directory, start=start, timeout=TIMEOUT_S)
        except (UnavailableError, NotADatabaseError):
            if start or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def commit(db: ferrisdb.Database, batch: Batch) -> None:
    """Commit a batch."""
    with db.write_batch() as operations:
        for key, value in batch.rows():
            operations.put(key, value)
        operations.put(*batch.head())
        operations.put(batch.mark(), b"")
        if batch.number > 1:
            operations.delete(Batch(batch.life, batch.number - 1).mark())


def main(directory: str, folder: str, writer: str, start: str, pause_ms: str) -> None:
    """Write until told to stop."""
    record = Record(Path(folder), int(writer))
    stop = os.path.join(folder, "stop")
    pause = random.Random(f"{record.life}")
    db = attach(directory, start=start == "1")
    number = 0
    while not os.path.exists(stop):
        number += 1
        batch = Batch(record.life, number)
        record.note(Note.ATTEMPTED, number)
        while True:
            try:
                commit(db, batch)
            except BusyError:
                continue  # certainly not written: the same batch again
            except CommitUnknownError:
                record.note(Note.UNKNOWN, number)
                record.next_life()
                number = 0
            except Error as error:
                sys.stderr.write(f"writer {record.life}, batch {number}: {error!r}\n")
                os._exit(3)
            else:
                record.note(Note.ACKNOWLEDGED, number)
            break
        time.sleep(pause.random() * int(pause_ms) / 1000)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
