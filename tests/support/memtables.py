"""Build memtables for tests, in private memory or in a segment, without a coordinator."""

from __future__ import annotations

from collections.abc import Sequence

from ferrisdb.format.wal import Operation, OpKind, encode_operations
from ferrisdb.kernel.memtable import MemtableWriter


def put(key: bytes, value: bytes) -> Operation:
    """A put, as the WAL knows it."""
    return Operation(OpKind.PUT, key, value)


def fill(
    view: bytearray | memoryview, operations: Sequence[Operation], *, number: int = 1
) -> MemtableWriter:
    """Format a memtable and apply operations with sequences from 1 on, in complete order."""
    writer = MemtableWriter(view, number, 1)
    writer.apply(encode_operations(tuple(operations)), len(operations), 1)
    writer.link_all()
    return writer
