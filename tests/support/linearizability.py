"""Judge the calls on single keys: is there an order, within each call's time, that explains them?

Keys are judged one by one, since a history is linearizable if each key's is. For each key the
search takes, at every point, one of the calls that have begun before any pending one ended, and
goes back where the answers don't fit; states that were reached before are not searched again.

Source: Wing and Gong, "Testing and Verifying Concurrent Objects", 1993; memoised as by Lowe,
"Testing for linearizability", 2017; by keys: P-compositionality, Horn and Kroening 2015.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Name = Literal["get", "put", "delete", "compare_and_set", "add"]
Held = bytes | None
NEVER = 1 << 62


@dataclass(frozen=True)
class Call:
    """A call with its answer; `end_ns` is NEVER if it was not answered: it may have happened."""

    name: Name
    key: bytes
    argument: bytes | tuple[Held, Held] | int | None
    answer: bytes | bool | int | None
    begin_ns: int
    end_ns: int


def apply(call: Call, held: Held) -> tuple[bool, Held]:
    """Return whether a call's answer fits a key that holds this, and what it holds then."""
    known = call.end_ns != NEVER
    argument = call.argument
    if call.name == "get":
        return (not known or call.answer == held), held
    if call.name == "put":
        assert isinstance(argument, bytes)
        return True, argument
    if call.name == "delete":
        return True, None
    if call.name == "compare_and_set":
        assert isinstance(argument, tuple)
        fits = held == argument[0]
        return (not known or call.answer is fits), argument[1] if fits else held
    assert isinstance(argument, int)
    total = int(held or b"0") + argument
    return (not known or call.answer == total), b"%d" % total


def first_unexplained(calls: Iterable[Call]) -> tuple[bytes, list[Call]] | None:
    """Return a key with calls that no order explains, None if all of them are explained."""
    by_key: dict[bytes, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    for key, own in by_key.items():
        own.sort(key=lambda call: call.begin_ns)
        if not _explained(own):
            return key, own
    return None


def _explained(calls: Sequence[Call]) -> bool:
    """Search depth first, without recursion, over (calls done beyond a front, state)."""
    count = len(calls)
    # done: those below `front` are all done; `beyond` holds the others.
    seen: set[tuple[int, frozenset[int], Held]] = set()
    stack: list[tuple[int, frozenset[int], Held]] = [(0, frozenset(), None)]
    while stack:
        front, beyond, held = stack.pop()
        while front in beyond:
            beyond = beyond - {front}
            front += 1
        state = (front, beyond, held)
        if state in seen:
            continue
        seen.add(state)
        if _only_pending(calls, front, beyond):
            return True
        earliest_end = NEVER
        for index in range(front, count):
            call = calls[index]
            if call.begin_ns > earliest_end:
                break
            if index in beyond:
                continue
            earliest_end = min(earliest_end, call.end_ns)
            fits, after = apply(call, held)
            if fits:
                stack.append((front, beyond | {index}, after))
    return False


def _only_pending(calls: Sequence[Call], front: int, beyond: frozenset[int]) -> bool:
    # From the end: what is left undone mostly lies there, so this is short.
    return all(
        index in beyond or calls[index].end_ns == NEVER
        for index in range(len(calls) - 1, front - 1, -1)
    )
