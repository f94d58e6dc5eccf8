"""What the rewrite benchmark writes, and what it accepts as read. Method: small plans, whole."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ferrisdb.bench.rewriting import (
    KEY_BYTES,
    VALUE_BYTES,
    Mix,
    Plan,
    Written,
    keys_of,
    may_be_seen,
    state_of,
    value_of,
)


def test_keys_are_distinct_and_in_no_order() -> None:
    keys = keys_of(np.arange(10_000, dtype=np.uint64))
    assert len(set(keys)) == 10_000 and {len(key) for key in keys} == {KEY_BYTES}
    falls = sum(a > b for a, b in itertools.pairwise(keys))
    assert 4500 < falls < 5500


def test_a_value_tells_its_state_and_nothing_else_does() -> None:
    key = b"0123456789abcdef"
    value = value_of(key, 6)
    assert len(value) == VALUE_BYTES and state_of(key, value) == 6
    assert state_of(key, None) == 0
    for wrong in (value[:-1], value + b"x", b"x" + value[1:], b"", value_of(key[::-1], 6)):
        assert state_of(key, wrong) is None


@pytest.mark.parametrize(
    ("acked", "sent", "seen", "right"),
    [
        (0, 0, 0, True),
        (2, 2, 2, True),
        (2, 2, 0, False),
        (4, 4, 2, False),
        (2, 2, 4, False),
        (2, 4, 2, True),
        (2, 4, 4, True),
        (5, 5, 0, True),
        (5, 5, 2, False),
        (2, 5, 0, True),
        (5, 6, 6, True),
    ],
)
def test_a_read_shows_what_was_acknowledged_or_was_under_way(
    acked: int, sent: int, seen: int, right: bool
) -> None:
    assert may_be_seen(acked, sent, seen) is right


def test_a_plan_makes_its_parts_and_says_so(tmp_path: Path) -> None:
    written = Written(tmp_path, 20_000)
    expected: dict[bytes, int] = {}
    deletes = total = 0
    for numbers, keys, states in Plan(Mix(20_000), written).batches():
        for key, state in zip(keys, states, strict=True):
            assert state > expected.get(key, 0)
            expected[key] = state
            deletes += state & 1
            total += 1
        written.acked[numbers] = states
    assert total == 20_000
    assert 13_500 < len(expected) < 14_500 and 1700 < deletes < 2300
    live = sorted(key for key, state in expected.items() if not state & 1)
    assert keys_of(written.live()) == live
