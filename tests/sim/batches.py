"""What the simulated writers write: every batch follows from its life and number alone.

    row/WRITER/INCARNATION/NUMBER/J   rows, J from 0, never overwritten
    head/WRITER/INCARNATION           overwritten by each batch: its number
    mark/WRITER/INCARNATION/NUMBER    put by the batch, deleted by its successor

A writer that dies comes back as another incarnation: another life.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ferrisdb.kernel.batch import BatchBuffer
from ferrisdb.keys import DEFAULT_PREFIX

Life = tuple[int, int]
"""Writer and incarnation."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of one life; numbers begin with 1."""

    life: Life
    number: int

    @property
    def row_count(self) -> int:
        return 1 + self._dice % 5

    @property
    def op_count(self) -> int:
        """How many sequence numbers it takes; the rows take the first of them."""
        return self.row_count + (3 if self.number > 1 else 2)

    @property
    def _dice(self) -> int:
        return zlib.crc32(b"%d/%d/%d" % (*self.life, self.number))

    def row(self, j: int) -> tuple[bytes, bytes]:
        """Return a row's user key and value."""
        key = b"row/%d/%d/%d/%d" % (*self.life, self.number, j)
        filling = bytes([self.number & 0xFF]) * (self._dice >> 8 & 0x3FF)
        return key, b"%08x" % zlib.crc32(key) + filling

    def head(self) -> bytes:
        """Return the key that every batch of this life overwrites."""
        return b"head/%d/%d" % self.life

    def mark(self) -> bytes:
        """Return the key that this batch puts and the next one deletes."""
        return b"mark/%d/%d/%d" % (*self.life, self.number)

    def encode(self) -> BatchBuffer:
        """Return it in the form in which it is submitted."""
        batch = BatchBuffer(DEFAULT_PREFIX)
        for j in range(self.row_count):
            batch.put(*self.row(j))
        batch.put(self.head(), b"%d" % self.number)
        batch.put(self.mark(), b"")
        if self.number > 1:
            batch.delete(Batch(self.life, self.number - 1).mark())
        return batch


def parse_row(key: bytes) -> tuple[Batch, int] | None:
    """Return the batch and index of a row's user key, None for another key."""
    kind, *parts = key.split(b"/")
    if kind != b"row":
        return None
    writer, incarnation, number, j = (int(part) for part in parts)
    return Batch((writer, incarnation), number), j
