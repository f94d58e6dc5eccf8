"""Goal: what FLUSHALL removed is soon no burden. Method: many keys, FLUSHALL, and timed scans."""

from __future__ import annotations

import time
from pathlib import Path

import ferrisdb
from tests.support import databases
from tests.support.resp_wire import Wire
from tests.support.socket_servers import ours_serving

KEYS = 100_000


def _slowest_s(wire: Wire) -> float:
    """Return how long the slowest of some reads of the whole key space took."""
    slowest = 0.0
    for words in ("SCAN 0", "RANDOMKEY", "KEYS *"):
        begin = time.perf_counter()
        wire.require(*words.split())
        slowest = max(slowest, time.perf_counter() - begin)
    return slowest


def test_scans_are_quick_again_behind_flushall(tmp_path: Path) -> None:
    with ours_serving(tmp_path, over_tcp=False) as served, Wire(served.unix) as wire:
        with ferrisdb.open(served.directory, start=False) as db:
            db.put_many(((b"k%08d" % n, b"v" * 20) for n in range(KEYS)), durability="os")
            assert wire.require("DBSIZE") == KEYS
            assert wire.require("FLUSHALL") == b"OK"
        assert wire.require("DBSIZE") == 0
        databases.wait_until(lambda: _slowest_s(wire) < 0.05)
