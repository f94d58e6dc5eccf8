"""Check a database, whether a service runs for it or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ferrisdb.engine.report import Report
from ferrisdb.engine.verify import VersionMovedError, verify_files, verify_live
from ferrisdb.errors import AlreadyRunningError, SnapshotTooOldError, UnavailableError
from ferrisdb.seams import RealFileSystem
from ferrisdb.shm.locks import DirectoryLock, describe_holder

if TYPE_CHECKING:
    from ferrisdb.database import Database

_PAUSE_S = 0.005


def verify_stopped(path: str) -> Report:
    """Check a database that no service runs for; meanwhile none can start.

    Raises: AlreadyRunningError, one runs; NotADatabaseError, FormatTooNewError, StorageError.
    """
    lock = DirectoryLock(path)
    if not lock.try_share():
        raise AlreadyRunningError(
            f"a service ({describe_holder(lock.path)}) runs for {path}: check it through a handle"
        )
    try:
        return verify_files(RealFileSystem(), path)
    finally:
        lock.release()


def verify_attached(db: Database) -> Report:
    """Check a database through a handle, while its service runs and others write."""
    give_up = time.monotonic_ns() + db.attached.timeout_ns
    while True:
        with db.snapshot() as snapshot:
            pinned = frozenset(table.number for table in snapshot.version.tables)
            try:
                report = verify_live(
                    RealFileSystem(), db.path, pinned, lambda: time.sleep(_PAUSE_S)
                )
                # Tables of a snapshot that was revoked meanwhile may have been taken away.
                snapshot.seq  # noqa: B018
                return report
            except (VersionMovedError, SnapshotTooOldError) as error:
                if time.monotonic_ns() > give_up:
                    raise UnavailableError(
                        "the tables change faster than they can be pinned: check it again later"
                    ) from error
        time.sleep(_PAUSE_S)
