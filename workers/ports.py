"""Serve the clients of a directory: who attached, who died, whose batch lies in a segment.

Q1  A port is added when its client has agreed to this generation, and not before: until then the
    ring may still move under us (kernel/client.pyx, `_agree`).
Q2  A port is removed when the kernel has released its byte of DIR/clients, or its entry names
    another client. What is left in its ring was never acknowledged.
Q3  A large batch is read with pread from its segment's descriptor: a segment that its client
    shortens under us gives a short read, never a SIGBUS.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import posix_ipc

from ferrisdb.errors import Error
from ferrisdb.format.edit import Outcome
from ferrisdb.kernel import layout
from ferrisdb.kernel.commit import CommitLoop
from ferrisdb.limits import CLIENT_COUNT_MAX
from ferrisdb.shm.client import (
    METRIC_CONNECTIONS_NOW,
    check_client,
    copy_slots,
    metrics_of,
    slots_of,
)
from ferrisdb.shm.names import SegmentNames
from ferrisdb.shm.registry import ClientEntry, RegistryReader
from ferrisdb.shm.segment import Segment

LARGE_NUMBER_MAX = 10**12 - 1

_log = logging.getLogger("ferrisdb.coordinator")


class Ports:
    """The attached clients, as the commit loop serves them."""

    def __init__(
        self,
        directory: str,
        names: SegmentNames,
        loop: CommitLoop,
        generation: int,
        outcomes: dict[bytes, dict[int, Outcome]],
    ) -> None:
        self._names = names
        self._loop = loop
        self._generation = generation
        self._outcomes = outcomes
        self._registry = RegistryReader(directory, names)
        self._clients: dict[int, tuple[ClientEntry, Segment]] = {}
        self._served: set[int] = set()
        #: The client ids of our reader workers.
        self._readers: set[bytes] = set()

    @property
    def count(self) -> int:
        """Clients attached, whether or not they have agreed to this generation.

        A reader worker is none itself; those who are connected to it are.
        """
        count = 0
        for entry, segment in self._clients.values():
            if entry.client_id in self._readers:
                count += int(metrics_of(segment)[METRIC_CONNECTIONS_NOW])
            else:
                count += 1
        return count

    def add_reader(self, index: int, client_id: bytes, wake_fd: int) -> None:
        """Note that a client is a reader worker of ours, which waits on an eventfd."""
        self._readers.add(client_id)
        self.look()
        known = self._clients.get(index)
        if known is not None and known[0].client_id == client_id and index in self._served:
            self._loop.set_wake_fd(index, wake_fd)

    def look(self) -> None:
        """Find new clients, and serve those that have agreed to our generation."""
        for entry in self._registry.entries():
            known = self._clients.get(entry.index)
            if known is not None and known[0] != entry:
                self._drop(entry.index)
                known = None
            if known is None and not self._meet(entry):
                continue
            self._serve(entry.index)

    def reap(self) -> None:
        """Forget the dead and those that detached (Q2); their slots pin nothing from here on."""
        for index, (entry, _) in list(self._clients.items()):
            if self._registry.entry(index) != entry or not self._registry.alive(index):
                self._drop(index)
                # The next who takes the index frees it too, if a full disk keeps us from it.
                with contextlib.suppress(OSError):
                    self._registry.reap(index)

    def slots(self) -> Iterable[tuple[int, npt.NDArray[np.void]]]:
        """Yield a private copy of every client's slots, for Pins.collect."""
        for index, (_, segment) in self._clients.items():
            yield index, copy_slots(segment)

    def revoke(self, index: int, slot: int, epoch: int) -> None:
        """Tell a client that a pin of its holds no longer."""
        known = self._clients.get(index)
        if known is not None:
            slots_of(known[1])["revoked"][slot] = epoch

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return every outcome that a living client may ask for, for the MANIFEST.

        Those of clients that have not agreed to this generation yet are in no port: a client that
        is slow to hear of a restart may ask behind the flush of the records that tell, and behind
        the next restart.
        """
        found = [Outcome(*row) for row in self._loop.outcomes()]
        if self._outcomes:
            living = {
                e.client_id for e in self._registry.entries() if self._registry.alive(e.index)
            }
            for client_id, known in self._outcomes.items():
                if client_id in living:
                    found += known.values()
        return tuple(found)

    def fetch_large(self) -> None:
        """Hand the loop the operations that lie in a segment of their own (Q3)."""
        number = self._loop.large_no
        # A number that no segment of this client can have is a malformed request like any other.
        if number % CLIENT_COUNT_MAX != self._loop.large_port or number > LARGE_NUMBER_MAX:
            self._loop.supply_large(None)
            return
        name = self._names.name("x", number)
        try:
            fd = posix_ipc.SharedMemory(name, read_only=True).fd
        except (posix_ipc.ExistentialError, posix_ipc.PermissionsError, OSError):
            self._loop.supply_large(None)
            return
        try:
            parts: list[bytes] = []
            want, at = self._loop.large_bytes, 0
            while at < want:
                part = os.pread(fd, want - at, at)
                if not part:
                    break
                parts.append(part)
                at += len(part)
            self._loop.supply_large(parts[0] if len(parts) == 1 else b"".join(parts))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unmap every segment; the living keep theirs, and nothing stays of the dead."""
        for index in list(self._clients):
            self._drop(index)
        # Those too that came and died between two looks: there may be no later service to do it.
        with contextlib.suppress(Error, OSError):
            self._registry.reap_all()
        self._registry.close()

    def _meet(self, entry: ClientEntry) -> bool:
        if not self._registry.alive(entry.index):
            with contextlib.suppress(OSError):
                self._registry.reap(entry.index)
            return False
        try:
            segment = Segment.open(
                entry.segment_name, writable=True, bytes_expected=layout.CLIENT_BYTES
            )
            if segment is None:
                return False
            check_client(segment, entry.client_id)
        except Error as error:
            _log.warning("client %d not served: %s", entry.index, error)
            return False
        self._clients[entry.index] = (entry, segment)
        return True

    def _serve(self, index: int) -> None:
        entry, segment = self._clients[index]
        if index in self._served:
            return
        if layout.load64(segment.view, layout.CLIENT_GENERATION) != self._generation:
            return
        known = self._outcomes.pop(entry.client_id, {})
        rows = [(o.request_no, o.first_seq, o.count, o.reply) for o in known.values()]
        self._loop.add_port(index, segment.view, entry.client_id, rows)
        self._served.add(index)

    def _drop(self, index: int) -> None:
        entry, segment = self._clients.pop(index)
        self._readers.discard(entry.client_id)
        if index in self._served:
            self._served.discard(index)
            self._loop.remove_port(index)
        segment.close()
