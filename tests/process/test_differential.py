"""Goal: replies are Redis's, byte for byte.

Method: the same random requests, right and wrong ones, go to a real redis-server and to our
service; tests/support/differential_rules.py lists where they may differ, and why. scripts/soak has
the long form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.differential import Pair, compare, pair_serving, pair_with_passwords
from tests.support.differential_grammar import BEFORE_AUTHENTICATION
from tests.support.resp_wire import encode
from tests.support.soak import seed_of_run

REQUESTS = 20_000
ANSWER_S = 10.0
"""A wrong password is hashed slowly, on purpose."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pair_serving(tmp_path) as servers:
        yield servers


def test_replies_are_those_of_redis(pair: Pair) -> None:
    compare(pair, seed_of_run(), REQUESTS, print)


def test_replies_before_authentication_are_those_of_redis(tmp_path: Path) -> None:
    with pair_with_passwords(tmp_path) as pair:
        tcp = pair.sides[0].address
        last = encode("AUTH", tcp.user, tcp.password)
        for requests in BEFORE_AUTHENTICATION:
            data = b"".join(encode(*words) for words in requests)
            found = pair.compare_raw(data + last, ANSWER_S)
            assert found is None, str(found)
