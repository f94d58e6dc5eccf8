"""A small WAL file whose every byte is known: three groups, all kinds of operations."""

from __future__ import annotations

from ferrisdb.format import wal

DATABASE_ID = bytes(range(16))
SALT = 0x0123456789ABCDEF
CREATED_US = 1_700_000_000_000_000
FILE_BYTES = 1024
PATH = "db/000012.wal"
CLIENT = b"0123456789abcdef"

# (group, operations, reply): the records of a group are written at once and synced together.
BATCHES = (
    (0, (wal.Operation(wal.OpKind.PUT, b"\0apple", b"red"),), b""),
    (
        1,
        (
            wal.Operation(wal.OpKind.DELETE, b"\0apple"),
            wal.Operation(wal.OpKind.PUT_EXPIRING, b"\0pear", b"green", 1_700_000_060_000_000),
        ),
        b"",
    ),
    (1, (wal.Operation(wal.OpKind.PUT, b"\0n", b"42"),), b"42"),
    (2, (wal.Operation(wal.OpKind.RANGE_DELETE, b"\0a", b"\0b"),), b""),
    (2, (), b"absent"),
    (2, (wal.Operation(wal.OpKind.PUT, b"\0", b""),), b""),
)


def sample(synced_end: int = wal.FIRST_RECORD_OFFSET) -> tuple[bytes, list[wal.Record]]:
    """Return the file and its records, the opening record included."""
    content = bytearray(
        wal.encode_file_header(
            file_number=12,
            database_id=DATABASE_ID,
            created_us=CREATED_US,
            salt=SALT,
            base_seq=101,
            generation=3,
            synced_end=synced_end,
        )
    )
    content += wal.encode_opening(wal.Opening(101, CREATED_US, 9, 4096), SALT)
    seq, synced_to, group_before = 101, wal.FIRST_RECORD_OFFSET, 0
    for number, (group, operations, reply) in enumerate(BATCHES):
        if group != group_before:
            synced_to, group_before = len(content), group
        record = wal.Record(
            offset=len(content),
            total_bytes=0,
            first_seq=seq,
            count=len(operations),
            synced_to=synced_to,
            time_us=CREATED_US + 1000 * (group + 1),
            client_id=CLIENT,
            request_no=number + 1,
            unanswered_no=number // 2 + 1,
            operations=operations,
            reply=reply,
        )
        content += wal.encode_record(record, SALT)
        seq += len(operations)
    content += bytes(FILE_BYTES - len(content))
    return bytes(content), scanned(content)


def scanned(content: bytes | bytearray) -> list[wal.Record]:
    """Return the records that the scanner finds."""
    file = wal.decode_file_header(content, PATH, file_number=12, database_id=DATABASE_ID)
    return list(wal.records(content, wal.scan_file(content, file, PATH)))
