"""Name a directory's segments, and remember the names until the segments are gone.

A name is "/fdb", the directory's nonce (12 hex digits), ".", a letter and a decimal number: at
most 30 bytes, as macOS wants.

| letter | segment | number | recorded in |
| --- | --- | --- | --- |
| k | control page | 0 | DIR/segments |
| d | doorbell | 0 | DIR/segments |
| m | memtable | that of its WAL file | DIR/segments |
| v | version page | epoch | DIR/segments |
| c | a client's segment | its index in DIR/clients | DIR/clients |
| x | a client's large batch | k * CLIENT_COUNT_MAX + index, k from 1 | CLIENT_LARGE of its c |

DIR/segments is text, for people too, and needs no sync: after a power cut there are no segments.

    ferrisdb-segments 1 NONCE DEVICE INODE DATABASE_ID CRC      first line; ids in hex, - for none
    /fdbNONCE.m17                                               one line for each name

CRC is the CRC-32C, 8 hex digits, of the first line up to the space before it. Lines are
appended, each by one write(2), before the segment is created; a torn last line is a name whose
segment was never created.

Invariants
N1  Device and inode are those of DIR when the nonce was drawn. In a copied directory they
    differ: it draws its own nonce and sweeps nothing, for the names belong to the original.
N2  Only names with our own nonce and of the form above are swept, whatever the file says.
N3  The file is written by the holder of LOCK alone; it is replaced by rename only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterable

from ferrisdb.errors import UsageError
from ferrisdb.kernel.checksum import crc32c
from ferrisdb.limits import CLIENT_COUNT_MAX
from ferrisdb.seams import RealFileSystem
from ferrisdb.shm.segment import unlink_segment

FILE_NAME = "segments"
NAME_BYTES_MAX = 30
NUMBER_MAX = 10**12 - 1
FILE_BYTES_MAX = 1 << 24
FORGOTTEN_LINES_MAX = 1000

_NONCE_BYTES = 6
_NAME = re.compile(r"/fdb([0-9a-f]{12})\.([kdmvcx])(0|[1-9][0-9]{0,11})", re.ASCII)
_HEAD = re.compile(
    r"(ferrisdb-segments 1 ([0-9a-f]{12}) ([0-9]{1,20}) ([0-9]{1,20}) ([0-9a-f]{32}|-))"
    r" ([0-9a-f]{8})",
    re.ASCII,
)


class SegmentNames:
    """The nonce of a directory and the names made from it.

    Owner: the holder of LOCK may record and sweep; anyone else only reads and derives names.
    """

    __slots__ = ("_is_torn", "_line_count", "_recorded", "database_id", "directory", "nonce")

    def __init__(
        self, directory: str, nonce: str, database_id: bytes | None, recorded: Iterable[str] = ()
    ) -> None:
        self.directory = directory
        self.nonce = nonce
        self.database_id = database_id
        self._recorded = dict.fromkeys(recorded)
        #: Names in the file, forgotten ones included.
        self._line_count = len(self._recorded)
        #: Whether the file ends with a piece of a line.
        self._is_torn = False

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> SegmentNames | None:
        """Return what DIR/segments says, or None if it says nothing for this directory."""
        directory = os.fspath(directory)
        try:
            with open(os.path.join(directory, FILE_NAME), "rb", buffering=0) as file:
                # No more than there is: the whole room would be reserved for a hundred bytes.
                nbytes = os.fstat(file.fileno()).st_size
                content = file.read(min(nbytes, FILE_BYTES_MAX))
            status = os.stat(directory)
        except OSError:
            return None
        lines = content.decode("ascii", "replace").split("\n")
        head = _HEAD.fullmatch(lines[0])
        if head is None or int(head[6], 16) != crc32c(head[1].encode()):
            return None
        if (int(head[3]), int(head[4])) != (status.st_dev, status.st_ino):
            return None
        nonce = head[2]
        # The last piece lacks its newline (or is empty): its segment was never created.
        recorded = [line for line in lines[1:-1] if parse_name(line, nonce) is not None]
        return cls(directory, nonce, None if head[5] == "-" else bytes.fromhex(head[5]), recorded)

    @classmethod
    def load_or_create(
        cls, directory: str | os.PathLike[str], database_id: bytes | None = None
    ) -> SegmentNames:
        """Return the directory's names, drawing a fresh nonce if it has none of its own (N1).

        Shape:  database_id, 16 bytes or None; kept for tools that look at /dev/shm.
        Raises: OSError, the file can't be written.
        Owner:  the holder of LOCK.
        """
        names = cls.read(directory)
        if names is not None and database_id in (None, names.database_id):
            return names
        if names is None:
            names = cls(os.fspath(directory), os.urandom(_NONCE_BYTES).hex(), None)
        names.database_id = database_id
        names._rewrite()
        return names

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names recorded and not swept yet, oldest first."""
        return tuple(self._recorded)

    def name(self, letter: str, number: int) -> str:
        """Return the name of a segment; see the table above.

        Raises: UsageError, no such letter or number.
        """
        name = f"/fdb{self.nonce}.{letter}{number}"
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"{name} is no segment name")
        return name

    def parse(self, name: str) -> tuple[str, int] | None:
        """Return (letter, number) of one of our names, None for anything else."""
        return parse_name(name, self.nonce)

    def record(self, name: str) -> None:
        """Note a name by one write; its segment may be created from now on.

        Raises: OSError, nothing recorded; UsageError, not one of our names.
        Owner:  the holder of LOCK.
        """
        if self.parse(name) is None:
            raise UsageError(f"{name} is no segment name of {self.directory}")
        if name in self._recorded:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(os.path.join(self.directory, FILE_NAME), flags)
        try:
            line = f"{name}\n".encode()
            if self._is_torn:
                line = b"\n" + line
            if (done := os.write(fd, line)) != len(line):
                # The next line would be glued to this piece: it closes it off.
                self._is_torn = self._is_torn or done > 0
                raise OSError(errno.ENOSPC, f"no space to record segment {name}")
            self._is_torn = False
        finally:
            os.close(fd)
        self._recorded[name] = None
        self._line_count += 1

    def forget(self, names: Iterable[str]) -> None:
        """Drop names whose segments have been unlinked, so that the file does not grow for ever.

        Raises: OSError from a rewrite: the names stay in the file, which does no harm.
        Owner:  the holder of LOCK.
        Cost:   none, mostly; one rewrite for every FORGOTTEN_LINES_MAX names.
        """
        for name in names:
            self._recorded.pop(name, None)
        if self._line_count - len(self._recorded) > FORGOTTEN_LINES_MAX:
            self._rewrite()

    def sweep(self, keep: Collection[str] = ()) -> list[str]:
        """Unlink every recorded segment that is not in `keep`, and forget its name.

        Returns: the names whose segments were there and are gone now.
        Raises:  OSError from the rewrite: the names stay recorded, which does no harm.
        Owner:   the holder of LOCK.
        Cost:    rewrites the file: O(names kept).
        """
        kept = set(keep)
        doomed = [name for name in self._recorded if name not in kept]
        gone = [name for name in doomed if unlink_segment(name)]
        for name in doomed:
            del self._recorded[name]
        if doomed:
            self._rewrite()
        return gone

    def _rewrite(self) -> None:
        status = os.stat(self.directory)
        database_id = "-" if self.database_id is None else self.database_id.hex()
        head = f"ferrisdb-segments 1 {self.nonce} {status.st_dev} {status.st_ino} {database_id}"
        lines = [f"{head} {crc32c(head.encode()):08x}", *self._recorded, ""]
        path = os.path.join(self.directory, FILE_NAME)
        temporary = path + ".tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb", buffering=0) as file:
                rest = memoryview("\n".join(lines).encode())
                while rest:
                    rest = rest[file.write(rest) :]
            RealFileSystem().rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._line_count = len(self._recorded)
        self._is_torn = False


def parse_name(name: str, nonce: str) -> tuple[str, int] | None:
    """Return (letter, number) of a name with that nonce, None for anything else (N2)."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] != nonce:
        return None
    return match[2], int(match[3])


def large_number(client_index: int, counter: int) -> int:
    """Return the number of a client's large-batch segment: never 0, and it tells the client.

    Shape: counter, any positive number; what exceeds NUMBER_MAX wraps around, past 0.
    """
    turns = (NUMBER_MAX + 1) // CLIENT_COUNT_MAX - 1
    return ((counter - 1) % turns + 1) * CLIENT_COUNT_MAX + client_index
