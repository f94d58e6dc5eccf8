"""Write WAL files as a coordinator would: groups, each with a sync or without."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ferrisdb.engine.wal_files import OpenWal
from ferrisdb.format import wal as layout

CLIENT = b"client-000000001"


@dataclass(slots=True)
class Appender:
    """Appends batches to an open WAL file, keeping track of what is durable.

    `appended`: (first_seq, operations, end of the record); `synced_to`: as the file has it.
    """

    wal: OpenWal
    next_seq: int
    time_us: int = 1
    request_no: int = 1
    offset: int = 0
    synced_to: int = layout.FIRST_RECORD_OFFSET
    appended: list[tuple[int, bytes, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.offset = self.wal.append_offset

    def batch(self, *operations: layout.Operation, raw: bool = False) -> None:
        """Append one batch; raw: by the descriptor, as compiled code does."""
        record = layout.Record(
            offset=self.offset,
            total_bytes=0,
            first_seq=self.next_seq,
            count=0,
            synced_to=self.synced_to,
            time_us=self.time_us,
            client_id=CLIENT,
            request_no=self.request_no,
            unanswered_no=max(1, self.request_no - 3),
            operations=operations,
            reply=b"r%d" % self.request_no,
        )
        sealed = layout.encode_record(record, self.wal.salt)
        if raw:
            os.pwrite(self.wal.file.fileno(), sealed, self.offset)
        else:
            self.wal.file.pwrite(sealed, self.offset)
        self.offset += len(sealed)
        self.appended.append((self.next_seq, layout.encode_operations(operations), self.offset))
        self.next_seq += len(operations)
        self.request_no += 1
        self.time_us += 1

    def sync(self) -> None:
        """Make what was appended durable."""
        self.wal.file.datasync()
        self.synced_to = self.offset


def put(key: bytes, value: bytes = b"") -> layout.Operation:
    """Return a put."""
    return layout.Operation(layout.OpKind.PUT, key, value)
