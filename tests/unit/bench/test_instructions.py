"""Goal: the gate lets noise pass and nothing else. Method: the real record, changed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ferrisdb.bench import callgrind, instructions
from ferrisdb.bench.instructions import FOREIGN_TOLERANCE, TOLERANCE, Cost, Costs, compare, load

SAMPLE = """\
# callgrind format
version: 1
positions: line
events: Ir
summary: 131

ob=(1) /tree/ferrisdb/kernel/client.so
fl=(1) client.c
fn=(1) get
12 30
+3 5
cob=(2) /lib/libc.so.6
cfi=(2) string.c
cfn=(2) memcpy
calls=4 +80
* 80
+1 6

ob=(2)
fn=(2)
7 80
fn=(3) memcmp
-2 9
* 1
totals: 131
"""


@pytest.fixture
def recorded() -> Costs:
    return load()[1]


def scaled(cost: Cost, factor: float) -> Cost:
    return replace(cost, instructions=cost.instructions * factor)


def test_what_is_recorded_passes(recorded: Costs) -> None:
    assert recorded
    assert not list(compare(recorded, recorded, TOLERANCE))


@pytest.mark.parametrize("factor", [1 - 0.9 * TOLERANCE, 1 + 0.9 * TOLERANCE])
def test_less_than_the_tolerance_passes(recorded: Costs, factor: float) -> None:
    now = {name: scaled(cost, factor) for name, cost in recorded.items()}
    assert not list(compare(recorded, now, TOLERANCE))


@pytest.mark.parametrize("factor", [0.9, 1 / 0.9])
def test_every_operation_that_is_a_tenth_off_fails_and_is_named(
    recorded: Costs, factor: float
) -> None:
    before = {name: scaled(cost, factor) for name, cost in recorded.items()}
    lines = list(compare(before, recorded, TOLERANCE))
    assert {line.partition(": ")[0] for line in lines} == set(recorded)
    for line in lines:
        assert "--record" in line, "it says what to do"
    assert not list(compare(before, recorded, FOREIGN_TOLERANCE))


def test_a_failure_names_what_has_grown() -> None:
    before = Cost(100.0, {"client": 60.0, "table": 40.0}, 500.0)
    now = Cost(140.0, {"client": 60.0, "table": 75.0, "run": 5.0}, 540.0)
    (line,) = compare({"get": before}, {"get": now}, TOLERANCE)
    assert "100.0 instructions before, 140.0 now (+40.0%, allowed 3%; table +35, run +5)" in line


def test_an_operation_too_many_or_too_few_fails(recorded: Costs) -> None:
    now = dict(recorded)
    now["another"] = now.pop("put")
    lines = sorted(compare(recorded, now, FOREIGN_TOLERANCE))
    assert [line.partition(";")[0] for line in lines] == [
        "another: is not recorded",
        "put: is not measured any more",
    ]


def test_a_record_is_read_as_it_was_saved(recorded: Costs, tmp_path: Path) -> None:
    instructions.save(recorded, tmp_path / "record.json")
    made_by, costs = load(tmp_path / "record.json")
    assert costs == recorded
    assert instructions.tolerance(made_by) == TOLERANCE
    assert "unknown" not in made_by.values()
    assert instructions.tolerance(made_by | {"compiler": "gcc 1"}) == FOREIGN_TOLERANCE


def test_instructions_count_where_they_are_spent(tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out.1"
    path.write_text(SAMPLE)
    assert callgrind.by_object(path) == {
        "/tree/ferrisdb/kernel/client.so": 41,
        "/lib/libc.so.6": 90,
    }


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out.1"
    path.write_text(SAMPLE.replace("-2 9\n", ""))
    with pytest.raises(callgrind.CallgrindError, match="adds up to 122 and says 131"):
        callgrind.by_object(path)
