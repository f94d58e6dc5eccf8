"""Open a database in a process of its own and say how long it took.

    python -m ferrisdb.bench.budget.opening DIR start|attach [HEX]

Prints a JSON object: seconds that importing took, that `open` and the first get behind it took,
and that get's value, of a key in hexadecimal digits. "attach" refuses to start a service.
"""

from __future__ import annotations

import json
import sys
import time


def main(directory: str, how: str, key: str = "") -> None:
    """Open, get, and tell."""
    begin = time.perf_counter()
    import ferrisdb

    # The name is what imports the handle and all that it needs.
    attach = ferrisdb.open
    imported = time.perf_counter()
    db = attach(directory, start=how == "start", timeout=120)
    value = db.get(bytes.fromhex(key))
    opened = time.perf_counter()
    row = {"import_s": imported - begin, "open_s": opened - imported}
    print(json.dumps(row | {"value": None if value is None else value.hex()}), flush=True)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
