"""Goal: an interrupted run goes on, and measures every size once. Method: tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferrisdb.bench.growing import Calls, Growing
from ferrisdb.bench.growth import measure
from ferrisdb.cli import main
from ferrisdb.cli.failure import CommandFailure
from tests.support.databases import opened


def test_an_interrupted_growth_goes_on(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int) -> None:
        if done == 3000:
            raise Interrupted

    with opened(tmp_path) as db:
        with pytest.raises(Interrupted):
            Growing(db).grow(5000, interrupt)
        growing = Growing(db)
        assert growing.key_count == 3000
        seen: list[int] = []
        assert growing.grow(4500, seen.append) is not None
        assert seen == [4000, 4500] and growing.key_count == 4500
        assert growing.grow(4500, seen.append) is None
        growing.check()
        db.delete(next(iter(db.scan(start=b"0", limit=1)))[0])
        with pytest.raises(SystemExit, match="4499 rows where 4500"):
            growing.check()
        with pytest.raises(CommandFailure, match="give another --folder"):
            measure(growing, 4000, Calls())


def test_sizes_that_are_there_are_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    words = ["bench", "growth", "--json", str(path), "--rounds", "2", "--reads", "500"]
    words += ["--puts", "100", "--sizes", "1k"]
    assert main(words) == 0
    text = path.read_text()
    (one,) = json.loads(text)["sizes"]
    assert {"get", "put", "scan, a row", "fill, a row"} <= one["costs_us"].keys()
    assert one["reader"]["every table read"]["tables"] == one["tree"]["table_count"] == 1
    assert main([*words, "--folder", str(tmp_path / "never made")]) == 0
    assert path.read_text() == text and not (tmp_path / "never made").exists()
