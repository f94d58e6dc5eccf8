"""Seen: all writers hung when two clients had a large batch (in a segment of its own) at once.

Cause: the commit loop had fetched the one, looked at the other's ring first, and ended the group
there, empty, for that one was not fetched; so it did for ever, at full speed.
Remedy: a large batch that has to wait for another's is passed over, and the group goes on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ferrisdb
from tests.support.service import serving

BATCH_BYTES = 400_000
BATCH_COUNT = 60


def test_clients_with_large_batches_at_once_all_go_on(tmp_path: Path) -> None:
    directory = tmp_path / "db"

    def write(writer: int) -> None:
        with ferrisdb.open(directory, start=False, timeout=20) as db:
            for number in range(BATCH_COUNT):
                with db.write_batch(durability="os") as batch:
                    batch.put(b"%d" % writer, bytes([number]) * BATCH_BYTES)

    with serving(directory):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        with ferrisdb.open(directory, start=False) as db:
            newest = bytes([BATCH_COUNT - 1]) * BATCH_BYTES
            assert dict(db.scan()) == {b"%d" % writer: newest for writer in range(4)}
