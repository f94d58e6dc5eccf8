"""How large a run is: everything about it that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

THETA: Final = 0.99
"""Of Zipf's law, as YCSB has it."""

DISTRIBUTIONS: Final = ("uniform", "zipfian", "latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The parameters of a run.

    Shape:   None: what each workload has by itself.
    """

    #: Rows of each data set.
    keys: int = 1_000_000
    #: Of db_bench's rows, and of YCSB's, whose ten fields of 100 bytes are one value here.
    value_bytes: int = 100
    record_bytes: int = 1000
    #: Of a cell, and what it runs before it counts.
    seconds: float = 2.0
    warm_s: float = 0.2
    #: Of the workloads that matter most; of the others there is one.
    rounds: int = 2
    clients: tuple[int, ...] | None = None
    durabilities: tuple[str, ...] | None = None
    #: All clients together; makes every loop an open one.
    rate_per_s: float | None = None
    seed: int = 1
    distribution: str | None = None
    theta: float = THETA
    #: Rows of YCSB E's scans, at most; and of seekrandom's, always.
    scan_rows: int = 100
    seek_rows: int = 50
    #: How many keys transactions contend for.
    hot_keys: tuple[int, ...] = (1, 100, 10_000)
    quick: bool = False


QUICK = Scale(keys=30_000, seconds=0.5, warm_s=0.1, rounds=1, quick=True)
"""Small enough for all engines in two minutes."""
