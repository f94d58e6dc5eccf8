"""Decode one block of a table in Python: for tools that go on past damage.

The layout is that of ferrisdb/format/sstable.py. Reading at full speed is the kernel's; this is
the door for bytes of which only a part is known to be whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ferrisdb.errors import CorruptionError
from ferrisdb.format.wal import OpKind

OLDER: Final = 8
WIDE: Final = 16
WITH_SEQ: Final = 32
SHARED: Final = 64
RESERVED: Final = 128
KINDS: Final = frozenset({OpKind.PUT, OpKind.DELETE, OpKind.PUT_EXPIRING})

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_SHARED: Final = struct.Struct("<IH")


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """One entry; `seq` is 0 where the table leaves it out."""

    offset: int
    key: bytes
    seq: int
    kind: OpKind
    expires_us: int
    value: bytes
    is_older: bool
    has_seq: bool
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Block:
    """What stands in one block, from file offset `begin` to `end`."""

    begin: int
    end: int
    entries: tuple[BlockEntry, ...]
    restarts: tuple[int, ...]


def decode_block(stored: bytes, begin: int, path: str) -> Block | None:
    """Return the block that `stored` begins with.

    Shape:   stored, bytes of the file from `begin` on, their checksums found right.
    Returns: None where `stored` ends before the block does.
    Raises:  CorruptionError where there is no block.
    """
    entries: list[BlockEntry] = []
    by_place: dict[int, BlockEntry] = {}
    at = 0
    try:
        while stored[at]:
            entry, at = _entry(stored, at, begin, by_place, path)
            by_place[entry.offset] = entry
            entries.append(entry)
            if at > len(stored):
                return None
        (count,) = _U32.unpack_from(stored, at + 1)
        end = at + 5 + 4 * count + 4
        if not entries or count != -(-len(entries) // 4):
            raise CorruptionError(path, begin + at, "a restart for each four entries", count)
        if end > len(stored):
            return None
        *restarts, again = struct.unpack_from(f"<{count + 1}I", stored, at + 5)
    except (IndexError, struct.error):
        return None
    if again != count:
        raise CorruptionError(path, begin + end - 4, f"{count} restarts", again)
    return Block(begin, begin + end, tuple(entries), tuple(restarts))


def _entry(
    stored: bytes, at: int, begin: int, heads: dict[int, BlockEntry], path: str
) -> tuple[BlockEntry, int]:
    start = at
    flags = stored[at]
    if flags & RESERVED or flags & 7 not in KINDS:
        raise CorruptionError(path, begin + at, "an entry's first byte", f"{flags:#04x}")
    (word,) = _U32.unpack_from(stored, at)
    suffix_bytes, value_bytes = word >> 8 & 0xFF, word >> 16
    at += 4
    if flags & WIDE:
        suffix_bytes = word >> 8
        (value_bytes,) = _U32.unpack_from(stored, at)
        at += 4
    key, shared_bytes = b"", 0
    if flags & SHARED:
        back, shared_bytes = _SHARED.unpack_from(stored, at)
        head = heads.get(begin + start - back)
        if head is None or len(head.key) < shared_bytes:
            raise CorruptionError(path, begin + start, "a restart before this entry", back)
        key = head.key[:shared_bytes]
        at += _SHARED.size
    seq = expires_us = 0
    if flags & WITH_SEQ:
        (seq,) = _U64.unpack_from(stored, at)
        at += 8
    kind = OpKind(flags & 7)
    if kind is OpKind.PUT_EXPIRING:
        (expires_us,) = _U64.unpack_from(stored, at)
        at += 8
    middle = at + suffix_bytes
    end = middle + value_bytes
    entry = BlockEntry(
        offset=begin + start,
        key=key + stored[at:middle],
        seq=seq,
        kind=kind,
        expires_us=expires_us,
        value=stored[middle:end],
        is_older=bool(flags & OLDER),
        has_seq=bool(flags & WITH_SEQ),
        shared_bytes=shared_bytes,
    )
    return entry, end
