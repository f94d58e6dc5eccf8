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
    HistoryGoneError,
    IntegerOverflowError,
    KeyspaceDroppedError,
    KeyTooLargeError,
    NotADatabaseError,
    NotAnIntegerError,
    ProtocolError,
    SharedMemoryFullError,
    SnapshotTooOldError,
    StorageError,
    TooManySnapshotsError,
    TransactionTooLargeError,
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
    from ferrisdb.keyspace import Keyspace
    from ferrisdb.snapshot import Snapshot
    from ferrisdb.transact import transactional
    from ferrisdb.transaction import Transaction

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
    "HistoryGoneError",
    "IntegerOverflowError",
    "Keyspace",
    "KeyspaceDroppedError",
    "KeyTooLargeError",
    "NotADatabaseError",
    "NotAnIntegerError",
    "ProtocolError",
    "SharedMemoryFullError",
    "Snapshot",
    "SnapshotTooOldError",
    "StorageError",
    "TooManySnapshotsError",
    "Transaction",
    "TransactionTooLargeError",
    "UnavailableError",
    "UnsupportedFileSystemError",
    "UsageError",
    "ValueTooLargeError",
    "WriteBatch",
    "WrongTypeError",
    "__version__",
    "open",
    "transactional",
]

# Attaching needs NumPy and the kernel; who only imports the package doesn't pay for them.
_LAZY = {
    "open": ("ferrisdb.database", "open_database"),
    "Database": ("ferrisdb.database", "Database"),
    "Keyspace": ("ferrisdb.keyspace", "Keyspace"),
    "Snapshot": ("ferrisdb.snapshot", "Snapshot"),
    "Transaction": ("ferrisdb.transaction", "Transaction"),
    "transactional": ("ferrisdb.transact", "transactional"),
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
