"""What the rewrite benchmark writes and what its readers may see: keys, values, states.

Key number n is 16 hex digits of a mix of n: keys are distinct and come in random order. Operation
g on a key has generation g; a value is its key and its generation, five times over. Two arrays,
shared through files, say for each key what was sent and what was acknowledged: generation * 2,
plus 1 where it was a delete; 0: nothing yet. So a reader knows what it may see at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import ferrisdb

KEY_BYTES: Final = 16
VALUE_BYTES: Final = 100
ENTRY_BYTES: Final = KEY_BYTES + VALUE_BYTES
_COPIES: Final = 5
STATE_MAX: Final = 255

States = npt.NDArray[np.uint8]


def mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a permutation of 64-bit numbers (the finalizer of splitmix64)."""
    with np.errstate(over="ignore"):
        z = numbers + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def keys_of(numbers: npt.NDArray[np.uint64]) -> list[bytes]:
    """Return the keys of key numbers."""
    return digits_of(mixed(numbers))


def digits_of(numbers: npt.NDArray[np.uint64]) -> list[bytes]:
    """Return the 16 hex digits of each number."""
    digits = numbers.astype(">u8").tobytes().hex().encode()
    # Much faster than cutting it in a loop.
    found: list[bytes] = np.frombuffer(digits, dtype=f"S{KEY_BYTES}").tolist()
    return found


def value_of(key: bytes, state: int) -> bytes:
    """Return the value that the put with this state wrote."""
    return (key + b"%04x" % state) * _COPIES


def state_of(key: bytes, value: bytes | None) -> int | None:
    """Return the state that a value tells; None: a value that nobody wrote."""
    if value is None:
        return 0
    try:
        state = int(value[KEY_BYTES : KEY_BYTES + 4], 16)
    except ValueError:
        return None
    return state if value == value_of(key, state) else None


def may_be_seen(acked: int, sent: int, seen: int) -> bool:
    """Tell whether a read may show state `seen` (0: no value).

    Shape: acked, before the read began; sent, when it was over.
    """
    if seen:
        return acked <= seen <= sent and not seen & 1
    # Nothing yet, or the delete that was acknowledged, or maybe one that was under way.
    return acked == 0 or acked & 1 == 1 or sent > acked


@dataclass(frozen=True, slots=True)
class Mix:
    """What is written: operations, and which parts of them rewrite keys."""

    operations: int
    overwrites: float = 0.2
    deletes: float = 0.1
    batch_rows: int = 1000
    seed: int = 1


class Written:
    """The two arrays of states."""

    def __init__(self, folder: Path, key_count: int) -> None:
        """Map them; made of zeros where they are not there yet."""
        self.sent = _mapped(folder / "sent", key_count)
        self.acked = _mapped(folder / "acked", key_count)

    def live(self) -> npt.NDArray[np.uint64]:
        """Return the numbers of the live keys, in key order."""
        numbers = np.flatnonzero((self.acked != 0) & (self.acked & 1 == 0)).astype(np.uint64)
        found: npt.NDArray[np.uint64] = numbers[np.argsort(mixed(numbers))]
        return found


def _mapped(path: Path, count: int) -> States:
    if not path.exists():
        path.write_bytes(bytes(count))
    return np.memmap(path, dtype=np.uint8, mode="r+", shape=(count,))


class Plan:
    """The operations, batch by batch."""

    def __init__(self, mix: Mix, written: Written) -> None:
        self._mix = mix
        self._written = written
        self._rng = np.random.default_rng(mix.seed)
        #: Keys that have been made: those below this number.
        self.made = 0

    def batches(self) -> Iterator[tuple[npt.NDArray[np.uint64], list[bytes], list[int]]]:
        """Yield for each batch key numbers, keys and the states that their operations make.

        What a batch will make is in `sent` before it is yielded; the caller stores `acked`.
        """
        mix, sent = self._mix, self._written.sent
        left = mix.operations
        while left:
            count = min(mix.batch_rows, left)
            left -= count
            draw = self._rng.random(count)
            fresh = draw >= mix.overwrites + mix.deletes
            numbers = self._rng.integers(0, max(self.made, 1), count, dtype=np.uint64)
            if not self.made:
                fresh[:] = True
            made = int(fresh.sum())
            numbers[fresh] = np.arange(self.made, self.made + made, dtype=np.uint64)
            states = []
            for number, is_new, choice in zip(
                numbers.tolist(), fresh.tolist(), draw.tolist(), strict=True
            ):
                before = int(sent[number])
                state = (before | 1) + 1 + int(not is_new and choice < mix.deletes)
                if state > STATE_MAX:
                    raise SystemExit("a key was rewritten more often than its state can say")
                sent[number] = state
                states.append(state)
            self.made += made
            yield numbers, keys_of(numbers), states


def fill(batch: ferrisdb.WriteBatch, keys: list[bytes], states: list[int]) -> int:
    """Put a plan's operations into a batch; return the bytes of their keys and values."""
    nbytes = 0
    for key, state in zip(keys, states, strict=True):
        if state & 1:
            batch.delete(key)
            nbytes += KEY_BYTES
        else:
            batch.put(key, value_of(key, state))
            nbytes += ENTRY_BYTES
    return nbytes


def check_all(db: ferrisdb.Database, written: Written) -> dict[str, Any]:
    """Scan everything and compare; nobody writes meanwhile.

    Raises: SystemExit, with the first difference.
    """
    numbers = written.live()
    states = written.acked[numbers]
    rows = db.scan()
    count = 0
    for begin in range(0, len(numbers), 10_000):
        part = numbers[begin : begin + 10_000]
        for key, state in zip(keys_of(part), states[begin : begin + 10_000].tolist(), strict=True):
            row = next(rows, None)
            if row != (key, value_of(key, state)):
                raise SystemExit(f"the scan shows {row!r} where {key!r} of state {state} belongs")
            count += 1
    more = next(rows, None)
    if more is not None:
        raise SystemExit(f"the scan shows {more!r} behind the last live key")
    return {"rows": count}
