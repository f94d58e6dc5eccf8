"""Number every way a FerrisDB process ends, so that a supervisor can act on it.

64 to 78 mean what sysexits.h says; 80 and up are our own. docs/processes.md says for each
whether starting again helps. Retired codes: none yet.
"""

from __future__ import annotations

from enum import IntEnum

from ferrisdb import errors


class ExitCode(IntEnum):
    """How a process of ours ended."""

    OK = 0
    #: `get`: the key is absent; `bench compare`: a rate fell below the bound.
    ABSENT = 1
    #: Bad arguments, a key or value over the limits, an unknown setting.
    USAGE = 64
    #: A line of an imported file can't be read.
    BAD_INPUT = 65
    #: The file to import is not there.
    NO_INPUT = 66
    #: The service does not answer, or may not be started.
    UNAVAILABLE = 69
    #: A fault of FerrisDB itself; the message has what to report.
    INTERNAL = 70
    #: No space on the file system or in shared memory.
    NO_SPACE = 73
    #: Any other failure of a read, a write or a sync.
    STORAGE = 74
    #: Stalled, or in conflict: certainly not written; the same command may succeed later.
    TRY_AGAIN = 75
    #: A process of another version, or damaged shared memory.
    PROTOCOL = 76
    #: No permission on the directory, a file in it, or its segments.
    NO_PERMISSION = 77
    #: A file is corrupt; starting again won't help.
    CORRUPT = 80
    #: Another coordinator runs for this directory.
    ALREADY_RUNNING = 81
    #: The directory holds something else, or files of a newer FerrisDB.
    NOT_OURS = 82
    #: The outcome of a commit can't be learnt.
    UNKNOWN_OUTCOME = 83
    #: A worker died again and again; the coordinator gave up.
    CRASH_LOOP = 84
    #: A worker left because its coordinator is gone.
    ORPHANED = 85
    #: `bench load`: a threshold was missed, or a value was wrong; `bench`: FerrisDB went wrong.
    THRESHOLD_MISSED = 86
    #: Interrupted from the keyboard (128 + SIGINT), as shells count.
    INTERRUPTED = 130
    #: Whoever read our output is gone (128 + SIGPIPE).
    BROKEN_PIPE = 141


# The nearest class of an error's ancestry decides.
_BY_ERROR: dict[type[errors.Error], ExitCode] = {
    errors.Error: ExitCode.INTERNAL,
    errors.UsageError: ExitCode.USAGE,
    errors.NotADatabaseError: ExitCode.NOT_OURS,
    errors.StorageError: ExitCode.STORAGE,
    errors.DiskFullError: ExitCode.NO_SPACE,
    errors.SharedMemoryFullError: ExitCode.NO_SPACE,
    errors.AccessError: ExitCode.NO_PERMISSION,
    errors.FormatTooNewError: ExitCode.NOT_OURS,
    errors.UnsupportedFileSystemError: ExitCode.NOT_OURS,
    errors.CorruptionError: ExitCode.CORRUPT,
    errors.ConflictError: ExitCode.TRY_AGAIN,
    errors.SnapshotTooOldError: ExitCode.TRY_AGAIN,
    errors.CommitUnknownError: ExitCode.UNKNOWN_OUTCOME,
    errors.UnavailableError: ExitCode.UNAVAILABLE,
    errors.BusyError: ExitCode.TRY_AGAIN,
    errors.AlreadyRunningError: ExitCode.ALREADY_RUNNING,
    errors.ProtocolError: ExitCode.PROTOCOL,
}


def for_error(error: BaseException) -> ExitCode:
    """Return the code to exit with when `error` ends the process.

    Returns: the code of the nearest listed ancestor; INTERNAL for anything not of ours.
    """
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind]
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.INTERNAL
