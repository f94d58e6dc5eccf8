"""Operations that are made before the clock starts, so that making them isn't measured.

A client first works for a moment without being measured, which warms the store up and shows how
fast it is; then it makes about as many operations as it will need. If it needs more it begins anew
with the first, or, where nothing can be done twice, makes more while the clock stands still for it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ferrisdb.bench.chunk import Chunk, Clock
from ferrisdb.bench.operations import ONCE, VALUED, Kind, Role
from ferrisdb.bench.stream import Stream

CHUNK_MIN: Final = 4
CHUNK_MAX: Final = 1024
CHUNK_NS: Final = 5_000_000
"""A chunk grows until it takes about that long."""

KEY_COST_BYTES: Final = 64
VALUE_COST_BYTES: Final = 48
"""What a key takes as an object, and a value beyond its length."""

POOL_BYTES: Final = 512 << 20
"""All clients together have no more operations ready than that."""

POOL_OPERATIONS_MAX: Final = 600_000
"""More of them than this would be no other load: it is far beyond a processor's caches."""

RESERVE: Final = 1.5
"""A client may be faster than it was while others began."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a client is, and how many operations its chunks have for that."""

    chunk_operations: int = 256
    operation_ns: float = 2_500.0


def warm_up(stream: Stream, until_ns: int, clock: Clock = time.perf_counter_ns) -> Pace:
    """Do operations until a moment, compare all that they return, and see how fast they are.

    Raises:  WrongAnswer, and what the engine raises.
    """
    count, pace = CHUNK_MIN, Pace()
    # What is made is also done: later operations may read what these insert.
    while clock() < until_ns:
        chunk = stream.chunk(count)
        if not chunk.keys:
            break
        stamps = array("q")
        begin, kept = chunk.run_and_keep(stamps, clock)
        stream.note(chunk, len(kept))
        stream.check(chunk, kept)
        took = stamps[-1] - begin
        pace = Pace(count, max(took / len(kept), 1.0))
        if took < CHUNK_NS // 2:
            count = min(count * 2, CHUNK_MAX)
        elif took > CHUNK_NS * 2:
            count = max(count // 2, 1)
    return pace


class Pool:
    """Operations of one client."""

    def __init__(
        self,
        stream: Stream,
        role: Role,
        pace: Pace,
        *,
        seconds: float,
        value_bytes: int,
        clients: int,
    ) -> None:
        """Make what the client will need in so many seconds."""
        self._stream = stream
        self._chunk_operations = pace.chunk_operations
        self._cycles = ONCE.isdisjoint(role.kinds)
        wanted = seconds * 1e9 / pace.operation_ns * RESERVE
        affordable = POOL_BYTES / clients / operation_bytes(role, value_bytes)
        count = int(min(wanted, affordable, POOL_OPERATIONS_MAX)) + 1
        #: What is ready.
        self.held: list[Chunk] = []
        while count > 0:
            chunk = stream.chunk(min(self._chunk_operations, count))
            if not chunk.keys:
                break
            self.held.append(chunk)
            count -= len(chunk.keys)

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunks without end, or until there is nothing left to delete."""
        while self.held:
            yield from self.held
            if not self._cycles:
                break
        while (chunk := self._stream.chunk(self._chunk_operations)).keys:
            yield chunk


def operation_bytes(role: Role, value_bytes: int) -> float:
    """Return how much memory one of a role's operations takes while it is ready."""
    row_bytes = KEY_COST_BYTES + VALUE_COST_BYTES + value_bytes
    if Kind.BATCH in role.kinds:
        return float(row_bytes * role.batch_rows)
    total = sum(share for _, share in role.shares)
    valued = sum(share for kind, share in role.shares if kind in VALUED) / total
    return KEY_COST_BYTES + valued * (VALUE_COST_BYTES + value_bytes)
