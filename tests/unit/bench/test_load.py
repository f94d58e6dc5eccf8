"""Goal: targets, what may be read, and a load's timeline are right. Method: tables, no service.

tests/process/test_bench_load.py loads a real one.
"""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.load.ledger import FOREIGN, MISSING, STALE, UNSENT, Ledger
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import OVERDUE, Second, Timeline
from ferrisdb.bench.load.target import Target, TargetError, parse_target
from ferrisdb.bench.records import Records, keys_of

# Targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://db", ("db", 6379, False, None, None, "redis://db")),
        ("redis://db:1234/0", ("db", 1234, False, None, None, "redis://db:1234/0")),
        ("redis://:pw@db", ("db", 6379, False, None, "pw", "redis://@db")),
        ("rediss://u:p%40w@[::1]:7", ("::1", 7, True, "u", "p@w", "rediss://u@[::1]:7")),
    ],
)
def test_addresses_are_read_and_passwords_not_shown(
    text: str, expected: tuple[object, ...]
) -> None:
    found = parse_target(text, environment={})
    assert expected == (
        found.host, found.port, found.is_tls, found.user, found.password, found.text,
    )  # fmt: skip
    assert not found.is_attached
    assert "p@w" not in repr(found) and "pw" not in repr(found)


def test_a_password_may_stand_in_the_environment() -> None:
    found = parse_target("redis://u@db", environment={"REDISCLI_AUTH": "secret"})
    assert (found.user, found.password) == ("u", "secret")


def test_directories_and_sockets_are_found(tmp_path: Path) -> None:
    assert parse_target(str(tmp_path)).is_attached
    assert not parse_target(str(tmp_path), by_socket=True).is_attached
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        for text in (path, f"unix://{path}"):
            assert parse_target(text).socket_path == path


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("/nowhere", {}, "No such file or directory; a target is"),
        ("/dev/null", {}, "neither a directory nor a socket"),
        ("http://db", {}, "there is no http:// here"),
        ("redis://", {}, "names no host"),
        ("redis://:pw@", {}, "names no host"),
        ("redis://db:port", {}, "redis://db:port: "),
        ("redis://db:99999", {}, "redis://db:99999: "),
        ("redis://u:secret@db:port", {}, "redis://u@db:port: "),
        ("redis://db/7", {}, "nothing stands behind the port"),
        ("redis://db?x=1", {}, "nothing stands behind the port"),
        ("redis://u@db", {}, "names a user without a password"),
        ("redis://db", {"by_socket": True}, "--socket is for a directory"),
        ("redis://db", {"ca_file": "x"}, "rediss:// alone"),
        (".", {"checks_certificate": False}, "rediss:// alone"),
    ],
)
def test_other_targets_are_refused(text: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text, environment={}, **options)  # type: ignore[arg-type]  # any of them
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


# What may be read


def _ledger(client: int = 1, clients: int = 3, keys: int = 10) -> tuple[Ledger, Records]:
    records = Records(64)
    return Ledger(client, clients, keys, records), records


def _key(number: int) -> bytes:
    return keys_of(np.array([number], dtype=np.uint64))[0]


@pytest.mark.parametrize(("clients", "keys"), [(1, 1), (3, 3), (3, 10), (4, 7), (7, 100)])
def test_every_key_has_one_writer(clients: int, keys: int) -> None:
    numbers = np.arange(keys, dtype=np.uint64)
    for client in range(clients):
        ledger, _records = _ledger(client, clients, keys)
        own = ledger.own(numbers)
        assert (own % clients == client).all()
        assert (own < keys).all()
        assert (np.abs(own.astype(int) - numbers.astype(int)) < 2 * clients).all()
        mine = numbers[numbers % clients == client]
        assert (ledger.own(mine) == mine).all()
        # There is a place for each of them.
        for number in mine.tolist():
            ledger.next_value(number, _key(number))


def test_own_keys_have_the_value_that_was_acknowledged() -> None:
    ledger, records = _ledger()
    key = _key(4)
    assert ledger.fault(4, key, records.value(key, 0)) is None
    version, value = ledger.next_value(4, key)
    # Sent, and not answered: both may be seen.
    assert version == 1
    assert ledger.fault(4, key, records.value(key, 0)) is None
    ledger.answered(4, version)
    assert ledger.fault(4, key, value) is None
    assert ledger.fault(4, key, records.value(key, 0)) == STALE
    assert ledger.fault(4, key, records.value(key, 2)) == UNSENT
    assert ledger.fault(4, key, None) == MISSING


def test_a_failed_write_may_be_done_at_any_time() -> None:
    ledger, records = _ledger()
    key = _key(4)
    first, _value = ledger.next_value(4, key)
    ledger.failed(4, first)
    second, _value = ledger.next_value(4, key)
    ledger.answered(4, second)
    assert ledger.fault(4, key, records.value(key, first)) is None
    assert ledger.fault(4, key, records.value(key, second)) is None
    assert ledger.fault(4, key, records.value(key, 0)) == STALE


def test_however_many_writes_fail_those_that_did_not_are_still_told_apart() -> None:
    ledger, records = _ledger()
    key, doubtful = _key(4), []
    for turn in range(1000):
        version, _value = ledger.next_value(4, key)
        if turn % 3 and turn < 990:
            ledger.failed(4, version)
            doubtful.append(version)
        else:
            ledger.answered(4, version)
    for version in doubtful:
        assert ledger.fault(4, key, records.value(key, version)) is None
    found = [ledger.fault(4, key, records.value(key, version)) for version in range(950, 1001)]
    assert found.count(None) == sum(version >= 950 for version in doubtful) + 1
    assert found.count(STALE) == len(found) - found.count(None)


def test_what_was_seen_once_is_not_unseen() -> None:
    ledger, records = _ledger()
    key = _key(4)
    version, value = ledger.next_value(4, key)
    assert ledger.fault(4, key, value) is None
    assert ledger.fault(4, key, records.value(key, version - 1)) == STALE


@pytest.mark.parametrize("number", [3, 4])
def test_values_must_prove_themselves(number: int) -> None:
    ledger, records = _ledger()
    key, other = _key(number), _key(9)
    good = records.value(key, 0)
    for bad in (records.value(other, 0), good[:-1], good + b"x", b"", b"?" + good[1:]):
        assert ledger.fault(number, key, bad) == FOREIGN
    flipped = bytearray(good)
    flipped[-1] ^= 1
    assert ledger.fault(number, key, bytes(flipped)) == FOREIGN


def test_of_others_keys_any_version_is_right() -> None:
    ledger, records = _ledger()
    assert ledger.fault(5, _key(5), records.value(_key(5), 77)) is None


# The timeline


def _second(number: int, *latencies: int, ended_ns: int = 0, errors: int = 0) -> Second:
    made = Second(number, ended_ns=ended_ns)
    if latencies:
        made.latencies["read"] = Histogram()
        made.latencies["read"].add_many(latencies)
    if errors:
        made.errors["read", OVERDUE] = errors
    return made


def test_a_second_is_complete_when_every_client_has_sent_the_next() -> None:
    timeline = Timeline(2)
    timeline.add(0, _second(0, 10))
    timeline.add(0, _second(1, 11))
    assert list(timeline.complete()) == []
    assert timeline.partial(0).operations == 1
    timeline.add(1, _second(0, 20))
    assert list(timeline.complete()) == []
    timeline.add(1, _second(1, 21, errors=3))
    (first,) = timeline.complete()
    assert (first.number, first.operations) == (0, 2)
    ((last, length),) = timeline.rest(1.5)
    assert (last.number, last.operations, last.error_count, length) == (1, 2, 3, 0.5)
    assert (timeline.total.operations, timeline.total.errors_by_kind()) == (4, {OVERDUE: 3})


def test_seconds_without_anything_are_there_and_a_short_rest_is_not() -> None:
    timeline = Timeline(2)
    timeline.add(0, _second(0, 10))
    timeline.add(1, _second(3, 20))
    timeline.add(0, _second(4, 30))
    found = [(each.number, each.operations, length) for each, length in timeline.rest(4.05)]
    assert found == [(0, 1, 1.0), (1, 0, 1.0), (2, 0, 1.0), (3, 2, pytest.approx(1.05))]


def test_a_load_without_anything_has_a_second() -> None:
    assert [(each.number, length) for each, length in Timeline(1).rest(0.0)] == [(0, 0.1)]


def test_a_second_says_all_of_it_as_json() -> None:
    second = _second(7, 1000, 2000, errors=2)
    second.latencies["update"] = Histogram()
    second.latencies["update"].add(3000)
    second.wrong[STALE] = 1
    row = second.to_json(0.5)
    assert (row["second"], row["operations"], row["rate_per_s"]) == (7, 3, 6.0)
    assert row["errors"] == {OVERDUE: 2} and row["wrong"] == {STALE: 1}
    assert row["latency"]["all"]["count"] == 3
    assert row["latency"]["update"]["max_us"] == 3.001  # of the bucket
    outcomes = second.outcomes(0.5)
    assert outcomes[None].operations == 3
    assert (outcomes["read"].operations, outcomes["read"].errors) == (2, 2)
    assert (outcomes["update"].operations, outcomes["update"].errors) == (1, 0)


def test_plan_counts_its_seconds_up() -> None:
    target = Target("x")
    counts = [
        Plan(
            target=target, durability=None, timeout_s=1, clients=1, warm_up_s=0, seconds=seconds,
            rate_per_s=None, read_ratio=1, distribution="uniform", theta=0.9, verify_ratio=1,
            key_count=1, value_bytes=32, prefix=b"x", seed=1,
        ).second_count
        for seconds in (0.1, 1.0, 1.01, 60)
    ]  # fmt: skip
    assert counts == [1, 1, 2, 60]
