"""Open the only door to the operating system: clock, randomness, files.

Everything that writes durable files takes a `FileSystem`; everything that needs the time or
randomness takes a `Clock` or an `Rng`. Production passes the real ones at the end of this file;
tests pass seeded ones (tests/support/simfs.py), so that a whole history can be replayed and a
power cut can be tried at every call.

F1  A `File` whose write, truncation or sync failed is poisoned: what the kernel kept of the
    failed pages is unknown, and a second fsync may claim success for pages that were dropped
    by the first (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). Every
    later write or sync raises `StorageError`; only a new recovery heals. A write that is refused
    for want of space loses no page: it leaves a part of its own bytes at most, and the file in use.
F2  An `OSError` never leaves this module bare: it becomes one of our typed errors, keeping
    `errno` and `filename`, and says what to do.
F3  `DiskFullError` means that space was refused: a part of a write may stand, and no page was
    dropped. A sync that fails for want of space is a failed sync, and a plain `StorageError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from ferrisdb import errors

ZERO_CHUNK_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(ZERO_CHUNK_BYTES)
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


class Clock(Protocol):
    """Tell the time."""

    def wall_us(self) -> int:
        """Return microseconds since the epoch; may jump either way."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds on a clock that never goes back."""


class Rng(Protocol):
    """Give randomness that nobody can guess (or, in tests, that a seed repeats)."""

    def bytes(self, n: int) -> bytes:
        """Return n random bytes."""

    def u64(self) -> int:
        """Return a random integer in [0, 2**64)."""


class File(Protocol):
    """One open file.

    Owner: one thread of one process; a poisoned file stays poisoned (F1).
    """

    @property
    def path(self) -> str:
        """Return the name under which the file was opened."""

    @property
    def poisoned(self) -> bool:
        """Tell whether an earlier write or sync failed."""

    def append(self, buffer: bytes | bytearray | memoryview) -> int:
        """Write the buffer behind the last byte; return the offset of its first byte."""

    def pwrite(self, buffer: bytes | bytearray | memoryview, offset: int) -> None:
        """Write the whole buffer at an offset."""

    def pread(self, n: int, offset: int) -> bytes:
        """Return up to n bytes at an offset; fewer only at the end of the file."""

    def datasync(self) -> None:
        """Return when every byte written, and the size, would survive a power cut."""

    def start_sync(self) -> None:
        """Have what was written on its way to the disk, so that a later datasync waits less.

        Durable: nothing more than before; a failure shows at the datasync.
        """

    def allocate_zeroed(self, file_bytes: int) -> None:
        """Write zeros from the present end up to file_bytes, then datasync.

        Real zeros: a synced write into space that was merely reserved changes metadata too.
        """

    def truncate(self, file_bytes: int) -> None:
        """Cut or extend the file."""

    def size(self) -> int:
        """Return the size in bytes."""

    def fileno(self) -> int:
        """Return the real file descriptor, valid until close()."""

    def close(self) -> None:
        """Release the descriptor; says nothing about durability. May be called twice."""


class FileSystem(Protocol):
    """Directories and names. Nothing here is durable before `sync_dir` of the directory."""

    def open_read(self, path: str) -> File:
        """Open an existing file for reading."""

    def open_rw(self, path: str) -> File:
        """Open an existing file for reading and writing."""

    def create(self, path: str) -> File:
        """Create a file that must not exist, mode 0600, for reading and writing."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically replacing what has that name."""

    def unlink(self, path: str) -> None:
        """Remove a name."""

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must not exist."""

    def sync_dir(self, path: str) -> None:
        """Return when the directory's names would survive a power cut."""

    def mkdir(self, path: str) -> None:
        """Create a directory, mode 0700; its parent must exist, it must not."""

    def list_dir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""

    def exists(self, path: str) -> bool:
        """Tell whether the name exists."""

    def size(self, path: str) -> int:
        """Return a file's size in bytes."""

    def read_all(self, path: str) -> bytes:
        """Return a whole file."""


_ADVICE: Final[dict[int, tuple[type[errors.StorageError], str]]] = {
    errno.ENOSPC: (errors.DiskFullError, "free some space on this file system"),
    errno.EDQUOT: (errors.DiskFullError, "free some space or raise the disk quota"),
    errno.EACCES: (errors.AccessError, "give this user access to the database directory"),
    errno.EPERM: (errors.AccessError, "give this user access to the database directory"),
    errno.EROFS: (errors.AccessError, "the file system is mounted read-only: remount it"),
    errno.EIO: (errors.StorageError, "the device failed: look at the system's messages"),
    errno.EMFILE: (errors.StorageError, "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: (errors.StorageError, "raise the system's limit of open files"),
    errno.ENOENT: (errors.StorageError, "the file is gone: check the database directory"),
    errno.EEXIST: (errors.StorageError, "the name is taken: is another program at work here?"),
}


def storage_error(error: OSError, path: str, *, in_doubt: bool = False) -> errors.StorageError:
    """Return the typed error for one of the operating system's (F2).

    Shape: in_doubt, whether what it leaves is not known, as behind a failed sync (F3).
    """
    number = error.errno if error.errno is not None else errno.EIO
    kind, advice = _ADVICE.get(number, (errors.StorageError, ""))
    if in_doubt and kind is errors.DiskFullError:
        kind = errors.StorageError
    text = os.strerror(number)
    return kind(number, f"{text}; {advice}" if advice else text, path)


def lacks_space(error: OSError) -> bool:
    """Tell whether the operating system refused space (F3)."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


# macOS: fsync only reaches the drive's cache; this is what fdatasync means elsewhere.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


def _datasync(descriptor: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fdatasync(descriptor)


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return cast("Callable[[int, int, int, int], int] | None", function)


_SYNC_FILE_RANGE_WRITE: Final = 2
_start_writing: Final = _sync_file_range()


class RealFile:
    """A file of the operating system."""

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._poisoned = False
        try:
            self._descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
            self._end = os.fstat(self._descriptor).st_size
            self._started = 0
        except OSError as error:
            raise storage_error(error, path) from error

    @property
    def path(self) -> str:
        return self._path

    @property
    def poisoned(self) -> bool:
        return self._poisoned

    def fileno(self) -> int:
        if self._descriptor < 0:
            raise errors.ClosedError(f"{self._path} is closed")
        return self._descriptor

    def _writable(self) -> int:
        if self._poisoned:
            raise errors.StorageError(
                errno.EIO,
                "an earlier write or sync failed, so nothing more is written here; "
                "restart the service, which recovers",
                self._path,
            )
        return self.fileno()

    def append(self, buffer: bytes | bytearray | memoryview) -> int:
        offset = self._end
        self.pwrite(buffer, offset)
        return offset

    def pwrite(self, buffer: bytes | bytearray | memoryview, offset: int) -> None:
        descriptor = self._writable()
        view = memoryview(buffer).cast("B")
        try:
            done = 0
            while done < len(view):
                done += os.pwrite(descriptor, view[done:], offset + done)
        except OSError as error:
            self._poisoned = not lacks_space(error)
            raise storage_error(error, self._path) from error
        self._end = max(self._end, offset + len(view))

    def pread(self, n: int, offset: int) -> bytes:
        try:
            return os.pread(self.fileno(), n, offset)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def datasync(self) -> None:
        descriptor = self._writable()
        try:
            _datasync(descriptor)
        except OSError as error:
            self._poisoned = True
            raise storage_error(error, self._path, in_doubt=True) from error

    def start_sync(self) -> None:
        if _start_writing is not None:
            # Not all file systems can; it would be the datasync that fails if anything does.
            _start_writing(self._writable(), self._started, 0, _SYNC_FILE_RANGE_WRITE)
            self._started = self._end

    def allocate_zeroed(self, file_bytes: int) -> None:
        zeros = memoryview(_ZEROS)
        while self._end < file_bytes:
            self.append(zeros[: file_bytes - self._end])
        self.datasync()

    def truncate(self, file_bytes: int) -> None:
        descriptor = self._writable()
        try:
            os.ftruncate(descriptor, file_bytes)
        except OSError as error:
            self._poisoned = True
            raise storage_error(error, self._path, in_doubt=True) from error
        self._end = file_bytes

    def size(self) -> int:
        return self._end

    def close(self) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.close(descriptor)
        except OSError as error:
            raise storage_error(error, self._path) from error


class RealFileSystem:
    """The operating system's files, each failure a typed error (F2)."""

    def open_read(self, path: str) -> RealFile:
        return RealFile(path, os.O_RDONLY)

    def open_rw(self, path: str) -> RealFile:
        return RealFile(path, os.O_RDWR)

    def create(self, path: str) -> RealFile:
        return RealFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def rename(self, source: str, target: str) -> None:
        try:
            os.rename(source, target)
        except OSError as error:
            raise storage_error(error, source) from error

    def unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError as error:
            raise storage_error(error, path) from error

    def link(self, source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError as error:
            raise storage_error(error, target) from error

    def sync_dir(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, path, in_doubt=True) from error

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except OSError as error:
            raise storage_error(error, path) from error

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            raise storage_error(error, path) from error

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def size(self, path: str) -> int:
        try:
            return os.stat(path).st_size
        except OSError as error:
            raise storage_error(error, path) from error

    def read_all(self, path: str) -> bytes:
        """Return a whole file, as long as it was when it was opened.

        Raises: StorageError, also where the file became shorter while it was read.
        """
        file = self.open_read(path)
        try:
            want = file.size()
            pieces: list[bytes] = []
            done = 0
            # One pread returns 2 GiB at most.
            while done < want:
                piece = file.pread(min(want - done, 1 << 30), done)
                if not piece:
                    raise errors.StorageError(errno.EIO, "the file shrank while it was read", path)
                pieces.append(piece)
                done += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            file.close()


class RealClock:
    """The machine's clocks."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class RealRng:
    """The operating system's randomness."""

    def bytes(self, n: int) -> bytes:
        return os.urandom(n)

    def u64(self) -> int:
        return int.from_bytes(os.urandom(8), "little")
