"""Name every way an operation can fail, and say what to do about it.

All derive from `Error`. Each class has a stable `wire_code` (rings, exit codes and logs use
it; retired codes stay listed below), survives pickling, and says by `retry_helps` whether the
same call may succeed later without anyone doing anything.

Retired wire codes: none yet.
"""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """Any failure that FerrisDB reports."""

    wire_code: ClassVar[int] = 1
    retry_helps: ClassVar[bool] = False


class UsageError(Error):
    """The caller asked for something that can't be: nothing was done."""

    wire_code = 10


class WrongTypeError(UsageError, TypeError):
    """An argument has the wrong type: keys and values are bytes."""

    wire_code = 11


class KeyTooLargeError(UsageError):
    """A key is longer than `limits.KEY_BYTES_MAX`: nothing was written."""

    wire_code = 12


class ValueTooLargeError(UsageError):
    """A value is longer than `limits.VALUE_BYTES_MAX`: nothing was written."""

    wire_code = 13


class BatchTooLargeError(UsageError):
    """A batch is larger than half a memtable: nothing was written."""

    wire_code = 14


class ClosedError(UsageError):
    """The handle, snapshot, iterator or batch is closed, or belongs to the parent of this fork."""

    wire_code = 15


class NotADatabaseError(UsageError):
    """The directory holds something else than a FerrisDB database: nothing in it was touched."""

    wire_code = 16


class TooManySnapshotsError(UsageError):
    """This process holds `limits.SLOT_COUNT` snapshots and scans: close some of them."""

    wire_code = 17


class TransactionTooLargeError(BatchTooLargeError):
    """A transaction read or wrote more than fits a commit: nothing was written."""

    wire_code = 18


class KeyspaceDroppedError(UsageError):
    """The key space was dropped: what it held is gone; create one and take a new handle."""

    wire_code = 19


class NotAnIntegerError(UsageError):
    """The stored value is no decimal integer of the size that `add` takes: nothing was written."""

    wire_code = 70


class IntegerOverflowError(UsageError, OverflowError):
    """The sum would not fit 64 bits: nothing was written."""

    wire_code = 71


class StorageError(Error, OSError):
    """The operating system refused an operation on a file or a segment."""

    wire_code = 20


class DiskFullError(StorageError):
    """No space on the database's file system: nothing was written; free some space."""

    wire_code = 21
    retry_helps = True


class SharedMemoryFullError(StorageError):
    """No space in shared memory: enlarge /dev/shm or lower `memtable_bytes`."""

    wire_code = 22
    retry_helps = True


class AccessError(StorageError):
    """Permission denied on the directory, a file in it, or its segments."""

    wire_code = 23


class FormatTooNewError(StorageError):
    """The files were written by a newer FerrisDB: upgrade this one."""

    wire_code = 24


class UnsupportedFileSystemError(StorageError):
    """The directory lies on a file system without shared mappings and locks (a network one)."""

    wire_code = 25


class CorruptionError(Error):
    """Bytes in a file are not what was written there.

    `path` and `offset` (bytes) say where; `expected` and `found` say what.
    """

    wire_code = 30

    def __init__(
        self, path: str, offset: int, expected: object = "", found: object = "", advice: str = ""
    ) -> None:
        super().__init__(path, offset, expected, found, advice)
        self.path = path
        self.offset = offset
        self.expected = expected
        self.found = found
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.path}: at byte {self.offset}: expected {self.expected}, found {self.found}"
        return f"{text}; {self.advice}" if self.advice else text


class ConflictError(Error):
    """A key that was read has changed since: nothing was written; run the transaction again.

    `key` is the key, or the start of the range, that changed; None where that isn't known.
    """

    #: Which of the request's checks failed; -1: something that was read has expired.
    check: int | None = None

    wire_code = 40
    retry_helps = True

    def __init__(self, text: str, key: bytes | None = None) -> None:
        super().__init__(text, key)
        self.text = text
        self.key = key

    def __str__(self) -> str:
        return self.text


class HistoryGoneError(ConflictError):
    """The memtables that would tell whether a key has changed are flushed: run it again."""

    wire_code = 43


class SnapshotTooOldError(Error):
    """The snapshot was revoked, or its coordinator is gone: take a new one."""

    wire_code = 41
    retry_helps = True


class CommitUnknownError(Error):
    """The commit may or may not have happened, and there is no way left to learn which."""

    wire_code = 42


class UnavailableError(Error):
    """The service does not answer: it is gone, starting, or stopping."""

    wire_code = 50
    retry_helps = True


class BusyError(UnavailableError):
    """Writes are stalled and the time-out ran out: certainly not written; try again later."""

    wire_code = 51


class AlreadyRunningError(UnavailableError):
    """Another coordinator holds this directory's LOCK."""

    wire_code = 52
    retry_helps = False


class ProtocolError(Error):
    """A request or a shared structure did not have the agreed form: nothing was written."""

    wire_code = 60


def by_wire_code() -> dict[int, type[Error]]:
    """Return every error class under its wire code."""
    found: dict[int, type[Error]] = {}
    todo: list[type[Error]] = [Error]
    while todo:
        kind = todo.pop()
        found[kind.wire_code] = kind
        todo.extend(kind.__subclasses__())
    return found
