"""What a client is asked to do in one cell, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ferrisdb.bench.budget.memory_group import MemoryGroup
from ferrisdb.bench.histogram import Histogram
from ferrisdb.bench.operations import Role


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine's data lies."""

    #: As `engines.engine_named` takes it.
    engine: str
    folder: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is in a store, as the runner knows it.

    Shape:   numbers from `deleted` to below `loaded` are there, with version 0 or a later one; what
             was inserted has numbers from `loaded` to below `next_number`, and not all of these
             are there.
    """

    value_bytes: int
    loaded: int
    next_number: int
    deleted: int = 0
    compressible: bool = True
    #: Keys are in the order of their numbers.
    sequential: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One client's part of a cell.

    Units:   seconds of the monotonic clock.
    """

    place: Place
    rows: Rows
    role: Role
    durability: str
    #: Which of the `clients` it is.
    client: int
    clients: int
    seed: tuple[int, ...]
    #: Any of the clients writes.
    writers: bool
    #: It is the only one that writes: what it reads again must be what it wrote last.
    writes_alone: bool
    #: What its memory is limited by.
    group: MemoryGroup | None = None
    #: Rows are counted, not operations.
    counts_rows: bool = False
    warm_s: float
    seconds: float
    #: Operations a second of this client, in an open loop; None: a closed one.
    rate_per_s: float | None = None


@dataclass(slots=True)
class Tally:
    """What a client has measured.

    Units:   active_ns is the time in which it was not making keys or checking values.
    """

    latencies: dict[str, Histogram] = field(default_factory=dict)
    #: Operations, or rows where a workload counts rows.
    operations: int = 0
    active_ns: int = 0
    verified: int = 0
    #: Keys that it has inserted, and deleted.
    inserted: int = 0
    deleted: int = 0
    #: Transactions that had committed, warm-up included; and attempts that had not.
    committed: int = 0
    retries: int = 0
    #: Seconds that a load's compaction took behind it.
    settled_s: float = 0.0

    def histogram(self, name: str) -> Histogram:
        """Return the histogram of a name, a new one if there is none."""
        found = self.latencies.get(name)
        if found is None:
            found = self.latencies[name] = Histogram()
        return found

    @property
    def rate_per_s(self) -> float:
        """Operations a second of the time in which it was active."""
        return self.operations / (self.active_ns / 1e9) if self.active_ns else 0.0


class WrongAnswer(Exception):
    """An engine returned what nobody wrote; the message says what."""
