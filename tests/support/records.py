"""What a writer process notes of its commits, and what its batches look like.

A note is 16 bytes, appended by one write(2): kind, incarnation, batch number. It survives the
writer's SIGKILL as soon as the call has returned. A writer that starts takes a new incarnation,
so that the one batch whose fate its predecessor left open stays apart from its own.

Every batch follows from (writer, incarnation, number) alone:

    row/WRITER/INCARNATION/NUMBER/J   its rows, J from 0: count of rows, CRC-32, filling
    head/WRITER/INCARNATION           overwritten by each batch: its number
    mark/WRITER/INCARNATION/NUMBER    put by the batch, deleted by its successor
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_NOTE = struct.Struct("<IIQ")
_VALUE = struct.Struct("<II")
_HEAD_OPS = 3

Life = tuple[int, int]
"""Writer and incarnation."""


class Note(IntEnum):
    """What a note says of a batch."""

    ATTEMPTED = 1
    ACKNOWLEDGED = 2
    #: The commit raised CommitUnknownError: it is there whole or not at all.
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of one writer."""

    life: Life
    number: int

    @property
    def row_count(self) -> int:
        """How many rows it has."""
        return 1 + self._dice % 9

    @property
    def op_count(self) -> int:
        """How many sequence numbers it takes."""
        return self.row_count + (_HEAD_OPS if self.number > 1 else _HEAD_OPS - 1)

    @property
    def _dice(self) -> int:
        return zlib.crc32(struct.pack("<IIQ", *self.life, self.number))

    @property
    def _value_bytes(self) -> int:
        dice = self._dice >> 8
        if dice % 200 == 0:
            return 300_000 // self.row_count  # past half the ring: a segment of its own
        if dice % 20 == 0:
            return 20_000 // self.row_count
        return dice % 300

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield its rows."""
        count, filling = self.row_count, bytes([self.number & 0xFF]) * self._value_bytes
        prefix = b"row/%03d/%05d/%010d/" % (*self.life, self.number)
        for j in range(count):
            key = prefix + b"%02d" % j
            yield key, _VALUE.pack(count, zlib.crc32(filling, zlib.crc32(key))) + filling

    def head(self) -> tuple[bytes, bytes]:
        """Return the row that every batch of this life overwrites."""
        return b"head/%03d/%05d" % self.life, b"%d" % self.number

    def mark(self) -> bytes:
        """Return the key that this batch puts and the next deletes."""
        return b"mark/%03d/%05d/%010d" % (*self.life, self.number)


def value_fits(key: bytes, value: bytes, row_count: int) -> bool:
    """Tell whether a row holds what its batch put there."""
    if len(value) < _VALUE.size:
        return False
    count, checksum = _VALUE.unpack_from(value)
    return bool(
        count == row_count and checksum == zlib.crc32(value[_VALUE.size :], zlib.crc32(key))
    )


class Record:
    """A writer's own file of notes."""

    def __init__(self, folder: Path, writer: int) -> None:
        path = folder / f"writer-{writer:03d}.notes"
        former = [incarnation for _, incarnation, _ in notes(path)]
        self.life: Life = (writer, max(former, default=0) + 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, note: Note, number: int) -> None:
        """Append one note."""
        os.write(self._fd, _NOTE.pack(note, self.life[1], number))

    def next_life(self) -> Life:
        """Begin a new incarnation: the last batch's fate is open."""
        self.life = (self.life[0], self.life[1] + 1)
        return self.life


def notes(path: Path) -> list[tuple[int, int, int]]:
    """Read a file of notes: kind, incarnation, number."""
    content = path.read_bytes() if path.exists() else b""
    return list(_NOTE.iter_unpack(content[: len(content) // _NOTE.size * _NOTE.size]))


def highest(folder: Path, kind: Note) -> dict[Life, int]:
    """Return the last batch with such a note, for each life that has one."""
    found: dict[Life, int] = {}
    for path in sorted(folder.glob("writer-*.notes")):
        writer = int(path.stem[7:])
        for noted, incarnation, number in notes(path):
            if noted == kind:
                found[writer, incarnation] = number
    return found


def acknowledged_count(folder: Path, writer: int) -> int:
    """Return how many commits of a writer were acknowledged, over all its lives."""
    path = folder / f"writer-{writer:03d}.notes"
    return sum(kind == Note.ACKNOWLEDGED for kind, _, _ in notes(path))
