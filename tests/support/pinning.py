"""Hold a handle and do what standard input says, line by line, for those who look at pins.

Run as `python -m tests.support.pinning DIRECTORY`; answers each order by one line.
"""

from __future__ import annotations

import sys

import ferrisdb
from ferrisdb.snapshot import Snapshot


def shown(source: ferrisdb.Database | Snapshot) -> str:
    """Return the count of rows and the one digit that all values are made of."""
    digits = set()
    count = 0
    for _, value in source.scan():
        count += 1
        digits.add(value[:1])
        assert value == value[:1] * len(value)
    return f"{count} {b''.join(sorted(digits)).decode()}"


def main(directory: str) -> None:
    """Obey until standard input ends."""
    snapshot: Snapshot | None = None
    with ferrisdb.open(directory, timeout=60) as db:
        for order in sys.stdin:
            answer = "done"
            match order.strip():
                case "read":
                    answer = shown(db)
                case "snapshot":
                    snapshot = db.snapshot()
                case "read snapshot":
                    assert snapshot is not None
                    answer = shown(snapshot)
                case "close snapshot":
                    assert snapshot is not None
                    snapshot.close()
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
