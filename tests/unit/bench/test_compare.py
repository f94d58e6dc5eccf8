"""Goal: a gate fails for what became slower, and not for noise. Method: runs of known figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ferrisdb.bench import results
from ferrisdb.bench.cells import Cell
from ferrisdb.bench.compare import Comparison, compare, judged, lines
from ferrisdb.bench.report_commands import compare as command
from ferrisdb.bench.results import ResultsError, Spread
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode
from tests.support.bench_runs import cell, rounds, with_latencies, write_run

Runs = tuple[Path, Path]


def _runs(folder: Path, before: Iterable[Cell], after: Iterable[Cell]) -> Runs:
    return write_run(folder / "a", before), write_run(folder / "b", after)


def _compare(runs: Runs, *engines: str, against: str | None = None) -> Comparison:
    return compare(results.read(runs[0]), results.read(runs[1]), engines, against)


@pytest.mark.parametrize(
    ("before", "after", "beyond", "fails"),
    [
        ([100, 102, 104], [80, 82, 84], True, True),
        ([100, 102, 104], [99, 90, 80], True, True),
        ([100, 102, 104], [100, 80, 70], False, False),
        ([100, 102, 104], [96, 97, 98], True, False),
        ([100, 102, 104], [130, 140, 150], True, False),
        ([100], [80], False, True),
        ([100], [95], False, False),
        ([100, 102], [80], False, True),
    ],
)
def test_a_change_counts_beyond_the_spread(
    tmp_path: Path, before: list[float], after: list[float], beyond: bool, fails: bool
) -> None:
    runs = _runs(tmp_path, rounds("ferrisdb", before), rounds("ferrisdb", after))
    comparison = _compare(runs)
    (change,) = comparison.changes
    assert change.is_beyond_spread is beyond
    assert bool(judged(comparison, 0.9)) is fails
    (_, line) = lines(comparison)
    assert ("SLOWER" in line) is (beyond and after < before)
    assert ("faster" in line) is (beyond and after > before)


def test_ratio_has_the_widest_spread_that_the_rounds_allow(tmp_path: Path) -> None:
    runs = _runs(tmp_path, rounds("ferrisdb", [100, 200, 400]), rounds("ferrisdb", [50, 100, 200]))
    (change,) = _compare(runs).changes
    assert change.ratio == Spread(0.5, 0.125, 2.0)


def test_a_peer_is_shown_and_not_judged_unless_it_is_named(tmp_path: Path) -> None:
    before = [*rounds("ferrisdb", [10, 10]), *rounds("lmdb", [10, 10])]
    after = [*rounds("ferrisdb", [10, 10]), *rounds("lmdb", [5, 5])]
    runs = _runs(tmp_path, before, after)
    assert not judged(_compare(runs), 0.9)
    assert [change.engine for change in judged(_compare(runs, "lmdb"), 0.9, ["lmdb"])] == ["lmdb"]
    assert any("SLOWER" in line for line in lines(_compare(runs)))


def test_against_a_peer_the_drift_of_the_machine_cancels(tmp_path: Path) -> None:
    before = [*rounds("ferrisdb", [100, 110]), *rounds("lmdb", [50, 55])]
    after = [*rounds("ferrisdb", [50, 60]), *rounds("lmdb", [25, 30])]
    runs = _runs(tmp_path, before, after)
    assert judged(_compare(runs), 0.9)
    comparison = _compare(runs, against="lmdb")
    assert [change.engine for change in comparison.changes] == ["ferrisdb"]
    assert comparison.changes[0].ratio == Spread(1.0, 1.0, 1.0)
    assert not judged(comparison, 0.9)
    assert "2.00 × -> 2.00 ×" in "".join(lines(comparison)).replace("  ", "")


def test_what_went_wrong_fails_and_what_is_missing_is_named(tmp_path: Path) -> None:
    before = [*rounds("ferrisdb", [1, 1]), cell(1, workload="old"), cell(1, "lmdb")]
    after = [cell(1, why="a value was another one"), cell(1, workload="new")]
    comparison = _compare(_runs(tmp_path, before, after))
    assert [change.why for change in judged(comparison, 0.1)] == ["a value was another one"]
    text = "\n".join(lines(comparison))
    assert "WRONG: a value was another one" in text
    assert 'only in the first run: old (2 clients, "os", closed loop), ferrisdb' in text
    assert 'only in the first run: readrandom (2 clients, "os", closed loop), lmdb' in text
    assert 'only in the second run: new (2 clients, "os", closed loop), ferrisdb' in text


def test_latencies_stand_beside_the_rates(tmp_path: Path) -> None:
    cells = [
        [with_latencies(tmp_path / run, cell(1), *kinds)]
        for run, kinds in (("a", ["read"]), ("b", ["other", "read"]))
    ]
    text = "\n".join(lines(_compare(_runs(tmp_path, *cells))))
    assert "p99 1.99 µs -> 3.98 µs" in text


def test_runs_without_anything_in_common_are_refused(tmp_path: Path) -> None:
    runs = _runs(tmp_path, [cell(1)], [cell(1, workload="other")])
    with pytest.raises(ResultsError, match="no cells in common"):
        _compare(runs)
    runs = _runs(tmp_path, [cell(1)], [cell(1)])
    with pytest.raises(ResultsError, match="no cells of redis beside lmdb in common"):
        _compare(runs, "redis", against="lmdb")


def test_command_ends_with_the_documented_codes(tmp_path: Path) -> None:
    a, b = map(str, _runs(tmp_path, rounds("ferrisdb", [9, 9]), rounds("ferrisdb", [3, 3])))
    runner = CliRunner()

    def code(*words: str) -> tuple[int, str]:
        done = runner.invoke(command, words, standalone_mode=False)
        if isinstance(done.exception, CommandFailure):
            return done.exception.code, str(done.exception)
        return int(done.return_value or 0), done.output

    assert code(a, b)[0] == ExitCode.OK
    failed, said = code(a, b, "--fail-below", "0.9")
    assert failed == 1 and "below 0.9: readrandom" in said
    assert code(b, a, "--fail-below", "0.9")[0] == ExitCode.OK
    assert code(a, b, "--fail-below", "0.9", "--engine", "lmdb")[0] == ExitCode.BAD_INPUT
    missing, said = code(a, str(tmp_path / "none"))
    assert missing == ExitCode.NO_INPUT and "run `ferrisdb bench --out DIR`" in said
