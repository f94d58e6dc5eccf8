"""One measured cell of a run, and its line of `results.jsonl`.

A run's file holds JSON objects, one a line: first the machine (`"kind": "machine"`), then cells as
they are measured. A cell whose engine answered wrongly, failed, or can't do the workload is of the
kind "wrong" and says why; it is shown and never averaged with others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple


class CellKey(NamedTuple):
    """What the cells of all engines and rounds share that are compared with each other."""

    workload: str
    clients: int
    durability: str
    loop: str
    target_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One workload on one engine, once.

    Units:   latencies in µs, by kind of operation.
    """

    workload: str
    title: str
    engine: str
    clients: int
    #: "os" or "sync": when a write counts as done.
    durability: str
    #: "closed": a client's next operation follows its last; "open": it starts on a schedule.
    loop: str = "closed"
    #: All clients together; None in a closed loop.
    target_per_s: float | None = None
    round: int = 0
    seconds: float = 0.0
    operations: int = 0
    rate_per_s: float = 0.0
    #: What is counted: "operation" or "row".
    unit: str = "operation"
    errors: int = 0
    #: How many values were compared with what they had to be.
    verified: int = 0
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    #: Of all its operations: a file's name beside results.jsonl.
    histogram: str | None = None
    #: What else there is to know of it.
    note: str | None = None
    #: None: the cell counts. Otherwise what is wrong with it.
    why: str | None = None

    @property
    def key(self) -> CellKey:
        """What it is compared by."""
        return CellKey(self.workload, self.clients, self.durability, self.loop, self.target_per_s)

    def to_json(self) -> dict[str, Any]:
        """Return its JSON object."""
        row = asdict(self)
        if self.why is None:
            del row["why"]
        return {"kind": "cell" if self.why is None else "wrong", **row}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Cell:
        """Return the cell of a JSON object; names that later versions may add are left out.

        Raises:  ValueError, it isn't a cell's.
        """
        if row.get("kind") not in ("cell", "wrong"):
            raise ValueError(f"not a cell: {row.get('kind')!r}")
        known = {each.name for each in fields(cls)}
        try:
            return cls(**{name: value for name, value in row.items() if name in known})
        except TypeError as error:
            raise ValueError(f"not a whole cell: {error}") from None
