"""Goal: no hot operation has become dearer unnoticed. Method: instructions, beside the record.

A count takes half a minute under valgrind, and does not depend on what else the machine does:
bench/instructions.py says why.
"""

from __future__ import annotations

import pytest

from ferrisdb.bench import instructions


@pytest.mark.slow
def test_hot_operations_take_as_many_instructions_as_recorded() -> None:
    why = instructions.missing()
    if why:
        pytest.skip(why)
    made_by, recorded = instructions.load()
    wrong = instructions.compare(recorded, instructions.count(), instructions.tolerance(made_by))
    assert not (lines := list(wrong)), "\n".join(lines)
