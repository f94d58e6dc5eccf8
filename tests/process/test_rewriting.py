"""Space and write amplification of a database that is rewritten at random, scaled down.

Method: the benchmark itself (bench/rewrite.py), with small memtables and tables, so that the tree
has as many levels and tables as one of gigabytes. It reads beside the writes, compares all it
reads, and scans everything at the end. Latencies are not judged here.
"""

from __future__ import annotations

from pathlib import Path

from ferrisdb.bench.rewrite import Settings, run, wait_for_the_end
from ferrisdb.bench.rewriting import Mix

SMALL = {"memtable_bytes": 1 << 20, "table_bytes": 1 << 20, "level_base_bytes": 4 << 20}


def test_dead_entries_take_little_space_and_few_rewrites(tmp_path: Path) -> None:
    directory, scratch = tmp_path / "db", tmp_path / "scratch"
    scratch.mkdir()
    settings = Settings(Mix(150_000, seed=7), SMALL)
    result = run(str(directory), str(scratch), settings)
    wait_for_the_end(str(directory))
    at_rest, compacted = result["at_rest"], result["compacted"]
    assert at_rest["space"]["ratio"] <= 1.30 and at_rest["space"]["block_ratio"] <= 1.30
    assert compacted["space"]["ratio"] <= 1.15 and compacted["space"]["block_ratio"] <= 1.15
    assert 1 < at_rest["written"]["ratio"] < 12 and compacted["written"]["ratio"] < 12
    assert result["get"]["found"] > 0
    assert result["checked"]["rows"] * 116 == result["live_bytes"]
