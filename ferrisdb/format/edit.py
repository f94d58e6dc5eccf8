"""Encode version edits: what one record of a MANIFEST says.

Little-endian. Golden file: tests/golden/manifest.hex. An edit is a sequence of fields:

| offset | width | field |
|---|---|---|
| 0 | 2 | tag |
| 2 | 2 | 0 |
| 4 | 4 | length of the value in bytes |
| 8 |   | value |

| tag | value |
|---|---|
| 1 DATABASE_ID | 16 bytes |
| 2 NEXT_FILE_NUMBER | u64: no file has this number or a higher one |
| 3 LAST_SEQ | u64: highest sequence number given out when the edit was made |
| 4 LOG_NUMBER | u64: lowest number of a WAL file that is still needed; that file exists |
| 5 GENERATION | u64: the coordinator's |
| 6 ADD_TABLE | see below; any number of times |
| 7 REMOVE_TABLE | u8 level, u64 file number; any number of times |
| 8 OUTCOMES | the whole outcome table as of this edit; replaces the one before |

ADD_TABLE: u8 level, u8 flags (bit 0: unbounded), u64 file number, u64 file bytes, u64 entries,
u64 deletes, u64 range deletes, u64 expiring puts, u64 entries behind a newer one of their key,
u64 time in µs since the epoch by which a quarter of the entries will have expired (0: never), u64
lowest and u64 highest sequence number, u32 length of the smallest key, u32 length of the largest
key, these keys.

OUTCOMES: u32 count, then each: 16 bytes client id, u64 request_no, u64 unanswered_no, u64
first_seq, u32 count of operations, u8 reply_bytes (at most 32), reply.

Tags 1 to 5 and 8 stand at most once. Fields are decoded only once the record's checksum is known
to be right: so an unknown tag or flag is a newer FerrisDB's, and anything else that is not as
above is corruption.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ferrisdb import limits
from ferrisdb.errors import CorruptionError, FormatTooNewError
from ferrisdb.format.filenames import NUMBER_MAX
from ferrisdb.format.header import DATABASE_ID_BYTES

LEVEL_COUNT: Final = 7

_FIELD: Final = struct.Struct("<HHI")
_TABLE: Final = struct.Struct("<BBQQQQQQQQQQII")
_REMOVED: Final = struct.Struct("<BQ")
_OUTCOME: Final = struct.Struct("<16sQQQIB")
_UNBOUNDED: Final = 1


class Tag(IntEnum):
    """Kinds of fields in an edit; numbers are on disk and never reused."""

    DATABASE_ID = 1
    NEXT_FILE_NUMBER = 2
    LAST_SEQ = 3
    LOG_NUMBER = 4
    GENERATION = 5
    ADD_TABLE = 6
    REMOVE_TABLE = 7
    OUTCOMES = 8


@dataclass(frozen=True, slots=True)
class TableMeta:
    """What the engine knows of a table without opening it.

    `smallest` and `largest` are stored keys that enclose every entry and every range tombstone
    (an end counts as inside, though it is exclusive); `unbounded`: a range tombstone has no end,
    so nothing above `smallest` is outside.
    """

    level: int
    number: int
    file_bytes: int
    entry_count: int
    smallest: bytes
    largest: bytes
    min_seq: int
    max_seq: int
    delete_count: int = 0
    range_delete_count: int = 0
    expiring_count: int = 0
    #: Entries behind a newer one of their key in this table.
    older_count: int = 0
    #: When a quarter of the entries will have expired; 0: never.
    quarter_expires_us: int = 0
    unbounded: bool = False

    @property
    def has_ranges(self) -> bool:
        """Whether the table has range tombstones."""
        return self.range_delete_count > 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request of one client: committed as first_seq, with this reply."""

    client_id: bytes
    request_no: int
    unanswered_no: int
    first_seq: int
    count: int
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class VersionEdit:
    """One step from a version to the next; None and empty: unchanged."""

    database_id: bytes | None = None
    next_file_number: int | None = None
    last_seq: int | None = None
    log_number: int | None = None
    generation: int | None = None
    added: tuple[TableMeta, ...] = ()
    removed: tuple[tuple[int, int], ...] = ()
    outcomes: tuple[Outcome, ...] | None = None


def encode_edit(edit: VersionEdit) -> bytes:
    """Return the edit as a MANIFEST record's payload."""
    pieces: list[bytes] = []

    def put(tag: Tag, value: bytes) -> None:
        pieces.append(_FIELD.pack(tag, 0, len(value)) + value)

    if edit.database_id is not None:
        put(Tag.DATABASE_ID, edit.database_id)
    for tag, number in (
        (Tag.NEXT_FILE_NUMBER, edit.next_file_number),
        (Tag.LAST_SEQ, edit.last_seq),
        (Tag.LOG_NUMBER, edit.log_number),
        (Tag.GENERATION, edit.generation),
    ):
        if number is not None:
            put(tag, struct.pack("<Q", number))
    for level, number in edit.removed:
        put(Tag.REMOVE_TABLE, _REMOVED.pack(level, number))
    for table in edit.added:
        put(Tag.ADD_TABLE, _encode_table(table))
    if edit.outcomes is not None:
        put(Tag.OUTCOMES, _encode_outcomes(edit.outcomes))
    return b"".join(pieces)


def decode_edit(payload: bytes, path: str, offset: int) -> VersionEdit:
    """Return the edit of a record whose checksum was right.

    Shape:  path and offset (of the payload in the file) are for the error text.
    Raises: CorruptionError; FormatTooNewError for a tag or flag that is not known here.
    """
    single: dict[Tag, bytes] = {}
    added: list[TableMeta] = []
    removed: list[tuple[int, int]] = []
    position = 0
    while position < len(payload):
        at = offset + position
        if len(payload) - position < _FIELD.size:
            raise CorruptionError(path, at, "a field", f"{len(payload) - position} bytes")
        number, zero, size = _FIELD.unpack_from(payload, position)
        position += _FIELD.size
        if size > len(payload) - position:
            raise CorruptionError(path, at, f"at most {len(payload) - position} bytes", size)
        value = payload[position : position + size]
        position += size
        try:
            tag = Tag(number)
        except ValueError:
            tag = None
        if tag is None or zero:
            raise FormatTooNewError(
                f"{path}: the edit at byte {at} has a field {number} that this FerrisDB does not "
                "know: upgrade it"
            )
        if tag is Tag.ADD_TABLE:
            added.append(_decode_table(value, path, at))
        elif tag is Tag.REMOVE_TABLE:
            removed.append(_decode_removed(value, path, at))
        elif tag in single:
            raise CorruptionError(path, at, f"one field {tag.name}", "a second one")
        else:
            single[tag] = value
    return _assemble(single, tuple(added), tuple(removed), path, offset)


def _assemble(
    single: dict[Tag, bytes],
    added: tuple[TableMeta, ...],
    removed: tuple[tuple[int, int], ...],
    path: str,
    offset: int,
) -> VersionEdit:
    def number(tag: Tag, bound: int) -> int | None:
        value = single.get(tag)
        if value is None:
            return None
        found = int.from_bytes(value, "little")
        if len(value) != 8 or found > bound:
            raise CorruptionError(path, offset, f"{tag.name} up to {bound}", value.hex())
        return found

    database_id = single.get(Tag.DATABASE_ID)
    if database_id is not None and len(database_id) != DATABASE_ID_BYTES:
        raise CorruptionError(path, offset, "a database id", database_id.hex())
    outcomes = single.get(Tag.OUTCOMES)
    return VersionEdit(
        database_id=database_id,
        next_file_number=number(Tag.NEXT_FILE_NUMBER, NUMBER_MAX),
        last_seq=number(Tag.LAST_SEQ, limits.SEQNO_MAX),
        log_number=number(Tag.LOG_NUMBER, NUMBER_MAX),
        generation=number(Tag.GENERATION, (1 << 64) - 1),
        added=added,
        removed=removed,
        outcomes=None if outcomes is None else _decode_outcomes(outcomes, path, offset),
    )


def _encode_table(table: TableMeta) -> bytes:
    return (
        _TABLE.pack(
            table.level,
            _UNBOUNDED if table.unbounded else 0,
            table.number,
            table.file_bytes,
            table.entry_count,
            table.delete_count,
            table.range_delete_count,
            table.expiring_count,
            table.older_count,
            table.quarter_expires_us,
            table.min_seq,
            table.max_seq,
            len(table.smallest),
            len(table.largest),
        )
        + table.smallest
        + table.largest
    )


def _decode_table(value: bytes, path: str, at: int) -> TableMeta:
    if len(value) < _TABLE.size:
        raise CorruptionError(path, at, f"a table of at least {_TABLE.size} bytes", len(value))
    (level, flags, number, file_bytes, entries, deletes, range_deletes, expiring, older, quarter_us,
     min_seq, max_seq, smallest_bytes, largest_bytes) = _TABLE.unpack_from(value)  # fmt: skip
    if flags & ~_UNBOUNDED:
        raise FormatTooNewError(f"{path}: table {number} has flags {flags:#x}: upgrade FerrisDB")
    if len(value) != _TABLE.size + smallest_bytes + largest_bytes:
        raise CorruptionError(path, at, f"{len(value) - _TABLE.size} bytes of keys", "others")
    keys = value[_TABLE.size :]
    smallest, largest = keys[:smallest_bytes], keys[smallest_bytes:]
    sound = (
        level < LEVEL_COUNT
        and 1 <= number <= NUMBER_MAX
        and max(smallest_bytes, largest_bytes) <= limits.STORED_KEY_BYTES_MAX
        and smallest <= largest
        and min_seq <= max_seq <= limits.SEQNO_MAX
    )
    if not sound:
        raise CorruptionError(path, at, "a table's level, number, keys and sequences", "others")
    return TableMeta(
        level=level,
        number=number,
        file_bytes=file_bytes,
        entry_count=entries,
        smallest=smallest,
        largest=largest,
        min_seq=min_seq,
        max_seq=max_seq,
        delete_count=deletes,
        range_delete_count=range_deletes,
        expiring_count=expiring,
        older_count=older,
        quarter_expires_us=quarter_us,
        unbounded=bool(flags & _UNBOUNDED),
    )


def _decode_removed(value: bytes, path: str, at: int) -> tuple[int, int]:
    if len(value) != _REMOVED.size:
        raise CorruptionError(path, at, f"{_REMOVED.size} bytes", len(value))
    level, number = _REMOVED.unpack(value)
    if level >= LEVEL_COUNT or not 1 <= number <= NUMBER_MAX:
        raise CorruptionError(path, at, "a level and a file number", f"{level}, {number}")
    return level, number


def _encode_outcomes(outcomes: tuple[Outcome, ...]) -> bytes:
    pieces = [struct.pack("<I", len(outcomes))]
    for one in outcomes:
        fields = (one.request_no, one.unanswered_no, one.first_seq, one.count, len(one.reply))
        pieces += (_OUTCOME.pack(one.client_id, *fields), one.reply)
    return b"".join(pieces)


def _decode_outcomes(value: bytes, path: str, at: int) -> tuple[Outcome, ...]:
    found: list[Outcome] = []
    position = 4
    while position < len(value):
        if len(value) - position < _OUTCOME.size:
            raise CorruptionError(path, at, "an outcome", f"{len(value) - position} bytes")
        client_id, request_no, unanswered_no, first_seq, count, reply_bytes = _OUTCOME.unpack_from(
            value, position
        )
        position += _OUTCOME.size
        if reply_bytes > min(limits.REPLY_BYTES_MAX, len(value) - position):
            raise CorruptionError(path, at, f"at most {limits.REPLY_BYTES_MAX} bytes", reply_bytes)
        reply = value[position : position + reply_bytes]
        position += reply_bytes
        found.append(Outcome(client_id, request_no, unanswered_no, first_seq, count, reply))
    # The count is compared, never used to reserve memory.
    if len(value) < 4 or int.from_bytes(value[:4], "little") != len(found):
        raise CorruptionError(path, at, f"a count of {len(found)} outcomes", value[:4].hex())
    return tuple(found)
