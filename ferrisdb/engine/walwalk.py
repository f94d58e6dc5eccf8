"""Find every whole record of a WAL file, behind damage too.

kernel/walscan.pyx decides whether a service may start; this serves tools that have to make the
best of what is there. A record counts under its file's salt and at its own offset only, so what
is found is what was written, wherever it stands.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from ferrisdb import limits
from ferrisdb.format.wal import FIRST_RECORD_OFFSET, RECORD_HEADER_BYTES, WalFile
from ferrisdb.kernel.checksum import crc32c

_FIELDS: Final = struct.Struct("<IIQIHHQ")
_SEED: Final = struct.Struct("<QQ")
_CHUNK_WORDS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a whole record stands, and which sequences its operations have."""

    offset: int
    end: int
    first_seq: int
    count: int
    synced_to: int


@dataclass(frozen=True, slots=True)
class WalWalk:
    """The records up to the first bad one, and the whole ones behind it.

    `sound_end`: where the first bad record would begin, or the file's end of records.
    """

    sound: tuple[RecordPlace, ...]
    behind: tuple[RecordPlace, ...]
    sound_end: int


def record_at(buffer: bytes, offset: int, salt: int, next_seq: int) -> RecordPlace | None:
    """Return the whole record at an offset; None where there is none."""
    if len(buffer) - offset < RECORD_HEADER_BYTES:
        return None
    crc, ops_bytes, first_seq, count, flags, reply_bytes, synced_to = _FIELDS.unpack_from(
        buffer, offset
    )
    total = RECORD_HEADER_BYTES + ops_bytes + reply_bytes
    total += -total % 8
    if (
        flags
        or reply_bytes > limits.REPLY_BYTES_MAX
        or not next_seq <= first_seq <= limits.SEQNO_MAX
        or synced_to > offset
        or count * 8 > ops_bytes
        or total > len(buffer) - offset
    ):
        return None
    body = memoryview(buffer)[offset + 4 : offset + total]
    if crc32c(body, crc32c(_SEED.pack(salt, offset))) != crc:
        return None
    return RecordPlace(offset, offset + total, first_seq, count, synced_to)


def walk_records(buffer: bytes, file: WalFile) -> WalWalk:
    """Find the records of a file of which a private copy was read.

    Cost: a few ns a byte, and more where a recycled file's former life looks like records.
    """
    next_seq, offset = file.base_seq, FIRST_RECORD_OFFSET
    sound: list[RecordPlace] = []
    while (place := record_at(buffer, offset, file.salt, next_seq)) is not None:
        sound.append(place)
        next_seq, offset = place.first_seq + place.count, place.end
    behind: list[RecordPlace] = []
    at = offset + 8
    while (found := _next_record(buffer, at, file.salt, next_seq)) is not None:
        behind.append(found)
        next_seq, at = found.first_seq + found.count, found.end
    return WalWalk(tuple(sound), tuple(behind), offset)


def _next_record(buffer: bytes, begin: int, salt: int, next_seq: int) -> RecordPlace | None:
    """Return the first whole record from an offset on."""
    place = record_at(buffer, begin, salt, next_seq)
    if place is not None:
        return place
    words = np.frombuffer(buffer, dtype="<u8", count=len(buffer) // 8)
    # The fields of a record that begins at word i: sequence in i + 1, flags and reply in i + 2.
    last = len(words) - RECORD_HEADER_BYTES // 8
    first = begin // 8
    while first <= last:
        stop = min(first + _CHUNK_WORDS, last + 1)
        seqs = words[first + 1 : stop + 1]
        tails = words[first + 2 : stop + 2] >> np.uint64(32)
        plausible = (
            (seqs >= np.uint64(next_seq))
            & (seqs <= np.uint64(limits.SEQNO_MAX))
            & (tails & np.uint64(0xFFFF) == 0)
            & (tails >> np.uint64(16) <= np.uint64(limits.REPLY_BYTES_MAX))
        )
        for i in np.flatnonzero(plausible):
            place = record_at(buffer, 8 * (first + int(i)), salt, next_seq)
            if place is not None:
                return place
        first = stop
    return None
