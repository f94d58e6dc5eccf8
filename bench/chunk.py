"""Some operations of one client, ready to be done, and the loop that does them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.operations import Kind

Call = Callable[..., Any]
Stamps = npt.NDArray[np.int64]


@dataclass(slots=True)
class Chunk:
    """Operations in their order: each is a call with a key, and with an extra if that isn't None.

    Shape:   calls, one if all are of one kind, or one for each operation; extras, one for each
             operation, or None if no call takes one; places, the index in `kinds` of each.
    """

    kinds: tuple[Kind, ...]
    places: npt.NDArray[np.intp] | None
    calls: Call | list[Call]
    keys: list[bytes]
    extras: list[Any] | None

    def kind_of(self, index: int) -> Kind:
        """Return the kind of an operation."""
        return self.kinds[0 if self.places is None else int(self.places[index])]

    def run(self, clock: Callable[[], int] = time.perf_counter_ns) -> tuple[int, Stamps, list[Any]]:
        """Do all of them, one behind the other.

        Returns: the time at which the first began, when each was over, and what each returned.
        Cost:    beside the calls, one look at the clock and two appends an operation.
        """
        stamps: list[int] = []
        kept: list[Any] = []
        stamp, keep = stamps.append, kept.append
        calls, keys, extras = self.calls, self.keys, self.extras
        begin = clock()
        if isinstance(calls, list):
            for call, key, extra in zip(calls, keys, extras or [None] * len(keys), strict=True):
                keep(call(key) if extra is None else call(key, extra))
                stamp(clock())
        elif extras is None:
            for key in keys:
                keep(calls(key))
                stamp(clock())
        else:
            for key, extra in zip(keys, extras, strict=True):
                keep(calls(key, extra))
                stamp(clock())
        return begin, np.array(stamps, dtype=np.int64), kept

    def one(self, index: int) -> Any:
        """Do one of them."""
        call = self.calls[index] if isinstance(self.calls, list) else self.calls
        extra = None if self.extras is None else self.extras[index]
        return call(self.keys[index]) if extra is None else call(self.keys[index], extra)
