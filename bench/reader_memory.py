"""What an attached reader costs in memory: a fresh process that attaches, and reads ever more.

    python -m ferrisdb.bench.reader_memory DIR KEYS

prints a JSON object: for each stage the process's unique set size, and `own_bytes`, which is that
without the maps that are shared, though nobody else may have them mapped at the time: tables, and
the service's segments.

Source: PSS and USS are Matt Mackall's; here from /proc/self/smaps.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

STAGES: Final = ("interpreter", "imported", "attached", "one get", "every table read")
READ_KEYS: Final = 200_000
PART: Final = 1_000
_MAPPED = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)")


@dataclass(frozen=True, slots=True)
class Private:
    """A process's private pages at one time."""

    uss_bytes: int
    own_bytes: int
    #: Tables mapped, and what is resident of them, whoever else has it mapped.
    tables: int
    table_resident_bytes: int


def private(smaps: Iterable[str]) -> Private:
    """Add up a process's maps.

    Shape:   smaps, the lines of /proc/PID/smaps.
    """
    uss = own = resident = 0
    tables: set[str] = set()
    name = ""
    for line in smaps:
        if mapped := _MAPPED.match(line):
            name = mapped[1].removesuffix(" (deleted)")
            if name.endswith(".sst"):
                tables.add(name)
            continue
        what, _, amount = line.partition(":")
        if what in ("Private_Clean", "Private_Dirty"):
            nbytes = int(amount.split()[0]) * 1024
            uss += nbytes
            own += 0 if name.endswith(".sst") or name.startswith("/dev/shm/") else nbytes
        elif what == "Rss" and name.endswith(".sst"):
            resident += int(amount.split()[0]) * 1024
    return Private(uss, own, len(tables), resident)


def now() -> Private:
    """Return what this process has."""
    gc.collect()
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as lines:
        return private(lines)


def read_all(path: str, key_count: int) -> dict[str, Private]:
    """Attach and read; return what the process has at each of STAGES.

    Raises:  SystemExit, a value is wrong.
    """
    found = {"interpreter": now()}
    import numpy as np

    import ferrisdb
    from ferrisdb.bench.growing import keys_of, right

    found["imported"] = now()
    with ferrisdb.open(path, start=False, timeout=60) as db:
        found["attached"] = now()
        (key,) = keys_of(0, 1)
        if not right(key, db.get(key)):
            raise SystemExit(f"{key!r} has a wrong value")
        found["one get"] = now()
        rng = np.random.default_rng(1)
        for _ in range(READ_KEYS // PART):
            first = int(rng.integers(0, max(key_count - PART, 1)))
            keys = keys_of(first, min(first + PART, key_count))
            if not all(right(key, db.get(key)) for key in keys):
                raise SystemExit(f"a key from number {first} on has a wrong value")
        del keys, key
        found["every table read"] = now()
    return found


def main(path: str, keys: str) -> None:
    """Print what `read_all` finds."""
    stages = {name: asdict(found) for name, found in read_all(path, int(keys)).items()}
    print(json.dumps(stages))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
