"""Name the files of a database directory, and recognise them.

| name | kind | what it is |
|---|---|---|
| `LOCK` | LOCK | locked by the coordinator while it lives |
| `CURRENT` | CURRENT | names the live MANIFEST |
| `MANIFEST-000007` | MANIFEST | log of version edits |
| `000012.wal` | WAL | write-ahead log of memtable 12 |
| `000013.sst` | TABLE | sstable |
| `clients` | CLIENTS | registry of attached processes, one lockable byte each |
| `segments` | SEGMENTS | shared-memory names to sweep at the next start |
| `service.log` | SERVICE_LOG | messages of a coordinator that was started in the background |
| `ferrisdb.toml` | SETTINGS | how the service runs; its user writes it |
| `users.toml` | USERS | who may come in by the sockets; its user writes it |
| `ferris.sock` | SOCKET | the Unix socket of the service that runs |
| `lost` | LOST | directory: files moved aside because the manifest had an anomaly |
| `quarantine` | QUARANTINE | directory: what a repair has replaced, and what it could not read |
| `….tmp` | TEMPORARY | being written; removed at start |

Numbers have six digits or more, no superfluous zeros, and come from one space shared by all
kinds; a number is never used twice. A memtable has the number of its WAL file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ferrisdb.errors import CorruptionError

NUMBER_MAX: Final = (1 << 63) - 1
TEMPORARY_SUFFIX: Final = ".tmp"


class FileKind(IntEnum):
    """Kinds of files in a database directory."""

    LOCK = 1
    CURRENT = 2
    MANIFEST = 3
    WAL = 4
    TABLE = 5
    CLIENTS = 6
    SEGMENTS = 7
    SERVICE_LOG = 8
    LOST = 9
    TEMPORARY = 10
    SETTINGS = 11
    QUARANTINE = 12
    SOCKET = 13
    USERS = 14


_FIXED: Final = {
    "LOCK": FileKind.LOCK,
    "CURRENT": FileKind.CURRENT,
    "clients": FileKind.CLIENTS,
    "segments": FileKind.SEGMENTS,
    "service.log": FileKind.SERVICE_LOG,
    "lost": FileKind.LOST,
    "quarantine": FileKind.QUARANTINE,
    "ferrisdb.toml": FileKind.SETTINGS,
    "ferris.sock": FileKind.SOCKET,
    "users.toml": FileKind.USERS,
}
_FIXED_NAME: Final = {kind: name for name, kind in _FIXED.items()}
_NUMBERED: Final = re.compile(r"(MANIFEST-)?([0-9]{6,19})(\.wal|\.sst)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileName:
    """A recognised name; `number` is 0 for kinds without one."""

    kind: FileKind
    number: int = 0


@dataclass(frozen=True, slots=True)
class DIR:
    """Build the paths inside one database directory."""

    path: str

    def fixed(self, kind: FileKind) -> str:
        """Return the path of a kind that has one file only."""
        return f"{self.path}/{_FIXED_NAME[kind]}"

    def file(self, kind: FileKind, number: int) -> str:
        """Return the path of a numbered file."""
        return f"{self.path}/{format_name(kind, number)}"

    def temporary(self, kind: FileKind, number: int = 0) -> str:
        """Return the path under which a file is written before it is renamed into place."""
        return f"{self.path}/{format_name(kind, number)}{TEMPORARY_SUFFIX}"

    def table_paths(self, number: int) -> tuple[str, str]:
        """Return the paths of a table, finished or not."""
        return self.file(FileKind.TABLE, number), self.temporary(FileKind.TABLE, number)

    def named(self, name: str) -> str:
        """Return the path of a name found in the directory."""
        return f"{self.path}/{name}"


def format_name(kind: FileKind, number: int = 0) -> str:
    """Return the name of a file.

    Shape: number, 1 to NUMBER_MAX for MANIFEST, WAL and TABLE, else 0.
    """
    fixed = _FIXED_NAME.get(kind)
    if fixed is not None and number == 0:
        return fixed
    if not 1 <= number <= NUMBER_MAX:
        raise ValueError(f"no file of kind {kind.name} has the number {number}")
    if kind is FileKind.MANIFEST:
        return f"MANIFEST-{number:06d}"
    if kind is FileKind.WAL:
        return f"{number:06d}.wal"
    if kind is FileKind.TABLE:
        return f"{number:06d}.sst"
    raise ValueError(f"files of kind {kind.name} have no number")


def parse_name(name: str) -> FileName | None:
    """Return what a name in the directory stands for; None for one that is not ours.

    A temporary name carries the number of the file it was to become, or 0.
    """
    if name.endswith(TEMPORARY_SUFFIX):
        target = parse_name(name.removesuffix(TEMPORARY_SUFFIX))
        if target is None or target.kind is FileKind.TEMPORARY:
            return None
        return FileName(FileKind.TEMPORARY, target.number)
    fixed = _FIXED.get(name)
    if fixed is not None:
        return FileName(fixed)
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return None
    prefix, digits, suffix = match.groups()
    kind = {
        ("MANIFEST-", None): FileKind.MANIFEST,
        (None, ".wal"): FileKind.WAL,
        (None, ".sst"): FileKind.TABLE,
    }.get((prefix, suffix))
    if kind is None:
        return None
    number = int(digits)
    # 0000012.wal would be a second name for 000012.wal.
    if not 1 <= number <= NUMBER_MAX or f"{number:06d}" != digits:
        return None
    return FileName(kind, number)


def check_number(number: int, path: str, offset: int) -> int:
    """Return a file number read from disk.

    Raises: CorruptionError where no file can have it.
    """
    if not 1 <= number <= NUMBER_MAX:
        raise CorruptionError(path, offset, "a file number", number)
    return number
