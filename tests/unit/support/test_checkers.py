"""Goal: the checkers find what they are for. Method: histories made by hand, each with an anomaly.

A checker that finds nothing proves nothing; these are what it must find, and must not.
"""

from __future__ import annotations

import random

import pytest

from tests.support import linearizability as lin
from tests.support.linearizability import NEVER, Call, Name
from tests.support.serializability import Append, RangeRead, Read, Status, Tx, check

X, Y = b"x", b"y"


def tx(name: str, *ops: Append | Read | RangeRead, status: Status = "committed") -> Tx:
    return Tx(name, ops, status)


def r(key: bytes, *values: int) -> Read:
    return Read(key, values)


def w(key: bytes, value: int) -> Append:
    return Append(key, value)


def final(**lists: tuple[int, ...]) -> Tx:
    return tx("final", *(Read(name.encode(), values) for name, values in lists.items()))


HISTORIES: dict[str, tuple[list[Tx], set[str]]] = {
    "serial": (
        [tx("a", r(X), w(X, 1)), tx("b", r(X, 1), w(X, 2), r(X, 1, 2)), final(x=(1, 2))],
        set(),
    ),
    "G0: writes of two keys in opposite orders": (
        [tx("a", w(X, 1), w(Y, 1)), tx("b", w(X, 2), w(Y, 2)), final(x=(1, 2), y=(2, 1))],
        {"G0"},
    ),
    "G1a: an aborted value": (
        [tx("a", w(X, 1), status="aborted"), tx("b", r(X, 1)), final(x=(1,))],
        {"G1a"},
    ),
    "G1b: an unfinished value": (
        [tx("a", w(X, 1), w(X, 2)), tx("b", r(X, 1)), final(x=(1, 2))],
        {"G1b"},
    ),
    "G1c: each has read what the other wrote": (
        [tx("a", w(X, 1), r(Y, 2)), tx("b", w(Y, 2), r(X, 1)), final(x=(1,), y=(2,))],
        {"G1c"},
    ),
    "G-single: read skew": (
        [tx("a", r(X), r(Y, 2)), tx("b", w(X, 1), w(Y, 2)), final(x=(1,), y=(2,))],
        {"G-single"},
    ),
    "lost update": (
        [tx("a", r(X), w(X, 1)), tx("b", r(X), w(X, 2)), final(x=(1, 2))],
        {"G-single"},
    ),
    "G2: write skew": (
        [tx("a", r(X), w(Y, 1)), tx("b", r(Y), w(X, 2)), final(x=(2,), y=(1,))],
        {"G2"},
    ),
    "phantom: each found the other's range empty": (
        [
            tx("a", RangeRead(b"x", b"y", ()), w(Y, 1)),
            tx("b", RangeRead(b"y", b"z", ()), w(X, 2)),
            final(x=(2,), y=(1,)),
        ],
        {"G2"},
    ),
    "phantom: half of another's inserts": (
        [
            tx("a", RangeRead(b"a", None, ((Y, (1,)),))),
            tx("b", w(X, 1), w(Y, 1)),
            final(x=(1,), y=(1,)),
        ],
        {"G-single"},
    ),
    "a range outside of what was written": (
        [
            tx("a", RangeRead(b"p", b"x", ()), w(Y, 1)),
            tx("b", r(Y), w(X, 2)),
            final(x=(2,), y=(1,)),
        ],
        set(),
    ),
    "three of them, each before the next": (
        [
            tx("a", r(X), w(Y, 1)),
            tx("b", r(Y), w(b"z", 2)),
            tx("c", r(b"z"), w(X, 3)),
            final(x=(3,), y=(1,), z=(2,)),
        ],
        {"G2"},
    ),
    "a committed write that is not there": (
        [tx("a", w(X, 1)), tx("b", w(X, 2)), final(x=(2,))],
        {"lost"},
    ),
    "a value that nobody wrote": ([tx("a", r(X, 9)), final(x=(9,))], {"unwritten"}),
    "lists that don't continue each other": (
        [tx("a", w(X, 1)), tx("b", w(X, 2)), tx("c", r(X, 2)), final(x=(1, 2))],
        {"incompatible-order"},
    ),
    "a value twice": ([tx("a", w(X, 1)), final(x=(1, 1))], {"duplicate"}),
    "its own write is not there": ([tx("a", w(X, 1), r(X)), final(x=(1,))], {"unwritten"}),
    "unknown, and seen": (
        [tx("a", w(X, 1), status="unknown"), tx("b", r(X, 1)), final(x=(1,))],
        set(),
    ),
    "unknown, and not seen": ([tx("a", w(X, 1), status="unknown"), final(x=())], set()),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_each_anomaly_is_found_and_nothing_else(name: str) -> None:
    history, expected = HISTORIES[name]
    found = check(history).anomalies
    # A list in a wrong order is also not a serial one: what must be there is the first of them.
    assert expected <= set(found), found
    if not expected or expected & {"G0", "G1c", "G-single", "G2"} == expected:
        graded = {"G0": 0, "G1c": 1, "G-single": 2, "G2": 3}
        worst = min((graded[kind] for kind in expected), default=4)
        assert all(graded[kind] >= worst for kind in found), found


def test_real_time_counts_only_where_it_is_asked_for() -> None:
    late = Tx("late", (r(X),), "committed", begin_ns=20, end_ns=30)
    early = Tx("early", (w(X, 1),), "committed", begin_ns=0, end_ns=10)
    whole = Tx("final", (r(X, 1),), "committed", begin_ns=40, end_ns=50)
    assert not check([late, early, whole]).anomalies
    assert check([late, early, whole], strict=True).anomalies
    at_once = Tx("late", (r(X),), "committed", begin_ns=5, end_ns=30)
    assert not check([at_once, early, whole], strict=True).anomalies


def test_serial_histories_of_any_kind_are_explained() -> None:
    rng = random.Random(7)
    for _ in range(50):
        lists: dict[bytes, list[int]] = {}
        history, value = [], 0
        for number in range(rng.randint(1, 30)):
            ops: list[Append | Read | RangeRead] = []
            for _ in range(rng.randint(1, 6)):
                key = b"%d" % rng.randint(0, 4)
                match rng.randint(0, 2):
                    case 0:
                        value += 1
                        ops.append(Append(key, value))
                        lists.setdefault(key, []).append(value)
                    case 1:
                        ops.append(Read(key, tuple(lists.get(key, ()))))
                    case _:
                        rows = tuple((k, tuple(v)) for k, v in sorted(lists.items()) if k >= key)
                        ops.append(RangeRead(key, None, rows))
            history.append(Tx(f"t{number}", tuple(ops), "committed", 2 * number, 2 * number + 1))
        everything = tuple(Read(key, tuple(values)) for key, values in lists.items())
        history.append(Tx("final", everything, "committed", 10**6, 10**6 + 1))
        rng.shuffle(history)
        verdict = check(history, strict=True)
        assert not verdict.anomalies, verdict.anomalies


def call(
    name: Name, argument: object, answer: object, begin: int, end: int, key: bytes = b"k"
) -> Call:
    return Call(name, key, argument, answer, begin, end)  # type: ignore[arg-type]


LINEAR: dict[str, tuple[list[Call], bool]] = {
    "one behind the other": (
        [call("put", b"1", None, 0, 1), call("get", None, b"1", 2, 3)],
        True,
    ),
    "a stale read": (
        [
            call("put", b"1", None, 0, 1),
            call("put", b"2", None, 2, 3),
            call("get", None, b"1", 4, 5),
        ],
        False,
    ),
    "two at once, either order": (
        [
            call("put", b"1", None, 0, 9),
            call("put", b"2", None, 0, 9),
            call("get", None, b"1", 10, 11),
        ],
        True,
    ),
    "seen, then not": (
        [
            call("put", b"1", None, 0, 9),
            call("get", None, b"1", 1, 2),
            call("get", None, None, 3, 4),
        ],
        False,
    ),
    "a delete": (
        [
            call("put", b"1", None, 0, 1),
            call("delete", None, None, 2, 3),
            call("get", None, None, 4, 5),
        ],
        True,
    ),
    "two winners of one compare_and_set": (
        [
            call("compare_and_set", (None, b"1"), True, 0, 5),
            call("compare_and_set", (None, b"2"), True, 0, 5),
        ],
        False,
    ),
    "a loser that nobody beat": ([call("compare_and_set", (None, b"1"), False, 0, 5)], False),
    "the same sum twice": (
        [call("add", 1, 1, 0, 5), call("add", 1, 1, 0, 5)],
        False,
    ),
    "sums": (
        [call("add", 1, 2, 0, 5), call("add", 1, 1, 0, 5), call("get", None, b"2", 6, 7)],
        True,
    ),
    "unanswered, and it happened": (
        [call("put", b"1", None, 0, NEVER), call("get", None, b"1", 5, 6)],
        True,
    ),
    "unanswered, and it did not": (
        [call("put", b"1", None, 0, NEVER), call("get", None, None, 5, 6)],
        True,
    ),
    "unanswered, and it came and went": (
        [
            call("put", b"1", None, 0, NEVER),
            call("get", None, b"1", 5, 6),
            call("get", None, None, 7, 8),
        ],
        False,
    ),
    "keys don't matter to each other": (
        [call("put", b"1", None, 0, 1), call("get", None, None, 2, 3, b"other")],
        True,
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linearizability_is_judged_right(name: str) -> None:
    calls, explained = LINEAR[name]
    assert (lin.first_unexplained(calls) is None) is explained


def test_a_long_concurrent_history_is_judged_and_one_wrong_answer_in_it_is_found() -> None:
    rng = random.Random(3)
    held: bytes | None = None
    calls = []
    for moment in range(2000):
        # Each takes effect at its moment, and lasts over up to six others.
        begin, end = 10 * moment - rng.randint(0, 30), 10 * moment + rng.randint(1, 30)
        match rng.randint(0, 3):
            case 0:
                held = b"%d" % moment
                calls.append(call("put", held, None, begin, end))
            case 1:
                calls.append(call("get", None, held, begin, end))
            case 2:
                held = b"%d" % (int(held or b"0") + 3)
                calls.append(call("add", 3, int(held), begin, end))
            case _:
                calls.append(call("compare_and_set", (held, b"7"), True, begin, end))
                held = b"7"
    assert lin.first_unexplained(calls) is None
    at = next(i for i in range(1000, 2000) if calls[i].name == "add")
    wrong = call("add", 3, 10**9, calls[at].begin_ns, calls[at].end_ns)
    assert lin.first_unexplained([*calls[:at], wrong, *calls[at + 1 :]]) is not None
