"""Goal: replies are Redis's, byte for byte.

Method: the same random requests, right and wrong ones, go to a real redis-server and to our
service; tests/support/differential.py lists where they may differ, and why. scripts/soak has the
long form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.differential import Pair, compare, pair_serving
from tests.support.soak import seed_of_run

REQUESTS = 30_000


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pair_serving(tmp_path) as servers:
        yield servers


def test_replies_are_those_of_redis(pair: Pair) -> None:
    compare(pair, seed_of_run(), REQUESTS, print)
