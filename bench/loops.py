"""Do a client's operations for a time: one behind the other, or on a schedule.

In a **closed loop** an operation begins when the last one is over. In an **open loop** it has the
moment at which it is meant to begin, and its latency runs from that moment, whenever it really
began: if the engine stalls, everything that waited behind the stall has waited, too. Otherwise a
stall of a second would be one slow operation, which is known as coordinated omission (Gil Tene;
wrk2).

Operations are made before, and what they returned is compared afterwards. Where that can't be, the
time that it takes is not counted (`Tally.active_ns`).

All times are of the monotonic clock, in ns, and are the same in every process.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.chunk import Chunk, Clock
from ferrisdb.bench.operations import SCANS, Kind, Role
from ferrisdb.bench.pool import Pool
from ferrisdb.bench.stream import Stream
from ferrisdb.bench.task import Tally

Times = npt.NDArray[np.int64]

COMPARED: Final = 20_000
COMPARED_SCANS: Final = 2_000
"""So many of a client's operations are compared, or somewhat more; all, if they are fewer."""

OPEN_CHUNK: Final = 4096

SPUN_NS: Final = 100_000
"""So long before an operation's moment, waiting stops to sleep: a sleep may end late."""

_AT_ONCE: Final = frozenset({Kind.NEXT_ROWS, Kind.PREVIOUS_ROWS})
"""What returns so much that it can't be kept until all is over."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a cell begins, when it begins to count, and when it ends."""

    begin_ns: int
    count_ns: int
    end_ns: int


def closed_loop(
    stream: Stream,
    pool: Pool,
    role: Role,
    window: Window,
    tally: Tally,
    *,
    compared_every: int = 1,
    counts_rows: bool = False,
    clock: Clock = time.perf_counter_ns,
) -> None:
    """Do operations one behind the other until the window ends.

    Shape:   compared_every, how many chunks come to one that is compared.
    Raises:  WrongAnswer, and what the engine raises.
    """
    at_once = not _AT_ONCE.isdisjoint(role.kinds)
    stamps: array[int] = array("q")
    begins: list[int] = []
    done: list[Chunk] = []
    compared: list[tuple[Chunk, list[Any]]] = []
    rows = 0
    for chunk in pool.chunks():
        # Whoever gets no processor all the time does one chunk nevertheless.
        if done and clock() >= window.end_ns:
            break
        if at_once:
            begin, kept = chunk.run_and_keep(stamps, clock)
            stream.check(chunk, kept)
            rows += sum(map(len, kept))
        elif len(done) % compared_every == 0:
            begin, kept = chunk.run_and_keep(stamps, clock)
            compared.append((chunk, kept))
        else:
            begin = chunk.run(stamps, clock)
        begins.append(begin)
        done.append(chunk)
        stream.note(chunk, len(chunk.keys))
    _count_all(tally, role, done, begins, np.array(stamps, dtype=np.int64))
    if counts_rows:
        tally.operations = rows or sum(_batch_rows(chunk) for chunk in done)
    for chunk, kept in compared:
        stream.check(chunk, kept)


def comparing(role: Role, operations: float, chunk_operations: int) -> int:
    """Return how many chunks come to one that is compared, if so many operations are expected."""
    wanted = COMPARED if SCANS.isdisjoint(role.kinds) else COMPARED_SCANS
    return max(int(operations / max(wanted, chunk_operations)), 1)


def _count_all(
    tally: Tally, role: Role, done: list[Chunk], begins: list[int], stamps: Times
) -> None:
    """Count the operations of a closed loop."""
    if not done:
        return
    sizes = np.array([len(chunk.keys) for chunk in done])
    ends = np.cumsum(sizes)
    before = np.empty_like(stamps)
    before[1:] = stamps[:-1]
    before[ends - sizes] = begins
    _count(tally, role, done, stamps - before)
    tally.active_ns += int((stamps[ends - 1] - np.array(begins)).sum())
    tally.operations += len(stamps)


def _batch_rows(chunk: Chunk) -> int:
    assert chunk.extras is not None and chunk.kinds[0] is Kind.BATCH
    return sum(len(batch) for batch in chunk.extras)


def open_loop(
    stream: Stream,
    chunks: list[Chunk],
    role: Role,
    window: Window,
    tally: Tally,
    *,
    rate_per_s: float,
    offset: float,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do operations at the moments of a schedule until the window ends.

    Shape:   chunks, of OPEN_CHUNK operations each but the last, enough of them; offset, of the
             first operation, in intervals, so that clients don't all start at once.
    Raises:  WrongAnswer, and what the engine raises.
    """
    interval_ns = 1e9 / rate_per_s
    first_ns = window.begin_ns + offset * interval_ns
    every = max(sum(len(chunk.keys) for chunk in chunks) // COMPARED, 1)
    compared: list[tuple[Chunk, list[Any]]] = []
    last_ns = window.end_ns
    for number, chunk in enumerate(chunks):
        steps = np.arange(len(chunk.keys)) + number * OPEN_CHUNK
        intended = (first_ns + interval_ns * steps).astype(np.int64)
        ends, kept = _on_schedule(chunk, intended.tolist(), window.end_ns, clock, sleep, every)
        done = len(ends)
        if done:
            last_ns = max(last_ns, int(ends[-1]))
        counted = intended[:done] >= window.count_ns
        _count(tally, role, [chunk], ends - intended[:done], counted)
        # Where it is late, some that were meant to begin before are done within the window.
        tally.operations += int((ends > window.count_ns).sum())
        stream.note(chunk, done)
        compared.append((chunk, kept))
        if done < len(chunk.keys):
            # Those whose moment has come have waited until now, if not longer.
            waiting = intended[done:]
            waiting = waiting[(waiting < window.end_ns) & (waiting >= window.count_ns)]
            tally.histogram(role.name_of(role.kinds[0])).add_many(window.end_ns - waiting)
            break
    tally.active_ns += last_ns - window.count_ns
    for chunk, kept in compared:
        stream.check(chunk, kept)


def _on_schedule(
    chunk: Chunk,
    intended: list[int],
    end_ns: int,
    clock: Clock,
    sleep: Callable[[float], None],
    every: int,
) -> tuple[Times, list[Any]]:
    """Do a chunk's operations, none before its moment and none behind the end.

    Returns: when each was over, and what the first of them returned, one in `every`.
    """
    ends: list[int] = []
    kept: list[Any] = []
    kept_max = -(-len(intended) // every)
    for index, moment in enumerate(intended):
        now = clock()
        if now >= end_ns or moment >= end_ns:
            break
        while now < moment:
            if moment - now > SPUN_NS:
                sleep((moment - now - SPUN_NS) / 1e9)
            now = clock()
        found = chunk.one(index)
        ends.append(clock())
        if index < kept_max:
            kept.append(found)
    return np.array(ends, dtype=np.int64), kept


def _count(
    tally: Tally,
    role: Role,
    chunks: list[Chunk],
    latencies: Times,
    counted: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Count latencies of chunks' operations, by kind."""
    kinds = role.kinds
    places = None
    if len(kinds) > 1:
        places = np.concatenate([chunk.places for chunk in chunks if chunk.places is not None])
        places = places[: len(latencies)]
    for at, kind in enumerate(kinds):
        which = counted
        if places is not None:
            which = places == at if counted is None else (places == at) & counted
        part = latencies if which is None else latencies[which]
        if part.size:
            tally.histogram(role.name_of(kind)).add_many(part)
