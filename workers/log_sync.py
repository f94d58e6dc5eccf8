"""Make "os" commits durable behind their answers, without holding up those that come.

At most one sync is under way, in a thread of its own. A sync that fails is told by the next
`check` and never repeated: what the kernel has kept of the failed pages is unknown.

Owner: the coordinator's main thread.
"""

from __future__ import annotations

import errno
import threading

from ferrisdb.engine.wal_files import OpenWal
from ferrisdb.errors import StorageError
from ferrisdb.kernel.commit import CommitLoop
from ferrisdb.workers.children import Inbox, Synced

SYNC_BEHIND_BYTES = 8 << 20


class LogSync:
    """The background syncs of one service's WAL."""

    def __init__(self, loop: CommitLoop, inbox: Inbox, *, interval_s: float, threaded: bool):
        """Shape: threaded, whether to sync in a thread or at once, for the simulation."""
        self._loop = loop
        self._inbox = inbox
        self._interval_ns = int(interval_s * 1e9)
        self._threaded = threaded
        self._thread: threading.Thread | None = None
        self._has_failed = False
        self._synced_at_ns = 0

    def check(self) -> None:
        """Raise StorageError if a sync has failed."""
        if self._has_failed:
            raise StorageError(errno.EIO, "a background sync of the WAL failed")

    def begin(self, wal: OpenWal, now_ns: int) -> None:
        """Begin a sync if one is due and none is under way."""
        loop = self._loop
        behind = loop.wal_offset - loop.wal_synced
        due = now_ns - self._synced_at_ns >= self._interval_ns
        busy = self._thread is not None and self._thread.is_alive()
        if busy or not behind or not (due or behind >= SYNC_BEHIND_BYTES):
            return
        self._synced_at_ns = now_ns
        upto = loop.wal_offset

        def sync() -> None:
            try:
                wal.file.datasync()
            except StorageError:
                self._has_failed = True
                return
            self._inbox.put(Synced(wal.number, upto))

        if not self._threaded:
            sync()
            return
        self._thread = threading.Thread(target=sync, name="wal-sync", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the one under way: before the file is closed."""
        if self._thread is not None:
            self._thread.join()
