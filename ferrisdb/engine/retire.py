"""Decide what nobody can look at any more, and how far history must be kept.

Pure: the coordinator copies the slots of all clients, asks here, and acts.

T1  A pin seen in a scan that began after the epoch moved on (store, full fence, scan) is the only
    kind that can hold an older version: whoever pins later sees the new epoch and starts over.
T2  A resource is named by the versions of a contiguous range of epochs, because file numbers
    never recur. It can go when it is out of the current version and no pin holds an epoch of
    that range; an old snapshot does not hold what came after it.
T3  A revoked pin holds nothing. Its reader checks the revocation after it has read.
T4  The floor never falls, whatever the slots say: a sequence below it in a slot belongs to a
    reader that is about to start over, or to a client gone wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from ferrisdb.shm.client import SEQ_PLAIN_READ

_FUTURE_NS: Final = 1_000_000_000
_PIN_DTYPE: Final = np.dtype(
    [
        ("client", "<u4"),
        ("slot", "<u4"),
        ("epoch", "<u8"),
        ("seq", "<u8"),
        ("now_us", "<u8"),
        ("born_ns", "<u8"),
    ]
)


class ResourceKind(IntEnum):
    """What a version names, and its own page."""

    MEMTABLE = 1
    TABLE = 2
    VERSION_PAGE = 3


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """A memtable or table by its number, a version page by its epoch."""

    kind: ResourceKind
    number: int


@dataclass(frozen=True, slots=True)
class Retired:
    """A resource out of the current version: epochs first_epoch to stop_epoch - 1 name it."""

    resource: Resource
    first_epoch: int
    stop_epoch: int


@dataclass(frozen=True, slots=True)
class Pins:
    """The valid pins of all clients at one scan, in arrays."""

    rows: npt.NDArray[np.void]

    @classmethod
    def collect(cls, clients: Iterable[tuple[int, npt.NDArray[np.void]]]) -> Pins:
        """Take the slots that hold something (T3).

        Shape: (client index, private copy of its slots: shm.client.copy_slots), living clients.
        """
        pieces = []
        for client_index, slots in clients:
            held = (slots["epoch"] != 0) & (slots["revoked"] != slots["epoch"])
            at = np.flatnonzero(held)
            if not len(at):
                continue
            piece = np.zeros(len(at), _PIN_DTYPE)
            piece["client"] = client_index
            piece["slot"] = at
            for word in ("epoch", "seq", "now_us", "born_ns"):
                piece[word] = slots[word][at]
            pieces.append(piece)
        return cls(np.concatenate(pieces) if pieces else np.zeros(0, _PIN_DTYPE))

    def epochs(self) -> npt.NDArray[np.uint64]:
        """Return the pinned epochs, ascending, each once."""
        found: npt.NDArray[np.uint64] = np.unique(self.rows["epoch"])
        return found

    def gc_floor(self, visible_seq: int, floor: int) -> int:
        """Return the sequence at or below which shadowed versions may go.

        Shape: floor, the one in force: the result is never below it (T4).
        """
        snapshots = self.rows["seq"][self.rows["seq"] != SEQ_PLAIN_READ]
        lowest = int(snapshots.min()) if len(snapshots) else visible_seq
        return max(floor, min(lowest, visible_seq))

    def now_us_floor(self, now_us: int) -> int:
        """Return the earliest frozen time of any snapshot, at most `now_us`.

        What expired before it is expired for everyone.
        """
        snapshots = self.rows["now_us"][self.rows["seq"] != SEQ_PLAIN_READ]
        return min(int(snapshots.min()), now_us) if len(snapshots) else now_us

    def too_old(self, now_ns: int, age_ns_max: int) -> list[tuple[int, int, int]]:
        """Return (client index, slot index, epoch) of each pin to revoke.

        A pin born in the future, beyond what two processors' clocks differ by, is too old too:
        otherwise a client gone wrong could hold its version for ever.
        """
        rows = self.rows
        past = max(now_ns - age_ns_max, 0)
        old = (rows["born_ns"] < past) | (rows["born_ns"] > now_ns + _FUTURE_NS)
        return [(int(r["client"]), int(r["slot"]), int(r["epoch"])) for r in rows[old]]


class Retirement:
    """What each epoch names, and what waits for its last pin.

    Owner: the coordinator's main thread.
    """

    __slots__ = ("_epoch", "_first_epoch", "_waiting")

    def __init__(self) -> None:
        self._epoch = 0
        #: Of each resource of the current version, the first epoch that named it.
        self._first_epoch: dict[Resource, int] = {}
        self._waiting: list[Retired] = []

    @property
    def waiting(self) -> tuple[Retired, ...]:
        """Resources out of the current version that some pin may hold, oldest first."""
        return tuple(self._waiting)

    def publish(
        self, epoch: int, memtable_numbers: Iterable[int], table_numbers: Iterable[int]
    ) -> None:
        """Note what the version of an epoch names; what it drops waits for its pins.

        Shape: epoch, above every earlier one; call it when the epoch has been published.
        """
        if epoch <= self._epoch:
            raise ValueError(f"epoch {epoch} does not come behind {self._epoch}")
        named = {Resource(ResourceKind.MEMTABLE, number) for number in memtable_numbers}
        named |= {Resource(ResourceKind.TABLE, number) for number in table_numbers}
        named.add(Resource(ResourceKind.VERSION_PAGE, epoch))
        for resource in sorted(self._first_epoch.keys() - named):
            self._waiting.append(Retired(resource, self._first_epoch.pop(resource), epoch))
        for resource in named:
            self._first_epoch.setdefault(resource, epoch)
        self._epoch = epoch

    def reclaim(self, pins: Pins) -> list[Resource]:
        """Return what can be unlinked and punched now, and forget it.

        Shape: pins of a scan that began after the last `publish` (T1).
        """
        free, kept = split(self._waiting, pins)
        self._waiting = kept
        return free


def split(waiting: Iterable[Retired], pins: Pins) -> tuple[list[Resource], list[Retired]]:
    """Divide retired resources into those that can go and those that a pin holds (T2).

    Cost: one binary search for each.
    """
    epochs = pins.epochs()
    free: list[Resource] = []
    kept: list[Retired] = []
    for one in waiting:
        # A u64 array takes no Python int above its range, but epochs are far below.
        at = int(np.searchsorted(epochs, np.uint64(one.first_epoch)))
        if at < len(epochs) and int(epochs[at]) < one.stop_epoch:
            kept.append(one)
        else:
            free.append(one.resource)
    return free, kept
