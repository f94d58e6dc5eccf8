"""Create, open, map and remove one named shared-memory segment.

Invariants
S1  A segment has all its memory from the moment `create` returns: a full /dev/shm is an error
    there, never a SIGBUS at some later store.
S2  A name is recorded (names.py, or the registry's entry) before its segment is created.
S3  Nothing keeps a file descriptor: a mapping is all that a process holds of a segment.
S4  After `punch` everyone who still maps the segment reads zeroes; nobody may look any more
    (a look costs no more than the page looked at: tmpfs allocates it anew).

A creator that dies between creating the name and allocating its memory leaves a segment of
size 0 or an unallocated one. It was never published, so nobody opens it; the sweep removes it.
"""

from __future__ import annotations

import errno
import os

import posix_ipc

from ferrisdb.errors import (
    AccessError,
    ProtocolError,
    SharedMemoryFullError,
    StorageError,
)
from ferrisdb.kernel.mapping import Mapping

SEGMENT_BYTES_MAX = 1 << 40


class Segment:
    """A named piece of shared memory, mapped into this process.

    Owner: the mapping is this process's; the name belongs to the directory that recorded it.
    """

    __slots__ = ("_mapping", "name", "nbytes", "writable")

    def __init__(self, name: str, mapping: Mapping, nbytes: int, *, writable: bool) -> None:
        self._mapping = mapping
        self.name = name
        self.nbytes = nbytes
        self.writable = writable

    @classmethod
    def create(cls, name: str, nbytes: int) -> Segment:
        """Create a segment of zeroes, fully allocated, and map it for writing.

        Shape:  name, recorded beforehand (S2); nbytes, 1 to SEGMENT_BYTES_MAX.
        Raises: SharedMemoryFullError, AccessError, StorageError (EEXIST: the name is taken);
                no segment of that name is left behind, except one that was there before.
        """
        if not 0 < nbytes <= SEGMENT_BYTES_MAX:
            raise ValueError(f"a segment can't have {nbytes} bytes")
        try:
            fd = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd
        except posix_ipc.ExistentialError as reason:
            raise StorageError(errno.EEXIST, f"segment {name} exists already") from reason
        except posix_ipc.PermissionsError as reason:
            raise AccessError(errno.EACCES, f"no permission to create segment {name}") from reason
        except OSError as reason:
            raise StorageError(reason.errno, f"can't create segment {name}: {reason}") from reason
        try:
            _allocate(fd, name, nbytes)
            mapping = Mapping(fd, nbytes, True)
        except BaseException as reason:
            unlink_segment(name)
            if isinstance(reason, StorageError) or not isinstance(reason, OSError):
                raise
            raise StorageError(reason.errno, f"can't map segment {name}: {reason}") from reason
        finally:
            os.close(fd)
        return cls(name, mapping, nbytes, writable=True)

    @classmethod
    def open(
        cls, name: str, *, writable: bool, bytes_expected: int | None = None
    ) -> Segment | None:
        """Map an existing segment, or return None if there is none of that name.

        Shape:  bytes_expected, the size that the caller will rely on; None takes any.
        Raises: AccessError, another user's; ProtocolError, another size than expected.
        """
        try:
            # posix_ipc always opens for reading and writing unless told so.
            fd = posix_ipc.SharedMemory(name, read_only=not writable).fd
        except posix_ipc.ExistentialError:
            return None
        except posix_ipc.PermissionsError as reason:
            raise AccessError(errno.EACCES, f"no permission to open segment {name}") from reason
        except OSError as reason:
            raise StorageError(reason.errno, f"can't open segment {name}: {reason}") from reason
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid():
                raise AccessError(errno.EACCES, f"segment {name} belongs to uid {status.st_uid}")
            nbytes = status.st_size
            if nbytes == 0:
                return None  # named, and not allocated yet: its maker is at it, or died there
            if not 0 < nbytes <= SEGMENT_BYTES_MAX or bytes_expected not in (None, nbytes):
                wanted = "some" if bytes_expected is None else bytes_expected
                raise ProtocolError(f"segment {name} has {nbytes} bytes, expected {wanted}")
            mapping = Mapping(fd, nbytes, writable)
        finally:
            os.close(fd)
        return cls(name, mapping, nbytes, writable=writable)

    @property
    def view(self) -> memoryview:
        """A view of all bytes, read-only if the mapping is; ValueError once closed."""
        return memoryview(self._mapping)

    def prefault(self) -> None:
        """Fault in every page of a segment that nobody else maps yet."""
        try:
            self._mapping.populate()
        except OSError as reason:
            raise StorageError(
                reason.errno, f"can't prefault segment {self.name}: {reason}"
            ) from reason

    def punch(self) -> None:
        """Free the memory even where it stays mapped (S4); call it after `unlink`.

        Raises: StorageError: the memory stays until the last process unmaps it.
        """
        try:
            self._mapping.punch()
        except OSError as reason:
            raise StorageError(
                reason.errno, f"can't punch segment {self.name}: {reason}"
            ) from reason

    def unlink(self) -> None:
        """Remove the name; absent is fine. Whoever maps the segment keeps it."""
        unlink_segment(self.name)

    def close(self) -> None:
        """Unmap now, or when the last view (an array, a kernel object) is gone. Idempotent."""
        self._mapping.close()


def unlink_segment(name: str) -> bool:
    """Remove a segment's name; return whether there was one.

    Raises: AccessError, another user's.
    """
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as reason:
        raise AccessError(errno.EACCES, f"no permission to remove segment {name}") from reason
    return True


def free_bytes(fd: int) -> int:
    """Return how much the segment's file system can still allocate for us."""
    status = os.fstatvfs(fd)
    return status.f_bavail * status.f_frsize


def _allocate(fd: int, name: str, nbytes: int) -> None:
    # The umask can take bits away that the mode asked for.
    os.fchmod(fd, 0o600)
    # Asked first, so that an impossible size does not fill the rest for a moment.
    if (free := free_bytes(fd)) < nbytes:
        raise _full(name, nbytes, free)
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as reason:
        if reason.errno in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            raise _full(name, nbytes, free_bytes(fd)) from reason
        raise


def _full(name: str, nbytes: int, free: int) -> SharedMemoryFullError:
    return SharedMemoryFullError(
        errno.ENOSPC,
        f"segment {name} needs {nbytes} bytes of shared memory and {free} are free:"
        " enlarge /dev/shm or lower memtable_bytes",
    )
