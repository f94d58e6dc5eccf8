"""What a client has written, and so what may be read.

Each key has one writer: the client whose number its own is, modulo the number of clients. So a
client knows of its own keys what their values may be; of the others' keys it knows that a value
must prove itself (`bench/records.py`).

    version 0            what was loaded
    version of a write   one more than that of the key's last write, answered or not

V1  A version that was never sent is never read.
V2  A version older than the last that was answered is not read, unless its own write failed: what
    was not answered may be done at any later time.
"""

from __future__ import annotations

from array import array

import numpy as np

from ferrisdb.bench.records import Numbers, Records

MISSING = "missing"
FOREIGN = "not a value of its key"
UNSENT = "a value never written"
STALE = "an older value than was acknowledged"

RANGES_MAX = 16


class Ledger:
    """One client's own keys.

    Owner:  one thread.
    """

    def __init__(self, client: int, clients: int, key_count: int, records: Records) -> None:
        """Begin with every key at version 0.

        Shape:   client, its number from 0 on; clients, at most as many as keys.
        """
        self._client = client
        self._clients = clients
        self._key_count = key_count
        self._records = records
        own = -(-(key_count - client) // clients)
        self._sent = array("q", bytes(8 * own))
        self._answered = array("q", bytes(8 * own))
        #: First and last of versions whose writes failed, by key number.
        self._doubtful: dict[int, list[tuple[int, int]]] = {}

    def own(self, numbers: Numbers) -> Numbers:
        """Return the nearest key of this client's own to each of some numbers."""
        clients = np.uint64(self._clients)
        found = numbers - numbers % clients + np.uint64(self._client)
        return np.where(found < self._key_count, found, found - clients)

    def next_value(self, number: int, key: bytes) -> tuple[int, bytes]:
        """Return the version and the value of an own key's next write, which is being sent."""
        place = number // self._clients
        version = self._sent[place] + 1
        self._sent[place] = version
        return version, self._records.value(key, version)

    def answered(self, number: int, version: int) -> None:
        """Note that a write was acknowledged."""
        self._answered[number // self._clients] = version

    def failed(self, number: int, version: int) -> None:
        """Note that a write was not: it may have been done, or may still be (V2).

        Cost:  bounded, however many fail: the oldest are taken together, with what lay between.
        """
        ranges = self._doubtful.setdefault(number, [])
        if ranges and ranges[-1][1] == version - 1:
            ranges[-1] = (ranges[-1][0], version)
            return
        ranges.append((version, version))
        if len(ranges) > RANGES_MAX:
            ranges[:2] = [(ranges[0][0], ranges[1][1])]

    def fault(self, number: int, key: bytes, value: bytes | None) -> str | None:
        """Return what is wrong with a value that was read; None: nothing."""
        if value is None:
            return MISSING
        version = self._records.version(key, value)
        if version is None:
            return FOREIGN
        if number % self._clients != self._client:
            return None
        place = number // self._clients
        if version > self._sent[place]:
            return UNSENT
        answered = self._answered[place]
        if version < answered and not self._is_doubtful(number, version):
            return STALE
        if version > answered:
            self._answered[place] = version
        return None

    def _is_doubtful(self, number: int, version: int) -> bool:
        ranges = self._doubtful.get(number, ())
        return any(first <= version <= last for first, last in ranges)
