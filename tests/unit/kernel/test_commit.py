"""Goal: groups are judged, logged and answered in order, and no ring can harm the loop.

Method: a loop over segments in this process's memory, with a log that the test writes. Hostile
rings are random bytes, and right requests with one word made wrong. Long because every word of a
request has its wrong values.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ferrisdb import errors
from ferrisdb.format.wal import Operation, OpKind
from ferrisdb.kernel import layout as c
from ferrisdb.kernel.commit import Reason
from tests.support.commit_rig import BATCH_BYTES_MAX, GENERATION, Rig

PROTOCOL = errors.ProtocolError.wire_code
CONFLICT = errors.ConflictError.wire_code


def put(key: bytes, value: bytes = b"v") -> Operation:
    return Operation(OpKind.PUT, key, value)


def check(*keys: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(key)) + key for key in keys)


def status(client: Any, request_no: int) -> int:
    answer = client.answer(request_no)
    assert answer is not None, "not answered"
    return int(answer.status)


# Order and answers


def test_requests_of_a_ring_are_answered_in_order_with_their_sequences() -> None:
    rig = Rig()
    client = rig.client()
    first = client.push(put(b"a"), put(b"b"))
    second = client.push(put(b"a", b"w"))
    rig.settle()
    assert client.answer(first) is not None
    assert client.answer(first).seq == 2  # type: ignore[union-attr]
    assert client.answer(second).seq == 3  # type: ignore[union-attr]
    assert rig.contents() == {b"a": b"w", b"b": b"v"}
    assert rig.loop.visible_seq == 3


def test_a_group_holds_requests_of_all_rings_in_turn() -> None:
    rig = Rig()
    clients = [rig.client() for _ in range(3)]
    for turn in range(4):
        for client in clients:
            client.push(put(b"%d" % turn))
    assert rig.step() is Reason.WRITE
    assert rig.loop.groups == 1
    assert rig.loop.commits == 12
    assert len(rig.log) == 1


def test_one_request_for_a_sync_syncs_the_group_before_anyone_is_answered() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(put(b"a"), durability=c.DURABILITY_SYNC)
    other.push(put(b"b"))
    assert Reason(rig.loop.step()) is Reason.WRITE
    assert client.answer(1) is None
    assert Reason(rig.loop.written()) is Reason.SYNC
    assert client.answer(1) is None
    assert other.answer(1) is None
    assert rig.loop.visible_seq == 0
    rig.loop.synced()
    assert status(client, 1) == status(other, 1) == 0
    assert rig.loop.visible_seq == 2
    assert rig.loop.wal_synced == rig.loop.wal_offset


def test_an_empty_batch_is_answered_and_may_ask_for_a_sync() -> None:
    rig = Rig()
    client = rig.client()
    client.push(durability=c.DURABILITY_SYNC)
    rig.settle()
    assert status(client, 1) == 0
    assert rig.synced == 1


def test_a_ring_goes_round_many_times() -> None:
    rig = Rig(capacity=1 << 30)
    client = rig.client()
    for i in range(300):
        number = client.push(put(b"%d" % (i % 7), bytes(5000)))
        rig.settle()
        assert status(client, number) == 0
    assert client.tail > 2 * c.RING_BYTES
    assert not client.error


def test_a_relative_expiry_becomes_absolute_from_the_groups_time() -> None:
    rig = Rig()
    client = rig.client()
    ops = struct.pack("<IIQ", 1 | 0x44 << 24, 1, 5_000_000) + b"kv"
    record = bytearray(c.REQUEST_HEADER_BYTES) + ops + bytes(-len(ops) % 8)
    client.push(put(b"x"))
    rig.settle()
    struct.pack_into("<IBB2xQQ", record, 0, len(record), c.REQUEST_BATCH, c.DURABILITY_OS, 2, 2)
    struct.pack_into("<II", record, c.REQUEST_OPS_BYTES, len(ops), 1)
    client.push_raw(bytes(record))
    rig.settle()
    assert status(client, 2) == 0
    found = rig.memtable.get(b"k", 2)
    assert found is not None
    _, kind, expires_us, value = found
    assert (kind, value) == (4, b"v")
    assert expires_us == rig.loop.last_time_us + 5_000_000


# Judgement


def test_a_key_that_was_written_since_is_a_conflict() -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"))
    client.push(put(b"b"))
    rig.settle()
    late = client.push(put(b"x"), checks=check(b"b"), snapshot_seq=1, generation=GENERATION)
    fine = client.push(put(b"y"), checks=check(b"a", b"none"), snapshot_seq=1)
    rig.settle()
    assert status(client, late) == CONFLICT
    assert status(client, fine) == 0
    assert b"x" not in rig.contents()


def test_a_request_is_judged_against_the_earlier_ones_of_its_group() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(put(b"k", b"1"), checks=check(b"k"))
    other.push(put(b"k", b"2"), checks=check(b"k"))
    other.push(put(b"j", b"3"), checks=check(b"j"))
    assert rig.step() is Reason.WRITE
    assert [status(client, 1), status(other, 1), status(other, 2)] == [0, CONFLICT, 0]
    assert rig.contents() == {b"k": b"1", b"j": b"3"}


def test_a_refused_request_of_the_group_conflicts_with_nobody() -> None:
    rig = Rig()
    a, b, d = rig.client(), rig.client(), rig.client()
    a.push(put(b"k", b"1"), checks=check(b"k"))
    b.push(put(b"j", b"2"), checks=check(b"k"))
    d.push(put(b"j", b"3"), checks=check(b"j"))
    rig.settle()
    assert [status(a, 1), status(b, 1), status(d, 1)] == [0, CONFLICT, 0]
    assert rig.contents() == {b"k": b"1", b"j": b"3"}


@pytest.mark.parametrize("same_group", [False, True])
def test_a_range_delete_is_a_write_to_every_key_in_it(same_group: bool) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"b"), put(b"z"))
    rig.settle()
    client.push(Operation(OpKind.RANGE_DELETE, b"a", b"c"))
    if not same_group:
        rig.settle()
    number = client.push(put(b"x"), checks=check(b"b"), snapshot_seq=2)
    rig.settle()
    assert status(client, number) == CONFLICT


def test_frozen_memtables_are_asked_and_older_history_is_not_guessed() -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"))
    client.push(put(b"b"))
    rig.settle()
    rig.rotate()
    conflict = client.push(put(b"x"), checks=check(b"b"), snapshot_seq=1)
    fine = client.push(put(b"y"), checks=check(b"a"), snapshot_seq=1)
    rig.settle()
    assert [status(client, conflict), status(client, fine)] == [CONFLICT, 0]
    rig.loop.set_history([])
    unknown = client.push(put(b"z"), checks=check(b"a"), snapshot_seq=1)
    rig.settle()
    assert status(client, unknown) == errors.HistoryGoneError.wire_code


def test_what_was_read_and_has_expired_is_a_conflict() -> None:
    rig = Rig()
    client = rig.client()
    passed = client.push(put(b"a"), expiry_us=1)
    far = client.push(put(b"b"), expiry_us=1 << 62)
    rig.settle()
    assert [status(client, passed), status(client, far)] == [CONFLICT, 0]


def test_a_snapshot_of_another_generation_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    number = client.push(put(b"a"), generation=GENERATION - 1)
    rig.settle()
    assert status(client, number) == errors.SnapshotTooOldError.wire_code
    assert rig.contents() == {}


def test_a_batch_over_the_limit_is_refused_and_the_next_one_served() -> None:
    rig = Rig()
    client = rig.client()
    number = client.push(put(b"a", bytes(BATCH_BYTES_MAX)))
    client.push(put(b"b"))
    rig.settle()
    assert status(client, number) == errors.BatchTooLargeError.wire_code
    assert rig.contents() == {b"b": b"v"}


# Full memtables, stalls, poison


def test_a_full_memtable_asks_for_rotation_and_nothing_is_lost() -> None:
    rig = Rig()
    client = rig.client()
    rotations = 0
    for i in range(200):
        number = client.push(put(b"%d" % i, bytes(4000)))
        while client.answer(number) is None:
            if rig.step() is Reason.ROTATE:
                rotations += 1
                rig.rotate()
        assert status(client, number) == 0
    assert rotations >= 3
    assert rig.loop.visible_seq == 200


def test_while_stalled_only_who_can_wait_no_longer_is_answered() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(put(b"a"), deadline_ns=100)
    client.push(put(b"b"), deadline_ns=500)
    other.push(put(b"c"), deadline_ns=1000)
    assert rig.loop.serve_stalled(0, 99) == 0
    assert rig.loop.serve_stalled(0, 100) == 1
    assert status(client, 1) == errors.BusyError.wire_code
    assert client.answer(2) is None
    assert rig.loop.serve_stalled(errors.DiskFullError.wire_code, 0) == 2
    assert status(client, 2) == status(other, 1) == errors.DiskFullError.wire_code
    rig.settle()
    assert rig.contents() == {}
    client.push(put(b"d"))
    rig.settle()
    assert rig.contents() == {b"d": b"v"}


@pytest.mark.parametrize("stage", ["written", "synced"])
def test_poison_leaves_the_outcome_unknown_and_ends_the_loop(stage: str) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"), durability=c.DURABILITY_SYNC)
    assert Reason(rig.loop.step()) is Reason.WRITE
    if stage == "synced":
        rig.loop.written()
    rig.loop.poison()
    assert status(client, 1) == errors.CommitUnknownError.wire_code
    assert rig.loop.visible_seq == 0
    with pytest.raises(errors.UsageError):
        rig.loop.step()


def test_a_failed_write_by_the_loop_itself_poisons_it() -> None:
    rig = Rig()
    client = rig.client()
    rig.loop.set_log(rig.memtable, 1 << 20, salt=0, offset=0, synced_to=0, capacity=1 << 20)
    client.push(put(b"a"))
    assert Reason(rig.loop.step()) is Reason.FAILED
    assert rig.loop.error_number == 9
    rig.loop.poison()
    assert status(client, 1) == errors.CommitUnknownError.wire_code


# What an earlier generation committed


def test_a_request_that_an_earlier_generation_committed_is_answered_and_not_applied_again() -> None:
    rig = Rig()
    client = rig.client(outcomes=[(1, 11, 2, b""), (3, 20, 1, b"reply")])
    for key in (b"a", b"b", b"c", b"d"):
        client.push(put(key), unanswered_no=1)
    rig.settle()
    answers = [client.answer(number) for number in range(1, 5)]
    assert [a and (a.status, a.seq) for a in answers] == [(0, 12), (0, 1), (0, 20), (0, 2)]
    assert rig.contents() == {b"b": b"v", b"d": b"v"}
    assert {row[1] for row in rig.loop.outcomes()} == {1, 2, 3, 4}


def test_what_the_client_has_taken_is_no_longer_remembered() -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"))
    client.push(put(b"b"))
    client.push(put(b"c"), unanswered_no=3)
    rig.settle()
    assert [(row[1], row[2], row[3], row[4]) for row in rig.loop.outcomes()] == [(3, 3, 3, 1)]
    rig.loop.remove_port(0)
    assert rig.loop.outcomes() == []


# Large batches


def test_a_large_batch_is_asked_for_and_committed_alone() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    ops = struct.pack("<II", 1 | 1 << 24, 50_000) + b"k" + bytes(50_000)
    client.push(large_no=9, ops_bytes=len(ops), count=1)
    other.push(put(b"o"))
    reasons = [rig.step()]
    while reasons[-1] is not Reason.LARGE:
        reasons.append(rig.step())
    assert (rig.loop.large_no, rig.loop.large_bytes, rig.loop.large_port) == (9, len(ops), 0)
    rig.loop.supply_large(ops)
    rig.settle()
    assert status(client, 1) == status(other, 1) == 0
    assert rig.contents() == {b"k": bytes(50_000), b"o": b"v"}


@pytest.mark.parametrize("supplied", [None, b"", bytes(10_000), bytes(9_999)])
def test_a_large_batch_that_is_not_what_was_said_faults_its_client(supplied: bytes | None) -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(large_no=9, ops_bytes=10_000, count=3)
    while rig.step() is not Reason.LARGE:
        pass
    rig.loop.supply_large(supplied)
    other.push(put(b"o"))
    rig.settle()
    assert client.error == PROTOCOL
    assert status(other, 1) == 0


def test_checks_of_a_large_batch_have_a_bound() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(large_no=9, ops_bytes=10, count=1, checks_bytes=1 << 30)
    other.push(put(b"o"))
    rig.settle()
    assert client.error == PROTOCOL
    assert status(other, 1) == 0


def test_a_client_that_leaves_while_its_large_batch_is_fetched_is_forgotten() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(large_no=9, ops_bytes=10_000, count=3)
    while rig.step() is not Reason.LARGE:
        pass
    rig.loop.remove_port(0)
    other.push(put(b"o"))
    rig.settle()
    assert status(other, 1) == 0


# Hostile rings

WRONG_HEADERS: list[dict[str, Any]] = [
    {"nbytes": 0},
    {"nbytes": 4},
    {"nbytes": 8},
    {"nbytes": 81},
    {"nbytes": 1 << 31},
    {"nbytes": 0xFFFFFFF8},
    {"kind": 0},
    {"kind": 5},
    {"kind": 255},
    {"request_no": 0},
    {"request_no": 5},
    {"unanswered_no": 3},
    {"ops_bytes": 8},
    {"ops_bytes": 11},
    {"ops_bytes": 4096},
    {"count": 0},
    {"count": 2},
    {"count": 0xFFFFFFFF},
    {"checks_bytes": 1 << 20},
    {"checks_bytes": 0xFFFFFFFF},
    {"checks_bytes": 0xFFFFFFF9},
]


@pytest.mark.parametrize("header", WRONG_HEADERS)
def test_a_wrong_word_faults_its_client_and_no_other(header: dict[str, Any]) -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(put(b"a"))
    rig.settle()
    client.push(put(b"k"), **header)
    other.push(put(b"o"))
    rig.settle()
    assert client.error == PROTOCOL
    assert not rig.loop.is_served(0)
    assert rig.loop.is_served(1)
    assert status(other, 1) == 0
    assert rig.contents() == {b"a": b"v", b"o": b"v"}


@pytest.mark.parametrize("durability", [0, 4, 255])
def test_an_unknown_durability_faults(durability: int) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"), durability=durability)
    rig.settle()
    assert client.error == PROTOCOL


@pytest.mark.parametrize("tail", [4, -8, c.RING_BYTES + 8, 1 << 63, (1 << 64) - 8])
def test_a_tail_out_of_range_faults(tail: int) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"))
    client.set_tail(tail)
    rig.settle()
    assert client.error == PROTOCOL
    rig.loop.serve_stalled(0, 1 << 60)


@pytest.mark.parametrize(
    "checks",
    [b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xff", check(b"a") + b"\x00\x00"],
)
def test_truncated_checks_fault(checks: bytes) -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"k"), checks=checks)
    rig.settle()
    assert client.error == PROTOCOL
    assert rig.contents() == {}


def test_a_ring_of_pads_alone_does_not_hold_the_loop() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    for at in range(0, c.RING_BYTES, 8):
        struct.pack_into("<IB", client.segment, c.RING_OFFSET + at, 8, c.REQUEST_PAD)
    client.set_tail(c.RING_BYTES)
    other.push(put(b"o"))
    rig.settle()
    rig.loop.serve_stalled(0, 1 << 60)
    assert status(other, 1) == 0


def test_pads_alone_do_not_exhaust_the_stack_of_a_stalled_loop() -> None:
    rig = Rig()
    client = rig.client()
    for at in range(0, c.RING_BYTES, 8):
        struct.pack_into("<IB", client.segment, c.RING_OFFSET + at, 8, c.REQUEST_PAD)
    client.set_tail(c.RING_BYTES)
    assert rig.loop.serve_stalled(0, 1 << 60) == 0


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 255).map(lambda n: n * 4),
        st.one_of(st.integers(0, 300), st.integers(0, 0xFFFFFFFF)),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutations=MUTATIONS, tail=st.one_of(st.none(), st.integers(0, 1 << 21)))
def test_requests_with_words_overwritten_never_harm_others(
    mutations: list[tuple[int, int]], tail: int | None
) -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.push(put(b"a", b"x" * 40), put(b"b"), checks=check(b"q", b"r"))
    client.push(Operation(OpKind.RANGE_DELETE, b"a", b"b"), Operation(OpKind.DELETE, b"c", b""))
    client.push(put(b"d", b"y" * 300), unanswered_no=1)
    for offset, word in mutations:
        struct.pack_into("<I", client.segment, c.RING_OFFSET + offset, word)
    if tail is not None:
        client.set_tail(tail)
    other.push(put(b"o"))
    rig.settle()
    rig.loop.serve_stalled(0, 1 << 60)
    assert status(other, 1) == 0
    assert rig.loop.is_served(1)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(min_size=64, max_size=2048), tail=st.integers(0, (1 << 64) - 1))
@example(content=bytes(64), tail=8)
@example(content=b"\xff" * 64, tail=c.RING_BYTES)
def test_random_bytes_in_the_whole_segment_never_harm_others(content: bytes, tail: int) -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    repeated = content * (c.CLIENT_BYTES // len(content) + 1)
    client.segment[:] = repeated[: c.CLIENT_BYTES]
    client.set_tail(tail)
    other.push(put(b"o"))
    rig.settle()
    rig.loop.serve_stalled(0, 1 << 60)
    assert status(other, 1) == 0
    # A client may attach with such a segment, too.
    rig.loop.add_port(0, client.segment, bytes(16))
    rig.settle()
    other.push(put(b"p"))
    rig.settle()
    assert status(other, 2) == 0


def test_an_event_loop_that_sleeps_is_woken_by_its_eventfd() -> None:
    rig = Rig()
    client = rig.client()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        rig.loop.set_wake_fd(0, fd)
        assert c.load32(client.segment, c.CLIENT_WAKES_FD) == 1
        for sleeping, woken, futex in [
            (0, False, 0),
            (c.CLIENT_IN_EPOLL, True, 0),
            (c.CLIENT_IN_EPOLL + 1, True, 1),
            (1, False, 1),
        ]:
            before = c.load32(client.segment, c.CLIENT_WAKE)
            c.store32(client.segment, c.CLIENT_SLEEPING, sleeping)
            client.push(put(b"a", b"1"))
            rig.settle()
            assert c.load32(client.segment, c.CLIENT_WAKE) - before == futex
            if woken:
                assert os.eventfd_read(fd) == 1
            with pytest.raises(BlockingIOError):
                os.eventfd_read(fd)
        # A client that is served anew has none until it is named again.
        c.store32(client.segment, c.CLIENT_SLEEPING, c.CLIENT_IN_EPOLL)
        rig.loop.add_port(0, client.segment, bytes(16))
        assert c.load32(client.segment, c.CLIENT_WAKES_FD) == 0
        client.push(put(b"a", b"2"))
        rig.settle()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        rig.loop.remove_port(0)
        with pytest.raises(errors.UsageError):
            rig.loop.set_wake_fd(0, fd)
    finally:
        os.close(fd)


def test_segments_that_are_too_short_are_refused() -> None:
    rig = Rig()
    with pytest.raises(errors.ProtocolError):
        rig.loop.add_port(0, bytearray(c.CLIENT_BYTES - 1), bytes(16))
    with pytest.raises(errors.UsageError):
        rig.loop.add_port(4096, bytearray(c.CLIENT_BYTES), bytes(16))
    with pytest.raises(errors.UsageError):
        rig.loop.add_port(0, bytearray(c.CLIENT_BYTES), bytes(15))


def test_a_control_request_is_answered_by_the_caller_in_its_turn() -> None:
    rig = Rig()
    client = rig.client()
    client.push(put(b"a"))
    client.push(kind=c.REQUEST_CONTROL)
    client.push(put(b"b"))
    while (reason := rig.step()) is not Reason.CONTROL:
        assert reason is not Reason.IDLE
    assert status(client, 1) == 0 and rig.contents() == {b"a": b"v"}
    assert rig.loop.control_ops == b""
    # Nothing is taken before it has its answer.
    assert rig.step() is Reason.CONTROL
    rig.loop.answer_control(0, 77)
    answer = client.answer(2)
    assert answer is not None and (answer.status, answer.seq) == (0, 77)
    rig.settle()
    assert status(client, 3) == 0 and rig.contents() == {b"a": b"v", b"b": b"v"}
    with pytest.raises(errors.UsageError):
        rig.loop.answer_control(0, 0)
