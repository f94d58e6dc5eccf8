"""Goal: tables, page and plots show every cell, and harm nobody. Method: small runs, hostile names.

Drawing takes a second: one run with everything in it is written once for all tests of the page.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ferrisdb.bench import report
from ferrisdb.bench.cells import Cell
from ferrisdb.bench.results import ResultsError
from tests.support.bench_runs import MACHINE, cell, rounds, with_latencies, write_run

HOSTILE = '<script>alert("x")</script> & $\\frac{1}{0}$'


def _cells(folder: Path) -> list[Cell]:
    cells = [*rounds("ferrisdb", [400_000, 500_000]), *rounds("lmdb", [200_000, 220_000])]
    cells = [with_latencies(folder, each, "read") for each in cells]
    for clients in (1, 2, 4):
        for engine, rate in (("ferrisdb", 1000.0), ("sqlite3", 321.0)):
            more = {"clients": clients, "durability": "sync", "title": "Durable commits"}
            cells.append(cell(rate * clients, engine, "commits", **more))
    cells.append(
        cell(7_654, "another-store", "ycsb-a", title=HOSTILE, errors=3, note=f"note {HOSTILE}")
    )
    cells.append(cell(0, HOSTILE, "ycsb-a", title=HOSTILE, errors=1, why=f"wrong {HOSTILE}"))
    cells.append(cell(0, "redis", "seekrandom", why="it keeps no order"))
    return cells


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run and its report."""
    folder = tmp_path_factory.mktemp("run") / "run"
    write_run(folder, _cells(folder))
    report.write(folder)
    return folder


class _Reader(HTMLParser):
    """Collects a page's elements, and all that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        names = ("src", "href", "xlink:href", "data", "action")
        self.targets += [values[name] or "" for name in names if name in values]


def test_page_shows_every_cell(run: Path) -> None:
    text = (run / "report.html").read_text()
    for part in (
        "450,000", "210,000", "2.14 ×", "[400,000 .. 500,000]", "[2.00 .. 2.27]",
        "Durable commits", "1 client", "4 clients", "4,000", "1,284", "3.12 ×",
        "another-store", "7,654", "it keeps no order", "1.50 µs", "p99.99",
        "A processor · 2 cores · 4 GiB", "pip install plyvel", "not synced", "3.0.0",
    ):  # fmt: skip
        assert part in text, part


def test_page_needs_nothing_and_runs_nothing(run: Path) -> None:
    text = (run / "report.html").read_text()
    reader = _Reader()
    reader.feed(text)
    assert not reader.tags & {"script", "iframe", "object", "link", "img"}
    assert all(target.startswith("#") for target in reader.targets)
    assert "url(http" not in text and "@import" not in text
    assert {target[1:] for target in reader.targets} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; $" in text


def test_page_suits_a_dark_screen(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "fill: var(--ink)" in text
    assert not re.findall(r"#1b1c1e|#fffffe", text.partition("</style>")[2])


def test_every_plot_is_written_as_png_and_svg(run: Path) -> None:
    names = {path.name for path in (run / "plots").iterdir()}
    expected = {
        "throughput",
        "throughput.readrandom.c2.os.closed",
        "throughput.commits.c1.sync.closed",
        "throughput.ycsb-a.c2.os.closed",
        "throughput.seekrandom.c2.os.closed",
        "latency.readrandom.c2.os.closed",
        "scaling.commits.sync.closed",
    }
    assert names == {f"{name}.{end}" for name in expected for end in ("png", "svg")}
    for path in (run / "plots").iterdir():
        assert path.read_bytes().startswith((b"\x89PNG", b"<?xml"))
    latency = (run / "plots" / "latency.readrandom.c2.os.closed.svg").read_text()
    for words in ("ferrisdb", "lmdb", "percentile", "99 %", "A processor"):
        assert words in latency


def test_percentiles_are_written_as_tables(run: Path) -> None:
    names = {path.name for path in (run / "percentiles").iterdir()}
    prefix = "readrandom.c2.os.closed"
    assert names == {f"{prefix}.{engine}.read.hgrm" for engine in ("ferrisdb", "lmdb")}
    # Two rounds of a thousand.
    assert "Total count    =         2000" in (run / "percentiles" / names.pop()).read_text()


def test_the_same_results_give_the_same_image(run: Path, tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg", "one.png"):
        report.write_overview(run, tmp_path / name, ["readrandom"])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "one.svg").read_text()
    assert "readrandom" in text and "commits" not in text
    with pytest.raises(ResultsError, match="no workload 'ycsb-z'; there are: readrandom, commits"):
        report.write_overview(run, tmp_path / "none.svg", ["ycsb-z"])


def test_tables_show_every_cell(run: Path) -> None:
    text = "\n".join(report.tables(run))
    for part in ("450,000", "2.14 × [2.00 .. 2.27]", "1,284", "3 operations failed", "read p50",
                 "- it keeps no order", "WRONG: wrong <script>", "note <script>",
                 "plyvel was not measured: pip install plyvel",
                 '(4 clients, "sync", closed loop)'):  # fmt: skip
        assert part in text, part


def test_sockets_are_compared_with_our_socket(tmp_path: Path) -> None:
    cells = [cell(1000), cell(100, "ferrisdb-socket"), cell(80, "redis")]
    lines = list(report.tables(write_run(tmp_path, cells)))
    (line,) = [line for line in lines if line.startswith("  redis")]
    assert line.split()[:5] == ["redis", "80.0", "1.25", "×", "socket"]


def test_without_matplotlib_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = report.write(
        write_run(tmp_path / "run", [cell(12_345), cell(5_000, "lmdb")])
    ).read_text()
    assert "matplotlib is missing: pip install matplotlib" in text
    assert "12,345" in text and "<svg" not in text


def test_a_histogram_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    outside = with_latencies(tmp_path, cell(1), "read")
    row = outside.to_json() | {"histogram": f"../{outside.histogram}"}
    folder = write_run(tmp_path / "run", [Cell.from_json(row)], MACHINE)
    report.write(folder)
    assert not list((folder / "plots").glob("latency*"))


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [], {"kind": "machine"})
    assert "<h1>" in report.write(folder).read_text()
    assert list(report.tables(folder)) == []
