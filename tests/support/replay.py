"""Memtables for recovery tests: plain dictionaries, with the kernel's contract."""

from __future__ import annotations

from ferrisdb.format import wal


class ListTarget:
    """Keeps the records it was given, up to a number of bytes.

    Stands in for the kernel's memtable in recovery.
    """

    def __init__(self, number: int, room_bytes: int = 1 << 30) -> None:
        self.number = number
        self.records: list[tuple[int, bytes]] = []
        self._room_bytes = room_bytes

    def apply_records(self, buffer: bytes, start: int, end: int) -> int:
        while start < end:
            ops_bytes = int.from_bytes(buffer[start + 4 : start + 8], "little")
            reply_bytes = int.from_bytes(buffer[start + 22 : start + 24], "little")
            total = wal.RECORD_HEADER_BYTES + ops_bytes + reply_bytes
            total += -total % 8
            if total > self._room_bytes:
                return start
            self._room_bytes -= total
            first_seq = int.from_bytes(buffer[start + 8 : start + 16], "little")
            at = start + wal.RECORD_HEADER_BYTES
            self.records.append((first_seq, bytes(buffer[at : at + ops_bytes])))
            start += total
        return end
