"""Goal: a batch holds what the log will hold. Method: against the plain Python codec."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb import errors, limits
from ferrisdb.format.wal import Operation, OpKind, encode_operations
from ferrisdb.kernel.batch import BatchBuffer

BYTES = st.binary(max_size=50)


@given(
    prefix=st.binary(max_size=5),
    rows=st.lists(st.tuples(BYTES, st.one_of(st.none(), BYTES)), max_size=30),
)
def test_puts_and_deletes_are_encoded_in_their_order(
    prefix: bytes, rows: list[tuple[bytes, bytes | None]]
) -> None:
    batch = BatchBuffer(prefix)
    operations = []
    for key, value in rows:
        if value is None:
            batch.delete(key)
            operations.append(Operation(OpKind.DELETE, prefix + key))
        else:
            batch.put(key, value)
            operations.append(Operation(OpKind.PUT, prefix + key, value))
    assert batch.encoded() == encode_operations(tuple(operations))
    assert len(batch) == batch.count == len(rows)
    assert batch.encoded_bytes == len(batch.encoded())
    batch.clear()
    assert (batch.encoded(), len(batch)) == (b"", 0)


@pytest.mark.parametrize("expires_us", [1, 4102444800123457, (1 << 63) - 1])
def test_an_expiry_in_microseconds_is_kept_exactly(expires_us: int) -> None:
    batch = BatchBuffer(b"\0")
    batch.put_until(b"k", b"v", expires_us)
    batch.put_until(b"l", b"w", 0)
    assert batch.encoded() == encode_operations(
        (
            Operation(OpKind.PUT_EXPIRING, b"\0k", b"v", expires_us),
            Operation(OpKind.PUT, b"\0l", b"w"),
        )
    )


def test_a_moment_that_is_none_is_refused() -> None:
    batch = BatchBuffer(b"\0")
    with pytest.raises(errors.UsageError):
        batch.put_until(b"k", b"v", 1 << 63)
    with pytest.raises(OverflowError):
        batch.put_until(b"k", b"v", -1)
    with pytest.raises(errors.WrongTypeError):
        batch.put_until("k", b"v", 0)  # type: ignore[arg-type]
    assert len(batch) == 0


@pytest.mark.parametrize(
    ("start", "end", "stored"),
    [
        (b"a", b"c", (b"\x00a", b"\x00c")),
        (None, b"c", (b"\x00", b"\x00c")),
        (b"a", None, (b"\x00a", b"\x01")),
        (None, None, (b"\x00", b"\x01")),
        (b"c", b"a", None),
        (b"a", b"a", None),
        (None, b"", None),
    ],
)
def test_a_range_stays_within_its_key_space(
    start: bytes | None, end: bytes | None, stored: tuple[bytes, bytes] | None
) -> None:
    batch = BatchBuffer(b"\x00")
    batch.delete_range(start, end)
    expected = () if stored is None else (Operation(OpKind.RANGE_DELETE, *stored),)
    assert batch.encoded() == encode_operations(expected)


@pytest.mark.parametrize(("ttl", "us"), [(1, 1_000_000), (0.5, 500_000), (1e-9, 1), (1e10, 10**16)])
def test_a_time_to_live_is_kept_in_microseconds(ttl: float, us: int) -> None:
    batch = BatchBuffer(b"")
    batch.put(b"k", b"v", ttl)
    assert struct.unpack_from("<IIQ", batch.encoded()) == (1 | 0x44 << 24, 1, us)


@pytest.mark.parametrize("ttl", [0, -1, 1e11, float("nan"), float("inf"), "1", b"1"])
def test_a_time_to_live_that_is_none_adds_nothing(ttl: Any) -> None:
    batch = BatchBuffer(b"")
    with pytest.raises(errors.UsageError):
        batch.put(b"k", b"v", ttl)
    assert len(batch) == 0


def test_what_is_too_large_or_of_another_type_adds_nothing() -> None:
    batch: Any = BatchBuffer(b"\x00")
    long_key = bytes(limits.KEY_BYTES_MAX + 1)
    refused: list[tuple[type[errors.Error], Callable[[], None]]] = [
        (errors.KeyTooLargeError, lambda: batch.put(long_key, b"")),
        (errors.KeyTooLargeError, lambda: batch.delete(long_key)),
        (errors.KeyTooLargeError, lambda: batch.delete_range(b"", long_key)),
        (errors.ValueTooLargeError, lambda: batch.put(b"", bytes(limits.VALUE_BYTES_MAX + 1))),
        (errors.WrongTypeError, lambda: batch.put("k", b"")),
        (errors.WrongTypeError, lambda: batch.put(b"k", memoryview(b""))),
        (errors.WrongTypeError, lambda: batch.delete(None)),
        (errors.WrongTypeError, lambda: batch.delete_range(1, None)),
    ]
    for kind, call in refused:
        with pytest.raises(kind):
            call()
    assert (len(batch), batch.encoded()) == (0, b"")


def test_pairs_are_taken_until_the_limit_is_passed() -> None:
    batch = BatchBuffer(b"")
    rows = iter([(b"%03d" % i, bytes(1000)) for i in range(100)])
    counts = []
    while not batch.put_pairs(rows, 20_000):
        counts.append(len(batch))
        batch.clear()
    counts.append(len(batch))
    assert sum(counts) == 100
    assert len(set(counts[:-1])) == 1
    with pytest.raises(errors.WrongTypeError):
        batch.put_pairs([(b"a", "b")], 1000)  # type: ignore[list-item]
