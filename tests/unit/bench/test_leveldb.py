"""When LevelDB has nothing left to compact, by what it says of itself."""

from __future__ import annotations

import pytest

from ferrisdb.bench.engines.leveldb import owes

HEAD = """                               Compactions
Level  Files Size(MB) Time(sec) Read(MB) Write(MB)
--------------------------------------------------
"""


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("", False),
        ("  0        3        9         0        0         2\n", False),
        ("  0        4        1         0        0         2\n", True),
        ("  1        5       10         0        5         5\n", False),
        ("  1        5       11         0        5         5\n", True),
        ("  2       50      100         0        5         5\n", False),
        ("  0        1        1         0        0         2\n"
         "  2       51      101         0        5         5\n", True),
    ],
)  # fmt: skip
def test_a_level_over_its_target_is_debt(levels: str, expected: bool) -> None:
    assert owes(HEAD + levels) is expected
