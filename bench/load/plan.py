"""What a load is to do: one plan for all clients, which each reads with its own number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ferrisdb.bench.load.target import Target

DISTRIBUTIONS: Final = ("zipfian", "uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load."""

    target: Target
    #: "sync" or "os"; None: as the service has it (attached: "sync").
    durability: str | None
    #: Longest that an operation may take, and that one may be late in an open loop.
    timeout_s: float
    clients: int
    #: Not counted.
    warm_up_s: float
    seconds: float
    #: Of all clients together; None: a closed loop.
    rate_per_s: float | None
    read_ratio: float
    distribution: str
    theta: float
    #: Share of the values read that are compared.
    verify_ratio: float
    key_count: int
    value_bytes: int
    #: Of every key that is written.
    prefix: bytes
    seed: int

    @property
    def second_count(self) -> int:
        """How many seconds the timeline has."""
        return max(-int(-self.seconds // 1), 1)
