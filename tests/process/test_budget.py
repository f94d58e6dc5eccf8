"""Goal: the budgets can be measured at any time. Method: tiny rows, run as the command does.

Figures of so few keys mean nothing and are not judged; that engines answered rightly is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrisdb.bench.budget.command import budget


def _run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(budget, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value or 0), done.stdout


def test_rows_are_measured_beside_their_peers_and_written_down(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    pytest.importorskip("rocksdict")
    code, text = _run(
        "range", "get-tables", "--keys", "1000", "--calls", "100", "--rounds", "2",
        "--out", str(tmp_path / "out"), "--folder", str(tmp_path),
    )  # fmt: skip
    assert code == 0 and "× lmdb" in text
    found = json.loads((tmp_path / "out" / "budget.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in found["rows"]] == ["range", "get-tables"]
    for row in found["rows"]:
        assert row["why"] is None and len(row["verdicts"]) == len(row["asked"])
        for figure in row["figures"]:
            assert set(figure["rounds"]) == {"ferrisdb", "lmdb", "rocksdict"}
            assert all(len(values) == 2 for values in figure["rounds"].values())
    assert found["settings"]["keys"] == 1000
    assert "| work |" in (tmp_path / "out" / "budget.md").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
