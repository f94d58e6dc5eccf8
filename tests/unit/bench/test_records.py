"""A value proves that it was written for its key. Method: values, and values that are damaged."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from ferrisdb.bench.records import HEAD_BYTES, Records, digits_of, keys_of

KEYS = keys_of(np.arange(200, dtype=np.uint64))


@pytest.mark.parametrize("value_bytes", [32, 100, 1000])
def test_a_value_tells_its_version(value_bytes: int) -> None:
    records = Records(value_bytes)
    for version, key in enumerate(KEYS):
        value = records.value(key, version << 20)
        assert len(value) == value_bytes
        assert records.version(key, value) == version << 20


def test_no_other_value_is_taken_for_one() -> None:
    records, key = Records(100), KEYS[0]
    value = records.value(key, 7)
    for at in range(len(value)):
        damaged = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        assert records.version(key, damaged) is None
    for wrong in (b"", value[:-1], value + b"x", value[:HEAD_BYTES], records.value(KEYS[1], 7)):
        assert records.version(key, wrong) is None


def test_values_compress_to_about_half() -> None:
    records = Records(1000)
    values = b"".join(records.value(key, 0) for key in KEYS[:20])
    assert 0.4 < len(zlib.compress(values[: 1 << 15])) / min(len(values), 1 << 15) < 0.65


def test_sequential_keys_are_in_order_and_others_are_not() -> None:
    numbers = np.arange(1000, dtype=np.uint64)
    keys = digits_of(numbers)
    assert keys == sorted(keys) and len(set(keys)) == 1000
    assert keys_of(numbers) != sorted(keys_of(numbers))


@pytest.mark.parametrize("value_bytes", [0, 31, (1 << 20) + 1])
def test_a_length_without_room_for_the_proof_is_refused(value_bytes: int) -> None:
    with pytest.raises(ValueError, match="32 to"):
        Records(value_bytes)
