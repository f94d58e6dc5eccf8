"""What clients do: kinds of operations, and roles that mix them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ferrisdb.bench.scale import THETA


class Kind(StrEnum):
    """One kind of operation; its value is its name in results."""

    READ = "read"
    #: Reads a key that is not there.
    MISS = "read-missing"
    UPDATE = "update"
    INSERT = "insert"
    DELETE = "delete"
    #: Reads rows from a key on.
    SCAN = "scan"
    #: Reads a value and writes another one; not a transaction.
    MODIFY = "read-modify-write"
    #: The same as one transaction, on one of the hot keys.
    TRANSACTION = "transaction"
    #: Writes many rows as one.
    BATCH = "batch"
    #: Reads the next hundred rows of all, in key order.
    NEXT_ROWS = "next-rows"
    #: The same, from the last row on.
    PREVIOUS_ROWS = "previous-rows"


WRITES = frozenset(
    {Kind.UPDATE, Kind.INSERT, Kind.DELETE, Kind.MODIFY, Kind.TRANSACTION, Kind.BATCH}
)
SCANS = frozenset({Kind.SCAN, Kind.NEXT_ROWS, Kind.PREVIOUS_ROWS})

VALUED = frozenset({Kind.UPDATE, Kind.INSERT, Kind.MODIFY})
"""What comes with one new value."""

ONCE = VALUED | {Kind.DELETE, Kind.BATCH}
"""What can't be done a second time as it is: a store may notice that a value is the one it has, and
SQLite does not even sync then.
"""

NEXT_ROW_COUNT = 100
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a client does.

    Shape:   shares, of its operations, by kind; they are scaled to 1.
    """

    shares: tuple[tuple[Kind, float], ...]
    #: How keys that are there are chosen: one of `scale.DISTRIBUTIONS`.
    choice: str = "uniform"
    theta: float = THETA
    #: Rows of a scan: 1 to so many, or always so many.
    scan_rows: int = 100
    scans_vary: bool = True
    #: Keys that transactions choose from.
    hot_keys: int = 1
    batch_rows: int = BATCH_ROWS
    #: "os" or "sync"; None: what the cell says.
    durability: str | None = None
    #: Before the kind's name in results, where roles of one workload do the same.
    label: str = ""
    #: Operations a second of this client, in an open loop, whatever the others do.
    rate_per_s: float | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of its operations."""
        return tuple(kind for kind, _ in self.shares)

    @property
    def writes(self) -> bool:
        """Whether it writes."""
        return not WRITES.isdisjoint(self.kinds)

    def name_of(self, kind: Kind) -> str:
        """Return a kind's name in results."""
        return f"{self.label}-{kind.value}" if self.label else kind.value


def only(kind: Kind) -> tuple[tuple[Kind, float], ...]:
    """Return the shares of a role that does nothing else."""
    return ((kind, 1.0),)
