"""List the attached clients, and know which of them live: DIR/clients.

One entry of 128 bytes per client index, little-endian, each written by one pwrite:

| offset | bytes | field | meaning |
| --- | --- | --- | --- |
| 0 | 8 | magic | "FDBENTR\\0" |
| 8 | 4 | state | 0 free, 1 ready |
| 12 | 4 | pid | for people; never used to judge liveness |
| 16 | 16 | client id | random, never reused |
| 32 | 8 | attach number | of this index: one more than the entry before had |
| 40 | 30 | segment name | "/fdb<nonce>.c<index>", zero-padded |
| 70 | 54 | zero | |
| 124 | 4 | crc | CRC-32C of bytes 0-123 |

A missing, torn or foreign entry reads as free. A client holds a POSIX write lock on byte i of
the file (i is its index; that entries lie over the same bytes means nothing to the kernel).
Fork does not pass it on, and the kernel drops it at death.

Invariants
R1  Entry, segment and large-batch segment of index i are written, created and unlinked only by
    the holder of the lock on byte i: its client, or the coordinator that reaps it.
R2  The file reaches over entry i before segment c<i> exists, so that reaping every entry of the
    file finds every client segment.
R3  A ready entry's segment is formatted completely. Whoever finds the byte unlocked, or another
    client id than it knew, knows that its client is gone.
R4  POSIX locks vanish when the process closes *any* descriptor of the file. So a process has one
    descriptor per file (device, inode), shared by all its handles and counted.

Death of a client between two steps of `claim`: the byte is unlocked from then on. Before the
entry: a segment may be left, which the next claim of i or the next reap removes (R2). After it:
the entry stays ready with its byte unlocked; the coordinator reaps it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
from dataclasses import dataclass

from ferrisdb.errors import AccessError, ClosedError, Error, UnavailableError
from ferrisdb.kernel import layout
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.limits import CLIENT_COUNT_MAX
from ferrisdb.shm import client, locks
from ferrisdb.shm.names import NAME_BYTES_MAX, SegmentNames
from ferrisdb.shm.segment import Segment, unlink_segment

FILE_NAME = "clients"
ENTRY_MAGIC = int.from_bytes(b"FDBENTR\0", "little")
ENTRY_BYTES = 128
STATE_FREE = 0
STATE_READY = 1

_ENTRY = struct.Struct("<QII16sQ30s54xI")
_CRC = struct.Struct("<I")
if _ENTRY.size != ENTRY_BYTES or NAME_BYTES_MAX != 30:
    raise ImportError("the entry's layout and its struct differ")


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """A ready client, as DIR/clients names it."""

    index: int
    pid: int
    client_id: bytes
    attach_no: int
    segment_name: str


def encode_entry(state: int, pid: int, client_id: bytes, attach_no: int, name: str) -> bytes:
    """Return the 128 bytes of an entry."""
    blank = _ENTRY.pack(ENTRY_MAGIC, state, pid, client_id, attach_no, name.encode(), 0)
    body = blank[:-4]
    return body + _CRC.pack(crc32c(body))


def decode_entry(index: int, entry: bytes, names: SegmentNames) -> ClientEntry | None:
    """Return a ready entry of ours, None for a free, torn or foreign one.

    Shape: entry, a private copy of ENTRY_BYTES.
    """
    magic, state, pid, client_id, attach_no, padded, crc = _ENTRY.unpack(entry)
    if magic != ENTRY_MAGIC or state != STATE_READY or crc != crc32c(entry[:-4]):
        return None
    name = padded.rstrip(b"\0").decode("ascii", "replace")
    if names.parse(name) != ("c", index):
        return None
    return ClientEntry(index, pid, client_id, attach_no, name)


class ClientRegistration:
    """A client's index, byte lock and segment, from attach to detach.

    Owner: the process that claimed it. In a forked child it is dead: `release` does nothing.
    """

    __slots__ = ("_file", "_names", "attach_no", "client_id", "index", "segment")

    def __init__(
        self, file: _RegistryFile, names: SegmentNames, index: int, client_id: bytes
    ) -> None:
        self._file: _RegistryFile | None = file
        self._names = names
        self.index = index
        self.client_id = client_id
        self.attach_no = 0
        self.segment: Segment

    @classmethod
    def claim(
        cls, directory: str | os.PathLike[str], names: SegmentNames, client_id: bytes
    ) -> ClientRegistration:
        """Take a free index, create its segment, and publish both.

        Shape:  client_id, 16 random bytes, never used before.
        Raises: UnavailableError, CLIENT_COUNT_MAX clients are attached; SharedMemoryFullError,
                AccessError, OSError: nothing is held or published then.
        Cost:   one system call for each client with a lower index.
        """
        file = _open_file(directory)
        try:
            index = file.take_free_index()
        except BaseException:
            file.drop()
            raise
        self = cls(file, names, index, client_id)
        try:
            former = file.read_entry(index)
            self.attach_no = _attach_no(former) + 1
            # R2: the file must reach over the entry first. This also frees a dead client's.
            file.write_entry(index, encode_entry(STATE_FREE, 0, bytes(16), self.attach_no, ""))
            unlink_client_segments(names, index)
            name = names.name("c", index)
            self.segment = Segment.create(name, layout.CLIENT_BYTES)
            client.format_client(self.segment, client_id)
            entry = encode_entry(STATE_READY, os.getpid(), client_id, self.attach_no, name)
            file.write_entry(index, entry)
        except BaseException:
            self.release()
            raise
        return self

    @property
    def is_ours(self) -> bool:
        """False once released, and in a forked child."""
        return self._file is not None and self._file.is_ours

    def release(self) -> None:
        """Free entry, segment and lock, in this order; idempotent, nothing in a forked child."""
        file, self._file = self._file, None
        if file is None or not file.is_ours:
            return
        try:
            # Errors leave names behind, which the coordinator reaps as if we had died.
            with contextlib.suppress(OSError):
                free = encode_entry(STATE_FREE, 0, bytes(16), self.attach_no, "")
                file.write_entry(self.index, free)
                unlink_client_segments(self._names, self.index)
        finally:
            file.give_back_index(self.index)
            file.drop()


class RegistryReader:
    """The coordinator's side: who is attached, who lives, and clean-up behind the dead.

    Owner: one thread of the coordinator; tools may use all but the reaping.
    """

    __slots__ = ("_file", "_names")

    def __init__(self, directory: str | os.PathLike[str], names: SegmentNames) -> None:
        self._names = names
        #: Shared with the clients of this process, if any: see R4.
        self._file: _RegistryFile | None = _open_file(directory)

    def entries(self) -> list[ClientEntry]:
        """Return every ready entry, in index order, from one copy of the file."""
        return self._opened.read_ready(self._names)

    def entry(self, index: int) -> ClientEntry | None:
        """Return the ready entry of one index."""
        return decode_entry(index, self._opened.read_entry(index), self._names)

    def alive(self, index: int) -> bool:
        """Whether a living process (ours included) holds the index. Compare client ids too."""
        # An OFD query, for POSIX locks conflict with it even if they are our own process's.
        return locks.is_locked(self._opened.fd, index, 1)

    def reap(self, index: int) -> bool:
        """Free entry and segments of a dead client; return False if the index is held.

        Raises: AccessError, OSError; may be called again.
        Cost:   five system calls.
        """
        file = self._opened
        if not locks.try_lock(file.fd, index, 1):
            return False
        try:
            former = file.read_entry(index)
            unlink_client_segments(self._names, index)
            if former != bytes(ENTRY_BYTES):
                free = encode_entry(STATE_FREE, 0, bytes(16), _attach_no(former), "")
                file.write_entry(index, free)
        finally:
            locks.unlock(file.fd, index, 1)
        return True

    def reap_all(self) -> int:
        """Reap every index that the file reaches over; return how many are held by the living."""
        return sum(not self.reap(index) for index in range(self._opened.entry_count()))

    def close(self) -> None:
        """Let the file go; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.drop()

    @property
    def _opened(self) -> _RegistryFile:
        if self._file is None or not self._file.is_ours:
            raise ClosedError("the registry reader is closed, or its parent's")
        return self._file


def unlink_client_segments(names: SegmentNames, index: int) -> None:
    """Remove client segment `index` and the large-batch segment that it names, if any.

    Owner: the holder of the lock on byte `index` (R1).
    """
    name = names.name("c", index)
    with contextlib.suppress(Error, OSError):
        left = Segment.open(name, writable=False)
        if left is not None:
            # Whatever the dead client wrote there, only an x of its own index is removed.
            number = client.large_in_use(left)
            left.close()
            if number and number % CLIENT_COUNT_MAX == index:
                unlink_segment(names.name("x", number))
    unlink_segment(name)


class _RegistryFile:
    """The process's one descriptor of a DIR/clients (R4), and the indexes it holds there."""

    def __init__(self, key: tuple[int, int], fd: int) -> None:
        self.key = key
        self.fd = fd
        self.use_count = 0
        self.pid = os.getpid()
        #: Held by this process: POSIX locks would let it take them twice.
        self.indexes: set[int] = set()

    @property
    def is_ours(self) -> bool:
        return self.fd >= 0 and self.pid == os.getpid()

    def take_free_index(self) -> int:
        with _guard:
            for index in range(CLIENT_COUNT_MAX):
                if index in self.indexes:
                    continue
                try:
                    fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
                except OSError as reason:
                    if reason.errno in (errno.EACCES, errno.EAGAIN):
                        continue
                    raise
                self.indexes.add(index)
                return index
        raise UnavailableError(f"{CLIENT_COUNT_MAX} clients are attached already")

    def give_back_index(self, index: int) -> None:
        with _guard:
            fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, index)
            self.indexes.discard(index)

    def read_entry(self, index: int) -> bytes:
        return os.pread(self.fd, ENTRY_BYTES, index * ENTRY_BYTES).ljust(ENTRY_BYTES, b"\0")

    def write_entry(self, index: int, entry: bytes) -> None:
        if os.pwrite(self.fd, entry, index * ENTRY_BYTES) != len(entry):
            raise OSError(errno.ENOSPC, f"no space for entry {index} of {FILE_NAME}")

    def entry_count(self) -> int:
        nbytes = os.fstat(self.fd).st_size
        return min(-(-nbytes // ENTRY_BYTES), CLIENT_COUNT_MAX)

    def read_ready(self, names: SegmentNames) -> list[ClientEntry]:
        copy = os.pread(self.fd, CLIENT_COUNT_MAX * ENTRY_BYTES, 0)
        found = []
        for index in range(len(copy) // ENTRY_BYTES):
            raw = copy[index * ENTRY_BYTES : (index + 1) * ENTRY_BYTES]
            entry = decode_entry(index, raw, names)
            if entry is not None:
                found.append(entry)
        return found

    def drop(self) -> None:
        with _guard:
            if not self.is_ours:
                return
            self.use_count -= 1
            if self.use_count == 0:
                del _files[self.key]
                os.close(self.fd)
                self.fd = -1


_guard = threading.Lock()
_files: dict[tuple[int, int], _RegistryFile] = {}


def _open_file(directory: str | os.PathLike[str]) -> _RegistryFile:
    path = os.path.join(os.fspath(directory), FILE_NAME)
    with _guard:
        with contextlib.suppress(FileNotFoundError):
            # Looked up by stat: opening it a second time would lead to closing it (R4).
            status = os.stat(path)
            known = _files.get((status.st_dev, status.st_ino))
            if known is not None:
                known.use_count += 1
                return known
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as reason:
            raise AccessError(reason.errno, f"no permission for {path}") from reason
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        file = _files.get(key)
        if file is not None:
            # The file changed its name between the two calls. Never close what has locks.
            file.use_count += 1
            return file
        file = _files[key] = _RegistryFile(key, fd)
        file.use_count = 1
        return file


def _attach_no(entry: bytes) -> int:
    fields = _ENTRY.unpack(entry)
    if fields[0] != ENTRY_MAGIC or fields[-1] != crc32c(entry[:-4]):
        return 0
    attach_no: int = fields[4]
    return attach_no % (1 << 63)


def _forget_parent() -> None:
    # The child has no locks, and closing its descriptors releases none of the parent's. The
    # guard may have been held by a thread that does not exist here.
    global _guard  # noqa: PLW0603  # the process's one registry of descriptors
    _guard = threading.Lock()
    for file in _files.values():
        with contextlib.suppress(OSError):
            os.close(file.fd)
        file.fd = -1
    _files.clear()


os.register_at_fork(after_in_child=_forget_parent)
