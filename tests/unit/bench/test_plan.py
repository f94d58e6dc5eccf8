"""The plan fits its time, shares loads, and interleaves engines. Method: plans alone."""

from __future__ import annotations

import pytest

from ferrisdb.bench import plan as plans
from ferrisdb.bench.engines import ENGINES, DiskCache, Ferris, Lmdb, Null, Redis, engine_named
from ferrisdb.bench.measure import chosen_engines, planned
from ferrisdb.bench.scale import QUICK, Scale
from ferrisdb.bench.workloads import Base, adapt, choose, workloads

STORES = [kind for kind in ENGINES.values() if kind is not Null]


def test_the_whole_run_takes_less_than_twenty_minutes() -> None:
    plan = plans.make(Scale(), choose(Scale(), []), STORES)
    assert 10 * 60 < plan.estimate_s < 19 * 60
    assert {cell.engine for cell in plan.cells} == set(STORES)
    assert all(cell.workload.length >= 1 for cell in plan.cells)


def test_the_quick_run_takes_less_than_two_minutes() -> None:
    plan = plans.make(QUICK, choose(QUICK, []), STORES)
    assert plan.estimate_s < 110
    assert {cell.engine for cell in plan.cells} == set(STORES)
    assert QUICK.keys <= 100_000 and QUICK.seconds >= 0.5


def test_engines_take_turns() -> None:
    plan = plans.make(Scale(rounds=3), choose(Scale(), ["seekrandom"]), [Ferris, Lmdb])
    turns = [(cell.round, cell.engine) for cell in plan.cells]
    assert turns == [(turn, kind) for turn in range(3) for kind in (Ferris, Lmdb)]


def test_an_engine_is_loaded_once_and_only_for_what_it_can_do() -> None:
    plan = plans.make(Scale(), choose(Scale(), ["seekrandom", "readseq", "ycsb-e"]), STORES)
    assert [stage.base for stage in plan.stages] == [Base.ROWS, Base.RECORDS]
    for stage in plan.stages:
        assert Redis not in stage.engines and DiskCache not in stage.engines
        # That they can't is shown nevertheless.
        assert {cell.lacks for cell in stage.cells if cell.engine is Redis} == {
            "Redis keeps no order of keys"
        }


def test_what_destroys_rows_comes_last() -> None:
    rows = [workload.name for workload in workloads(Scale()) if workload.base is Base.ROWS]
    assert rows[-1] == "deleterandom"


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["ycsb-a"], {"ycsb-a"}),
        (["ycsb"], {f"ycsb-{letter}" for letter in "abcdef"}),
        (["fill*"], {"fillseq", "fillrandom", "fillsync"}),
        (
            ["transactions", "soak"],
            {"transactions-1", "transactions-100", "transactions-10000", "soak"},
        ),
    ],
)
def test_workloads_are_chosen_by_name_group_or_pattern(
    patterns: list[str], names: set[str]
) -> None:
    assert {workload.name for workload in choose(Scale(), patterns)} == names


def test_db_bench_s_set_is_whole() -> None:
    assert len(choose(Scale(), ["db_bench"])) == 11


def test_clients_durability_rate_and_distribution_can_be_chosen() -> None:
    scale = Scale(
        clients=(1, 3), durabilities=("os", "sync"), rate_per_s=50.0, distribution="uniform"
    )
    by_name = {workload.name: adapt(workload, scale) for workload in workloads(scale)}
    both = by_name["overwrite"]
    assert [each.durability for each in both] == ["os", "sync"]
    assert both[0].clients == (1, 3) and both[0].rate_per_s == 50.0
    # What only reads, or makes sense with one durability alone, keeps it.
    assert [each.durability for each in by_name["readrandom"]] == ["os"]
    assert [each.durability for each in by_name["fillsync"]] == ["sync"]
    # Somebody has to read while one writes.
    assert by_name["readwhilewriting"][0].clients == (2, 3)
    assert by_name["ycsb-b"][0].role.choice == "uniform"


def test_engines_keep_their_order_and_may_be_somebody_else_s() -> None:
    other = "tests.support.bench_engines:Forgetful"
    names = [kind.name for kind in chosen_engines([other, "lmdb", "ferrisdb"])]
    assert names == ["ferrisdb", "lmdb", "forgetful"]
    assert [kind.name for kind in chosen_engines([])] == [kind.name for kind in STORES]
    assert engine_named(Lmdb.reference()) is Lmdb


@pytest.mark.parametrize(
    ("workload_names", "engine_names", "message"),
    [
        (["ycsb-z"], [], "no workload 'ycsb-z'; there are"),
        ([], ["leveldb"], "no engine 'leveldb'; there are"),
        ([], ["tests.support.bench_engines:Nobody"], "no engine"),
        ([], ["pathlib:Path"], "not a class derived"),
    ],
)
def test_a_wrong_name_is_told(
    workload_names: list[str], engine_names: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        planned(False, {}, workload_names, engine_names)


def test_a_plan_without_some_engines_has_none_of_their_cells() -> None:
    plan = plans.make(Scale(), choose(Scale(), ["readrandom"]), [Ferris, Lmdb])
    left = plan.without([Lmdb])
    assert {cell.engine for cell in left.cells} == {Ferris}
    assert left.estimate_s < plan.estimate_s
    assert list(plan.without([Lmdb, Ferris]).cells) == []


def test_a_plan_is_told_in_lines() -> None:
    lines = list(planned(True, {"seed": 7}, ["ycsb-a"], ["lmdb"]).lines())
    assert "seed 7" in lines[0] and lines[-1].startswith("about ")
    assert any("4000/s" in line for line in lines) and any("closed" in line for line in lines)
