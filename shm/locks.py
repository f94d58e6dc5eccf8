"""Hold the directory: one coordinator at a time, on a file system that can carry it.

DIR/LOCK is locked by an open file description lock (fcntl, F_OFD_SETLK) over the whole file.
The kernel releases it when the last descriptor of that description is closed: at the holder's
death, by whatever signal. The text inside (pid and start) is for people; liveness is the lock.

Invariants
L1  The holder's description is of the file that DIR/LOCK names; a LOCK that was deleted and
    made anew by hand does not let two coordinators in at the same moment of acquiring.
L2  The descriptor is close-on-exec and processes are spawned, not forked: no child keeps the
    lock alive. A child forked by hand keeps it until it exits or execs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from types import TracebackType

from ferrisdb.errors import AccessError, AlreadyRunningError, UnsupportedFileSystemError

FILE_NAME = "LOCK"

# Where locks or shared mappings are not coherent with other hosts that mount the same files.
_NETWORK = """
9p afs beegfs ceph cifs coda fuse.ceph fuse.cephfs fuse.davfs fuse.gcsfuse fuse.glusterfs
fuse.goofys fuse.juicefs fuse.moosefs fuse.rclone fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs
lustre ncp ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb smb2 smb3 smbfs
"""
NETWORK_FILE_SYSTEMS = frozenset(_NETWORK.split())

# struct flock where off_t has 64 bits: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")
_TEXT_BYTES_MAX = 256


class DirectoryLock:
    """The right to write to a directory; also a context manager."""

    __slots__ = ("_fd", "path")

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = os.path.join(os.fspath(directory), FILE_NAME)
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; return whether we hold it now.

        Raises: AccessError, OSError.
        """
        if self._fd >= 0:
            return True
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except PermissionError as reason:
                raise AccessError(reason.errno, f"no permission for {self.path}") from reason
            try:
                if not try_lock(fd, 0, 0):
                    os.close(fd)
                    return False
                if _is_named(fd, self.path):  # L1
                    break
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        self._fd = fd
        # A full disk must not keep the coordinator from starting: the text is a courtesy.
        with contextlib.suppress(OSError):
            text = f"pid {os.getpid()} started {_process_start()}\n".encode()
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
        return True

    def acquire(self) -> None:
        """Take the lock.

        Raises: AlreadyRunningError, naming the holder as far as LOCK tells.
        """
        if not self.try_acquire():
            raise AlreadyRunningError(
                f"another coordinator ({describe_holder(self.path)}) holds {self.path}"
            )

    def try_share(self) -> bool:
        """Keep coordinators out, beside others who do the same; return whether that is so now.

        Changes nothing, and takes no more than the right to read. Without a LOCK, as in a copy
        that no service ever ran for, there is nothing to hold, and True.
        Raises: AccessError, OSError.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except PermissionError as reason:
            raise AccessError(reason.errno, f"no permission for {self.path}") from reason
        if not try_lock(fd, 0, 0, shared=True):
            os.close(fd)
            return False
        self._fd = fd
        return True

    @property
    def is_acquired(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    @property
    def is_named(self) -> bool:
        """Whether the path still leads to the file that we hold: the directory is in its place."""
        return self._fd >= 0 and _is_named(self._fd, self.path)

    def release(self) -> None:
        """Let the directory go; idempotent. The file stays: removing it would breach L1."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> DirectoryLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @staticmethod
    def is_held(directory: str | os.PathLike[str]) -> bool:
        """Whether some process, ours included, holds the directory's lock. Takes nothing."""
        try:
            fd = os.open(os.path.join(os.fspath(directory), FILE_NAME), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError as reason:
            raise AccessError(reason.errno, f"no permission for {directory}") from reason
        try:
            return is_locked(fd, 0, 0)
        finally:
            os.close(fd)


def describe_holder(path: str) -> str:
    """Return the first line of a LOCK file as printable text, or a phrase that there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "pid unknown"
    try:
        line = os.pread(fd, _TEXT_BYTES_MAX, 0).split(b"\n")[0].decode("ascii", "replace")
    finally:
        os.close(fd)
    return line if line.startswith("pid ") and line.isprintable() else "pid unknown"


def try_lock(fd: int, start: int, count: int, *, shared: bool = False) -> bool:
    """Take a lock for this description on a byte range; count 0 means to the end.

    Returns: False if anyone else holds a lock there that excludes it: another description, even
             of this process, or any process's POSIX lock.
    """
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, 0, start, count, 0))
    except OSError as reason:
        if reason.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def unlock(fd: int, start: int, count: int) -> None:
    """Release this description's lock on a byte range."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, start, count, 0))


def is_locked(fd: int, start: int, count: int) -> bool:
    """Whether anyone but this description holds a lock in the byte range."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, 0, start, count, 0)
    answer: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def check_file_system(
    directory: str | os.PathLike[str], mounts_path: str = "/proc/self/mountinfo"
) -> None:
    """Refuse a directory on a network file system.

    Raises: UnsupportedFileSystemError. Where the mounts can't be read nothing is refused.
    """
    try:
        with open(mounts_path, "rb") as file:
            mounts = file.read()
    except OSError:
        return
    kind = file_system_of(os.path.realpath(os.fspath(directory)), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise UnsupportedFileSystemError(
            errno.EOPNOTSUPP,
            f"{os.fspath(directory)} lies on {kind}, a network file system: locks and shared"
            " mappings can't be relied on there; use a local disk",
        )


def file_system_of(path: str, mounts: bytes) -> str:
    """Return the type of the file system that an absolute path lies on, "" if not found.

    Shape: mounts, the text of /proc/self/mountinfo; of equal mount points the last one counts.
    """
    best, kind = -1, ""
    wanted = os.fsencode(path)
    for line in mounts.splitlines():
        left, found, right = line.partition(b" - ")
        fields, kinds = left.split(b" "), right.split(b" ")
        if not found or len(fields) < 5:
            continue
        point = _unescape(fields[4])
        inside = wanted == point or wanted.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= best:
            best, kind = len(point), kinds[0].decode("ascii", "replace")
    return kind


def _unescape(field: bytes) -> bytes:
    for octal, byte in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(octal, byte)
    return field


def _is_named(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _process_start() -> str:
    # Imported here: only the coordinator writes this text, and clients count milliseconds.
    from datetime import UTC, datetime

    import psutil

    start = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    return start.isoformat(timespec="seconds")
