"""Goal: one atomic operation gives what its description says, whatever the bytes.

Method: Hypothesis against a plain oracle (tests/support/atomic_ops.py), and a table of edges.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ferrisdb import errors
from ferrisdb.kernel.atomics import Atomic, AtomicFlag, evaluate
from tests.support.atomic_ops import AtomicOperation, Entry, Refused, outcome

NOW_US = 1_000_000
NUMBERS = st.one_of(
    st.integers(-(1 << 64), 1 << 64),
    st.sampled_from([0, 1, -1, (1 << 63) - 1, -(1 << 63), 1 << 63, 10**30, -(10**30)]),
).map(lambda n: b"%d" % n)
VALUES = st.one_of(st.binary(max_size=9), NUMBERS, st.sampled_from([b"00", b"-0", b"-", b"+1"]))
EXPIRIES = st.sampled_from([0, 1, NOW_US - 1, NOW_US, NOW_US + 1, NOW_US + 50, 1 << 59])
FLAGS = st.integers(0, 511).map(lambda n: AtomicFlag(n & ~6))
HELD = st.one_of(st.none(), st.tuples(VALUES, EXPIRIES))


def found(op: AtomicOperation, held: Entry) -> tuple[bool, Entry] | int:
    """Return what the kernel makes of it, as the oracle says it; a wire code if it refuses."""
    value, expires_us = held or (None, 0)
    if value is not None and expires_us and expires_us <= NOW_US:
        value, expires_us = None, 0
    try:
        done = evaluate(op.encode(), value, expires_us, NOW_US)
    except errors.Error as error:
        return error.wire_code
    if done is None:
        return False, None if value is None else (value, expires_us)
    return True, None if done[0] is None else (done[0], done[1])


def wanted(op: AtomicOperation, held: Entry) -> tuple[bool, Entry] | int:
    if held is not None and held[1] and held[1] <= NOW_US:
        held = None
    try:
        return outcome(op, held, NOW_US)
    except Refused as refused:
        return int(refused.args[0])


@given(
    operation=st.sampled_from(Atomic),
    held=HELD,
    operand=VALUES,
    expected=VALUES,
    flags=FLAGS,
    expires_us=EXPIRIES,
)
@example(Atomic.ATOMIC_ADD, (b"9223372036854775807", 0), b"0", b"", AtomicFlag(0), 0)
@example(Atomic.ATOMIC_ADD, (b"-9223372036854775808", 0), b"-1", b"", AtomicFlag(0), 0)
@example(Atomic.ATOMIC_ADD_WIDE, (b"-1000", 0), b"999", b"", AtomicFlag(0), 0)
@example(Atomic.ATOMIC_ADD_WIDE, (b"99999", 0), b"1", b"", AtomicFlag(0), 0)
@example(Atomic.ATOMIC_ADD_WIDE, (b"5", 0), b"-5", b"", AtomicFlag(0), 0)
def test_it_gives_what_the_oracle_gives(
    operation: Atomic,
    held: Entry,
    operand: bytes,
    expected: bytes,
    flags: AtomicFlag,
    expires_us: int,
) -> None:
    op = AtomicOperation(operation, b"key", operand, expected, flags, expires_us)
    assert found(op, held) == wanted(op, held)


@given(cut=st.integers(0, 60), noise=st.binary(min_size=48, max_size=60))
def test_bytes_that_are_no_operation_are_refused(cut: int, noise: bytes) -> None:
    whole = AtomicOperation(Atomic.ATOMIC_APPEND, b"key", b"operand").encode()
    for bytes_ in (whole[:cut], whole + b"x", noise):
        if bytes_ != whole:
            with pytest.raises(errors.ProtocolError):
                evaluate(bytes_, None, 0, 0)


def test_a_value_that_would_be_too_large_is_refused() -> None:
    half = bytes(9 << 20)
    op = AtomicOperation(Atomic.ATOMIC_APPEND, b"k", half)
    with pytest.raises(errors.ValueTooLargeError):
        evaluate(op.encode(), half, 0, 0)
