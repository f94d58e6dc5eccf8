"""`ferrisdb bench` measures engines beside each other, and says what it can't vouch for.

Method: whole runs of the command, with few keys and short cells; one is interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferrisdb.bench import histogram_log, results
from ferrisdb.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--keys", "2000", "--seconds", "0.05", "--warm-up", "0.02", "--rounds", "2")
SUPPORT = "tests.support.bench_engines"

pytest.importorskip("lmdb")


def _command(out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "bench", "--out", str(out), *SMALL, *words]


def _lines(out: Path) -> list[dict[str, Any]]:
    text = (out / results.FILE_NAME).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _data_is_gone(out: Path) -> bool:
    return not [path for path in out.iterdir() if path.name.startswith("ferrisdb-bench-")]


def test_a_run_measures_checks_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "out"
    engines = f"ferrisdb,lmdb,sqlite3,{SUPPORT}:Forgetful,{SUPPORT}:Uninstalled"
    workloads = "overwrite,fillrandom,transactions-1"
    done = subprocess.run(
        _command(out, "--engines", engines, "--workloads", workloads, "--clients", "2"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert "uninstalled is left out: the Python package" in done.stderr
    assert "forgetful" in done.stdout and (out / "report.html").exists()
    assert _data_is_gone(out)

    machine, *cells = _lines(out)
    assert machine["kind"] == "machine" and machine["arguments"]["keys"] == 2000
    told = machine["engines"]
    assert "pip install" in told["uninstalled"]["missing"] and told["lmdb"]["missing"] is None
    assert all(told[name]["settings"] for name in told)

    wrong = [cell for cell in cells if cell["kind"] == "wrong"]
    assert {cell["engine"] for cell in wrong} == {"forgetful"}
    assert all("nobody wrote" in cell["why"] for cell in wrong)
    right = [cell for cell in cells if cell["kind"] == "cell"]
    for cell in right:
        # A load is checked by what reads its rows.
        assert cell["verified"] > 0 or cell["workload"].startswith("load-")
        assert cell["rate_per_s"] == pytest.approx(cell["operations"] / cell["seconds"])
        (out / cell["histogram"]).stat()
    assert {cell["engine"] for cell in right} >= {"ferrisdb", "lmdb", "sqlite3"}
    # A-B-A-B
    turns = [(cell["round"], cell["engine"]) for cell in cells if cell["workload"] == "overwrite"]
    names = ["ferrisdb", "lmdb", "sqlite3", "forgetful"]
    assert turns == [(turn, name) for turn in (0, 1) for name in names]
    interval = next(histogram_log.read_log(out / right[-1]["histogram"]))
    assert interval.histogram.total > 0

    again = subprocess.run(_command(out), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == ExitCode.USAGE and "another run" in again.stderr


def test_ctrl_c_leaves_a_report_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = _command(out, "--engines", "ferrisdb,lmdb", "--workloads", "readrandom,overwrite")
    process = subprocess.Popen(
        [*words, "--seconds", "30"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has what it runs in the background ignore it, and so would all that comes of it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        assert process.stderr is not None
        # Both engines are loaded and the first cell is under way.
        shown = [process.stderr.readline() for _ in range(3)]
        assert "load-rows" in shown[-1], shown
        os.kill(process.pid, signal.SIGINT)
        _, left = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED, left
    assert "interrupted" in left and "Traceback" not in left
    assert _data_is_gone(out) and (out / "report.html").exists()
    assert [line["kind"] for line in _lines(out)] == ["machine", "cell", "cell"]
