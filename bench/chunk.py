"""Some operations of one client, ready to be done, and the loop that does them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrisdb.bench.operations import Kind

Call = Callable[..., Any]
Clock = Callable[[], int]


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

    def run(self, stamps: array[int], clock: Clock = time.perf_counter_ns) -> int:
        """Do all of them, one behind the other; returns the time at which the first began.

        Shape:   stamps, of 64-bit numbers, gets the time at which each was over.
        Cost:    beside the calls, one look at the clock and one append an operation.
        """
        stamp = stamps.append
        calls, keys, extras = self.calls, self.keys, self.extras
        begin = clock()
        if isinstance(calls, list):
            for call, key, extra in zip(calls, keys, extras or [None] * len(keys), strict=True):
                if extra is None:
                    call(key)
                else:
                    call(key, extra)
                stamp(clock())
        elif extras is None:
            for key in keys:
                calls(key)
                stamp(clock())
        else:
            for key, extra in zip(keys, extras, strict=True):
                calls(key, extra)
                stamp(clock())
        return begin

    def run_and_keep(
        self, stamps: array[int], clock: Clock = time.perf_counter_ns
    ) -> tuple[int, list[Any]]:
        """Do the same, and return also what each of them returned."""
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
        return begin, kept

    def one(self, index: int) -> Any:
        """Do one of them."""
        call = self.calls[index] if isinstance(self.calls, list) else self.calls
        extra = None if self.extras is None else self.extras[index]
        return call(self.keys[index]) if extra is None else call(self.keys[index], extra)
