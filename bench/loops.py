"""Do a client's operations for a time: one behind the other, or on a schedule.

In a **closed loop** an operation begins when the last one is over. Keys and values are made, and
what was read is compared, between chunks; that time counts for nothing, so that the rate is what
the engine does and not the generator. In an **open loop** an operation has the moment at which it
is meant to begin, and its latency runs from that moment, whenever it really began: if the engine
stalls, everything that waited behind the stall has waited, too. Otherwise a stall of a second would
be one slow operation, which is known as coordinated omission (Gil Tene; wrk2).

All times are of the monotonic clock, in ns, and are the same in every process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.chunk import Chunk
from ferrisdb.bench.operations import Kind, Role
from ferrisdb.bench.stream import Stream
from ferrisdb.bench.task import Tally

CHUNK_MIN: Final = 4
CHUNK_MAX: Final = 1024
CHUNK_NS: Final = 5_000_000
"""A chunk grows until it takes about that long."""

FAST_NS: Final = 10_000
COMPARED_EVERY: Final = 8
"""Of operations that take less than FAST_NS one in so many is compared; of others, each."""

OPEN_CHUNK: Final = 4096
COMPARED_OPEN: Final = 20_000
"""In an open loop about so many are compared, when it is over."""

SPUN_NS: Final = 100_000
"""So long before an operation's moment, waiting stops to sleep: a sleep may end late."""


@dataclass(frozen=True, slots=True)
class Window:
    """When a cell begins, when it begins to count, and when it ends."""

    begin_ns: int
    count_ns: int
    end_ns: int


def closed_loop(
    stream: Stream,
    role: Role,
    window: Window,
    tally: Tally,
    *,
    counts_rows: bool = False,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> None:
    """Do operations one behind the other until the window ends.

    Raises:  WrongAnswer, and what the engine raises.
    """
    count, compared_every = CHUNK_MIN, 1
    while True:
        chunk = stream.chunk(count)
        begin = clock()
        if begin >= window.end_ns or not chunk.keys:
            return
        begin, stamps, kept = chunk.run(clock)
        took = int(stamps[-1]) - begin
        if begin >= window.count_ns:
            latencies = np.diff(stamps, prepend=begin)
            _note(tally, role, chunk, latencies)
            tally.active_ns += took
            tally.operations += _rows(chunk, kept) if counts_rows else len(kept)
        stream.check(chunk, kept, compared_every)
        compared_every = 1 if took > count * FAST_NS else COMPARED_EVERY
        if took < CHUNK_NS // 2:
            count = min(count * 2, CHUNK_MAX)
        elif took > CHUNK_NS * 2:
            count = max(count // 2, 1)


def open_loop(
    stream: Stream,
    role: Role,
    window: Window,
    tally: Tally,
    *,
    rate_per_s: float,
    offset: float,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do operations at the moments of a schedule until the window ends.

    Shape:   offset, of the first operation, in intervals, so that clients don't all start at once.
    Raises:  WrongAnswer, and what the engine raises.
    """
    interval_ns = 1e9 / rate_per_s
    total = max(int((window.end_ns - window.begin_ns) / interval_ns - offset) + 1, 1)
    # All of them are made before the first moment: making some later would delay others.
    chunks = [stream.chunk(min(OPEN_CHUNK, total - at)) for at in range(0, total, OPEN_CHUNK)]
    every = max(total // COMPARED_OPEN, 1)
    compared: list[tuple[Chunk, list[Any]]] = []
    first_ns = window.begin_ns + offset * interval_ns
    last_ns = clock()
    for number, chunk in enumerate(chunks):
        intended = (
            first_ns + interval_ns * (np.arange(len(chunk.keys)) + number * OPEN_CHUNK)
        ).astype(np.int64)
        ends, kept = _on_schedule(chunk, intended.tolist(), window.end_ns, clock, sleep)
        done = len(ends)
        last_ns = ends[-1] if ends else last_ns
        ended = np.array(ends, dtype=np.int64)
        counted = intended[:done] >= window.count_ns
        _note(tally, role, chunk, ended - intended[:done], counted)
        # Where it is late, some that were meant to begin before are done within the window.
        tally.operations += int((ended > window.count_ns).sum())
        compared.append((chunk, kept))
        if done < len(chunk.keys):
            # Those whose moment has come have waited until now, if not longer.
            waiting = intended[done:][intended[done:] < window.end_ns]
            late = np.maximum(window.end_ns - waiting[waiting >= window.count_ns], 0)
            tally.histogram(role.name_of(role.kinds[0])).add_many(late)
            break
    tally.active_ns += max(last_ns, window.end_ns) - window.count_ns
    for chunk, kept in compared:
        stream.check(chunk, kept, every)


def _on_schedule(
    chunk: Chunk,
    intended: list[int],
    end_ns: int,
    clock: Callable[[], int],
    sleep: Callable[[float], None],
) -> tuple[list[int], list[Any]]:
    """Do a chunk's operations, none before its moment and none behind the end."""
    ends: list[int] = []
    kept: list[Any] = []
    for index, moment in enumerate(intended):
        now = clock()
        if now >= end_ns or moment >= end_ns:
            break
        while now < moment:
            if moment - now > SPUN_NS:
                sleep((moment - now - SPUN_NS) / 1e9)
            now = clock()
        kept.append(chunk.one(index))
        ends.append(clock())
    return ends, kept


def _note(
    tally: Tally,
    role: Role,
    chunk: Chunk,
    latencies: npt.NDArray[np.int64],
    counted: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Count latencies, by kind."""
    for at, kind in enumerate(chunk.kinds):
        which = counted
        if chunk.places is not None:
            mine = chunk.places[: len(latencies)] == at
            which = mine if counted is None else mine & counted
        part = latencies if which is None else latencies[which]
        if part.size:
            tally.histogram(role.name_of(kind)).add_many(part)


def _rows(chunk: Chunk, kept: list[Any]) -> int:
    """Return how many rows a chunk has read or written."""
    if chunk.kinds[0] is Kind.BATCH and chunk.extras is not None:
        return sum(len(batch) for batch in chunk.extras)
    return sum(len(rows) for rows in kept)
