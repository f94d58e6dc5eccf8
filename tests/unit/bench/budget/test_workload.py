"""Keys and values: of one size, distinct, the same each time, and compressible as is said."""

from __future__ import annotations

import zlib

from ferrisdb.bench.budget.workload import keys_from, pairs_of, value_of, values


def test_parts_of_the_keys_are_those_of_the_whole() -> None:
    keys = keys_from(0, 1000)
    assert len(set(keys)) == 1000 and {len(key) for key in keys} == {16}
    assert keys_from(400, 100) == keys[400:500]
    assert keys != sorted(keys)


def test_pairs_have_the_values_of_their_numbers() -> None:
    keys = keys_from(5000, 3)
    assert pairs_of(5000, keys) == [(key, value_of(5000 + n)) for n, key in enumerate(keys)]


def test_values_compress_by_half_or_not_at_all() -> None:
    half, whole = b"".join(values()), b"".join(values(compressible=False))
    assert len(half) == len(whole) == 100 * len(values())
    assert 0.5 < len(zlib.compress(half)) / len(half) < 0.7
    assert len(zlib.compress(whole)) / len(whole) > 0.99
