"""Goal: medians, spreads and ratios are what they say. Method: runs with figures known by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ferrisdb.bench.results import FILE_NAME, Group, Measured, ResultsError, Spread, read
from tests.support.bench_runs import MACHINE, cell, rounds, with_latencies, write_run


def _only_group(folder: Path) -> Group:
    (group,) = read(folder).groups
    return group


def test_figures_are_medians_of_the_rounds(tmp_path: Path) -> None:
    cells = [*rounds("ferrisdb", [300, 100, 200]), *rounds("lmdb", [100, 50, 40])]
    group = _only_group(write_run(tmp_path, cells))
    assert group.measured["ferrisdb"].rate == Spread(200, 100, 300)
    assert group.measured["ferrisdb"].verified == 30
    # Of rounds that were side by side: 300/100, 100/50, 200/40.
    assert group.ratio("ferrisdb", "lmdb") == Spread(4.0, 2.0, 5.0)
    assert group.ratio("lmdb", "ferrisdb") == Spread(0.25, 0.2, 0.5)
    assert group.ratio("ferrisdb", "redis") is None


def test_what_differs_in_more_than_engine_and_round_is_not_compared(tmp_path: Path) -> None:
    others: list[dict[str, Any]] = [
        {"clients": 4},
        {"durability": "sync"},
        {"loop": "open", "target_per_s": 9.0},
    ]
    cells = [cell(1), *(cell(2, **more) for more in others), cell(3, workload="ycsb-a")]
    groups = read(write_run(tmp_path, cells)).groups
    assert [group.measured["ferrisdb"].rate.median for group in groups] == [1, 2, 2, 2, 3]


def test_an_engine_with_a_wrong_round_has_no_figure(tmp_path: Path) -> None:
    cells = [*rounds("ferrisdb", [1, 2]), *rounds("lmdb", [5, 6])]
    cells.append(cell(9, "lmdb", round=2, why="a value was another one"))
    cells.append(cell(9, "lmdb", round=3, why="a value was another one"))
    group = _only_group(write_run(tmp_path, cells))
    assert list(group.measured) == ["ferrisdb"]
    assert group.wrong == {"lmdb": ("a value was another one",)}
    assert group.ratio("ferrisdb", "lmdb") is None


def test_an_engine_that_was_not_asked_lacks_the_workload(tmp_path: Path) -> None:
    cells = [cell(5), cell(0, "redis", why="it keeps no order"), cell(0, "lmdb", errors=1, why="!")]
    group = _only_group(write_run(tmp_path, cells))
    assert group.lacking == {"redis": "it keeps no order"} and group.wrong == {"lmdb": ("!",)}
    assert group.engines == ("ferrisdb", "lmdb", "redis")


def test_nothing_done_has_no_ratio(tmp_path: Path) -> None:
    group = _only_group(write_run(tmp_path, [cell(5), cell(0, "lmdb")]))
    assert group.ratio("ferrisdb", "lmdb") is None
    assert group.ratio("lmdb", "ferrisdb") == Spread(0, 0, 0)


def test_latencies_are_those_of_rounds_that_have_any(tmp_path: Path) -> None:
    plain = cell(1, round=1, latency={"read": {"count": 0, "p50_us": 0.0}})
    cells = [with_latencies(tmp_path, cell(1), "read", "update"), plain]
    measured: Measured = _only_group(write_run(tmp_path, cells)).measured["ferrisdb"]
    assert measured.operations() == ["read", "update"]
    assert measured.latency("read", "p50_us") == Spread(1.499, 1.499, 1.499)
    assert measured.latency("read", "p75_us") is None
    assert measured.latency("scan", "p50_us") is None


def test_spreads_are_apart_only_if_they_share_nothing() -> None:
    assert Spread(5, 4, 6).apart(Spread(8, 7, 9))
    assert Spread(8, 7, 9).apart(Spread(5, 4, 6))
    assert not Spread(5, 4, 7).apart(Spread(8, 7, 9))
    assert not Spread(5, 1, 9).apart(Spread(5, 4, 6))


def test_engines_that_are_missing_are_known(tmp_path: Path) -> None:
    results = read(write_run(tmp_path, [cell(1, "redis")]))
    assert results.engines == ("ferrisdb", "lmdb", "plyvel", "redis")
    assert results.settings("plyvel") == (None, "pip install plyvel")
    assert results.settings("redis") == (None, None)


def test_a_file_of_any_name_is_read_and_a_torn_last_line_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [cell(1), cell(2, round=1)])
    text = (folder / FILE_NAME).read_text()
    (folder / "other.jsonl").write_text(text[:-9])
    (group,) = read(folder / "other.jsonl").groups
    assert group.measured["ferrisdb"].rate == Spread(1, 1, 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2"),
        ("[]", "no JSON object"),
        ('{"kind": "cake"}', "not a cell: 'cake'"),
        ('{"kind": "cell", "workload": "x"}', "not a whole cell"),
        (json.dumps(cell(1).to_json() | {"rate_per_s": "much"}), "'much' is no number"),
        (json.dumps(cell(1).to_json() | {"rate_per_s": float("nan")}), "nan is no number"),
        (json.dumps(cell(1).to_json() | {"latency": {"read": {"p50_us": None}}}), "None is no"),
        (json.dumps(cell(1).to_json() | {"latency": {"read": 1}}), "no object"),
        (json.dumps(cell(1).to_json() | {"latency": []}), "no object"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(MACHINE) + "\n" + line + "\n")
    with pytest.raises(ResultsError, match=r"results\.jsonl, line 2") as caught:
        read(tmp_path)
    assert reason in str(caught.value)


def test_no_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no results at"):
        read(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"\xff\n")
    with pytest.raises(ResultsError, match="utf-8"):
        read(tmp_path)
