"""FerrisDB: a transactional, ordered key-value database for many processes on one host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrisdb.errors import (
    AccessError,
    AlreadyRunningError,
    BatchTooLargeError,
    BusyError,
    ClosedError,
    CommitUnknownError,
    ConflictError,
    CorruptionError,
    DiskFullError,
    Error,
    FormatTooNewError,
    KeyTooLargeError,
    NotADatabaseError,
    ProtocolError,
    SharedMemoryFullError,
    SnapshotTooOldError,
    StorageError,
    TooManySnapshotsError,
    UnavailableError,
    UnsupportedFileSystemError,
    UsageError,
    ValueTooLargeError,
    WrongTypeError,
)

if TYPE_CHECKING:
    from ferrisdb.batch import WriteBatch
    from ferrisdb.database import Database
    from ferrisdb.database import open_database as open
    from ferrisdb.snapshot import Snapshot

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "AlreadyRunningError",
    "BatchTooLargeError",
    "BusyError",
    "ClosedError",
    "CommitUnknownError",
    "ConflictError",
    "CorruptionError",
    "Database",
    "DiskFullError",
    "Error",
    "FormatTooNewError",
    "KeyTooLargeError",
    "NotADatabaseError",
    "ProtocolError",
    "SharedMemoryFullError",
    "Snapshot",
    "SnapshotTooOldError",
    "StorageError",
    "TooManySnapshotsError",
    "UnavailableError",
    "UnsupportedFileSystemError",
    "UsageError",
    "ValueTooLargeError",
    "WriteBatch",
    "WrongTypeError",
    "__version__",
    "open",
]

# Attaching needs NumPy and the kernel; who only imports the package doesn't pay for them.
_LAZY = {
    "open": ("ferrisdb.database", "open_database"),
    "Database": ("ferrisdb.database", "Database"),
    "Snapshot": ("ferrisdb.snapshot", "Snapshot"),
    "WriteBatch": ("ferrisdb.batch", "WriteBatch"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ferrisdb' has no attribute {name!r}")
    import importlib

    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value
