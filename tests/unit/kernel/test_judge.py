"""Goal: a request commits exactly if what it read still holds; atomic operations see all before.

Method: requests with checks and atomic operations through a real loop (commit_rig.py), spread
over groups and memtables by Hypothesis, against a plain dict that takes one after the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrisdb import errors
from ferrisdb.format.wal import Operation, OpKind, encode_operations
from ferrisdb.kernel import layout as c
from ferrisdb.kernel.atomics import Atomic, AtomicFlag
from tests.support.atomic_ops import AtomicOperation, Entry, Refused, outcome
from tests.support.commit_rig import GENERATION, Client, Rig

CONFLICT = errors.ConflictError.wire_code
HISTORY = errors.HistoryGoneError.wire_code
DROPPED = errors.KeyspaceDroppedError.wire_code
PROTOCOL = errors.ProtocolError.wire_code
ABSENT = (None,)


def put(key: bytes, value: bytes = b"v") -> Operation:
    return Operation(OpKind.PUT, key, value)


def key_check(key: bytes) -> bytes:
    return struct.pack("<I", len(key)) + key


def range_check(start: bytes, end: bytes) -> bytes:
    return struct.pack("<II", len(start) | c.CHECK_RANGE << 24, len(end)) + start + end


def status(client: Client, number: int) -> int:
    answer = client.answer(number)
    assert answer is not None
    return answer.status


def push_atomic(
    client: Client, *ops: AtomicOperation | Operation, checks: bytes = b"", **header: int
) -> int:
    encoded = b"".join(
        op.encode() if isinstance(op, AtomicOperation) else encode_operations((op,)) for op in ops
    )
    header = {"generation": GENERATION, "kind": c.REQUEST_ATOMIC} | header
    return client.push_encoded(encoded, len(ops), checks=checks, **header)


def add(key: bytes, delta: int, hint: tuple[Entry] | None = ABSENT) -> AtomicOperation:
    return AtomicOperation(Atomic.ATOMIC_ADD, key, b"%d" % delta, hint=hint)


# Ranges


@pytest.mark.parametrize(
    ("start", "end", "conflicts"),
    [
        (b"a", b"c", True),
        (b"b", b"b\0", True),
        (b"b", b"", True),
        (b"", b"", True),
        (b"a", b"b", False),
        (b"b\0", b"z", False),
        (b"c", b"", False),
    ],
)
@pytest.mark.parametrize("where", ["same group", "memtable", "frozen", "deleted", "range"])
def test_only_a_write_inside_the_range_conflicts(
    start: bytes, end: bytes, conflicts: bool, where: str
) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"0"))
    rig.settle()
    write = {
        "deleted": Operation(OpKind.DELETE, b"b"),
        "range": Operation(OpKind.RANGE_DELETE, b"b", b"b\0"),
    }.get(where, put(b"b"))
    client.push(write)
    if where != "same group":
        rig.settle()
    if where == "frozen":
        rig.rotate()
    checks = key_check(b"x") + range_check(start, end)
    number = client.push(put(b"y"), checks=checks, snapshot_seq=1, generation=GENERATION)
    rig.settle()
    answer = client.answer(number)
    assert answer is not None
    assert answer.status == (CONFLICT if conflicts else 0)
    if conflicts:
        # The second check is the one that failed.
        assert answer.seq == 1


@pytest.mark.parametrize(
    "checks",
    [
        struct.pack("<I", 5) + b"abc",
        struct.pack("<II", 1 | c.CHECK_RANGE << 24, 9) + b"ab",
        struct.pack("<I", 1 | 7 << 24) + b"a",
        struct.pack("<I", 1 | c.CHECK_RANGE << 24),
        b"abc",
        struct.pack("<II", 0xFFFFFF | c.CHECK_RANGE << 24, 0xFFFFFFFF),
    ],
)
def test_malformed_checks_fault_their_client(checks: bytes) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"k"), checks=checks)
    rig.settle()
    assert client.error == PROTOCOL


# Atomic operations


def test_additions_of_one_group_add_up() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(4)]
    numbers = [(client, push_atomic(client, add(b"n", 3))) for client in clients for _ in range(5)]
    rig.settle()
    assert rig.loop.groups == 1
    assert sorted(client.reply(number)[2] for client, number in numbers) == list(range(3, 61, 3))
    assert rig.contents() == {b"n": b"60"}


def test_a_hint_stands_for_what_lies_in_no_memtable() -> None:
    rig = Rig()
    client = rig.client()
    number = push_atomic(client, add(b"n", 1, hint=((b"41", 0),)))
    rig.settle()
    assert client.reply(number) == (1, 0, 42)
    # From here on the memtable knows better.
    number = push_atomic(client, add(b"n", 1, hint=((b"41", 0),)))
    rig.settle()
    assert client.reply(number) == (1, 0, 43)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("delete", [OpKind.DELETE, OpKind.RANGE_DELETE])
def test_a_delete_in_any_memtable_hides_older_versions_and_the_hint(
    rotate: bool, delete: OpKind
) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"n", b"7"))
    rig.settle()
    if rotate:
        rig.rotate()
    client.push(Operation(delete, b"n", b"o" if delete is OpKind.RANGE_DELETE else b""))
    number = push_atomic(client, add(b"n", 1, hint=((b"7", 0),)))
    rig.settle()
    assert client.reply(number) == (1, 0, 1)


def test_without_a_usable_hint_the_client_is_told_to_read() -> None:
    rig = Rig()
    client = rig.client()
    without = push_atomic(client, add(b"n", 1, hint=None))
    client.push(put(b"x"))
    rig.settle()
    rig.rotate()
    rig.loop.set_history([])
    stale = push_atomic(client, add(b"n", 1, hint=((b"41", 0),)), snapshot_seq=0)
    other = push_atomic(client, add(b"n", 1), generation=GENERATION + 1)
    rig.settle()
    assert [status(client, without), status(client, stale)] == [HISTORY, HISTORY]
    assert status(client, other) == errors.SnapshotTooOldError.wire_code
    assert rig.contents() == {}


def test_a_batch_sees_its_own_operations_in_order_and_fails_as_one() -> None:
    rig = Rig()
    client = rig.client()
    good = push_atomic(
        client,
        put(b"n", b"5"),
        add(b"n", 1),
        Operation(OpKind.RANGE_DELETE, b"n", b"o"),
        add(b"n", 10),
        put(b"m", b"x"),
    )
    bad = push_atomic(client, put(b"p"), add(b"n", 1), add(b"m", 1))
    after = push_atomic(client, add(b"n", 1), add(b"p", 1))
    rig.settle()
    assert client.reply(good) == (2, 0, 10)
    assert status(client, bad) == errors.NotAnIntegerError.wire_code
    assert client.reply(after) == (2, 0, 1)
    assert rig.contents() == {b"n": b"11", b"m": b"x", b"p": b"1"}


def test_what_writes_nothing_is_answered_and_not_logged() -> None:
    rig = Rig()
    client = rig.client()
    number = push_atomic(
        client, AtomicOperation(Atomic.ATOMIC_REMOVE, b"none", hint=ABSENT), add(b"n", 1)
    )
    nothing = push_atomic(client, AtomicOperation(Atomic.ATOMIC_REMOVE, b"none", hint=ABSENT))
    rig.settle()
    assert client.reply(number) == (1, 0, 1)
    assert client.reply(nothing)[0] == 0
    assert rig.loop.visible_seq == 1
    assert b"".join(group for _, group in rig.log).count(b"none") == 0


def test_results_that_outgrow_the_memtable_wait_for_the_next_one() -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"k", bytes(40_000)))
    rig.settle()
    for _ in range(6):
        number = push_atomic(client, AtomicOperation(Atomic.ATOMIC_APPEND, b"k", b"x"))
        rig.settle()
        assert status(client, number) in (0, HISTORY)
    assert client.error == 0


def test_more_keys_than_the_overlay_takes_are_judged_a_group_later() -> None:
    rig = Rig(memtable_bytes=1 << 24)
    struct.pack_into("<Q", rig.control, c.CONTROL_BATCH_BYTES_MAX, 1 << 23)
    client = rig.client()
    keys = [b"%05d" % i for i in range(9_000)]
    for at in range(0, len(keys), 3000):
        client.push(*(put(key) for key in keys[at : at + 3000]))
    for start in range(70):
        client.push(Operation(OpKind.RANGE_DELETE, b"r%03d" % start, b"r%03d" % (start + 1)))
    fine = client.push(put(b"y"), checks=key_check(b"none"))
    late = client.push(put(b"y"), checks=key_check(b"r069x"))
    rig.settle()
    assert [status(client, fine), status(client, late)] == [0, CONFLICT]


# Key spaces


def test_writes_into_a_key_space_that_is_not_there_are_refused() -> None:
    rig = Rig()
    rig.loop.set_keyspaces([2, 70_000])
    client = rig.client()
    answers = {}
    for number in (0, 1, 2, 3, 69_999, 70_000, 1 << 31):
        space = b"\x01" + number.to_bytes(4, "big")
        answers[number] = client.push(put(space + b"k"))
        push_atomic(client, add(space + b"n", 1))
        rig.settle()
    found = {number: status(client, at) for number, at in answers.items()}
    assert {n for n, code in found.items() if code == 0} == {2, 70_000}
    assert set(found.values()) == {0, DROPPED}
    assert len(rig.contents()) == 4


def test_a_change_of_the_catalogue_ends_its_group_and_is_shown() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    space = (7).to_bytes(4, "big")
    client.push(put(b"\x02i" + space, b"name"))
    inside = other.push(put(b"\x01" + space + b"k"))
    rig.settle()
    assert status(other, inside) == 0
    word = struct.unpack_from("<Q", rig.control, c.CONTROL_KEYSPACES)[0]
    assert word == 1
    drop = Operation(OpKind.RANGE_DELETE, b"\x01" + space, b"\x01" + (8).to_bytes(4, "big"))
    client.push(Operation(OpKind.DELETE, b"\x02i" + space), drop)
    behind = other.push(put(b"\x01" + space + b"k"))
    rig.settle()
    assert status(other, behind) == DROPPED
    assert struct.unpack_from("<Q", rig.control, c.CONTROL_KEYSPACES)[0] == 2


# Everything together


@dataclass(frozen=True)
class Step:
    """A request: its operations, the keys and ranges that it checks, of how many moments ago."""

    ops: tuple[AtomicOperation | Operation, ...]
    checked: tuple[tuple[bytes, bytes | None], ...]
    age: int


KEYS = [b"a", b"b", b"b\0", b"c", b"d"]
TARGETS = st.sampled_from(KEYS)
ATOMICS = st.builds(
    AtomicOperation,
    st.sampled_from(
        [
            Atomic.ATOMIC_ADD,
            Atomic.ATOMIC_APPEND,
            Atomic.ATOMIC_SET,
            Atomic.ATOMIC_REMOVE,
            Atomic.ATOMIC_MAXIMUM,
        ]
    ),
    TARGETS,
    st.sampled_from([b"1", b"-2", b"77"]),
    flags=st.sampled_from([AtomicFlag(0), AtomicFlag.ATOMIC_IF_ABSENT]),
)
PLAIN = st.one_of(
    st.builds(put, TARGETS, st.sampled_from([b"3", b"text"])),
    st.builds(lambda key: Operation(OpKind.DELETE, key), TARGETS),
    st.builds(
        lambda a, b: Operation(OpKind.RANGE_DELETE, min(a, b), max(a, b) + b"!"), TARGETS, TARGETS
    ),
)
CHECKS = st.one_of(
    st.tuples(TARGETS, st.none()),
    st.tuples(TARGETS, TARGETS).filter(lambda pair: pair[0] < pair[1]),
)
STEPS = st.lists(
    st.one_of(
        st.builds(
            Step,
            st.lists(st.one_of(ATOMICS, PLAIN), min_size=1, max_size=4).map(tuple),
            st.lists(CHECKS, max_size=2).map(tuple),
            st.integers(0, 4),
        ),
        st.sampled_from(["group", "rotate"]),
    ),
    max_size=24,
)


class Oracle:
    """One request after the other, in a dict; remembers who wrote what last."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.changed: list[tuple[bytes, bytes]] = []

    def take(self, step: Step, seen: int) -> int:
        """Return the status; a request that succeeds is applied."""
        for start, end in step.checked:
            stop = start + b"\0" if end is None else end
            if any(s < stop and start < e for s, e in self.changed[seen:]):
                return CONFLICT
        rows, changed = dict(self.rows), []
        try:
            for op in step.ops:
                changed += self._apply(rows, op)
        except Refused as refused:
            return int(refused.args[0])
        self.rows = rows
        self.changed += changed
        return 0

    def _apply(
        self, rows: dict[bytes, bytes], op: AtomicOperation | Operation
    ) -> list[tuple[bytes, bytes]]:
        if isinstance(op, AtomicOperation):
            held = (rows[op.key], 0) if op.key in rows else None
            wrote, after = outcome(op, held, 0)
            rows.pop(op.key, None)
            if after is not None:
                rows[op.key] = after[0]
            return [(op.key, op.key + b"\0")] if wrote else []
        if op.kind is OpKind.RANGE_DELETE:
            for key in [k for k in rows if op.key <= k < op.value]:
                del rows[key]
            return [(op.key, op.value)]
        rows.pop(op.key, None)
        if op.kind is OpKind.PUT:
            rows[op.key] = op.value
        return [(op.key, op.key + b"\0")]


@given(steps=STEPS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_ends_as_one_request_after_the_other(steps: list[Step | str]) -> None:
    rig, oracle = Rig(), Oracle()
    client = rig.client()
    wanted: list[tuple[int, int]] = []
    # Snapshots that a request may read at: (sequence, changes then). Only between groups.
    moments: list[tuple[int, int]] = [(0, 0)]
    for step in steps:
        if isinstance(step, str):
            rig.settle()
            moments.append((rig.loop.visible_seq, len(oracle.changed)))
            if step == "rotate" and rig.loop.visible_seq:
                rig.rotate(keep=True)
            continue
        seq, seen = moments[max(0, len(moments) - 1 - step.age)]
        checks = b"".join(
            key_check(start) if end is None else range_check(start, end)
            for start, end in step.checked
        )
        ops = tuple(
            AtomicOperation(op.operation, op.key, op.operand, flags=op.flags, hint=ABSENT)
            if isinstance(op, AtomicOperation)
            else op
            for op in step.ops
        )
        number = push_atomic(client, *ops, checks=checks, snapshot_seq=seq)
        wanted.append((number, oracle.take(step, seen)))
    rig.settle()
    assert [(number, status(client, number)) for number, _ in wanted] == wanted
    assert rig.everything() == oracle.rows
