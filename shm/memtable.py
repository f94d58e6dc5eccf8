"""Say what the words of a memtable's segment mean.

Segment m<number>, of the size that the control page names. The coordinator is the single writer;
any number of readers, in any process, map it read-only and take no lock. ferrisdb.kernel.memtable
is the code; kernel/layout.pxd has the offsets of the head. Offsets are in bytes from the
segment's start; offset 0 is nil. Nothing is ever moved or freed inside a segment.

Head. Constants are stored before the segment is published.

| offset | width | field | order | meaning |
| --- | --- | --- | --- | --- |
| 0 | u64 | magic | release, last | "FDBMEMT\\0" |
| 8 | u32 | layout | | LAYOUT_VERSION |
| 16 | u64 | number | | that of its WAL file too |
| 24 | u64 | bytes | | of the segment |
| 32 | u64 | slot count | | of the hash index, a power of two |
| 40 | u64 | arena offset | | first byte of the arena, behind the hash slots |
| 64 | u64 | used | release | first free byte of the arena |
| 72 | u64 | keys | relaxed | key nodes, for fullness and stats |
| 80 | u64 | versions | relaxed | for stats |
| 88 | u64 | first seq | before publication | lowest sequence that may be in it |
| 128 | u32 | ranges | release | newest range tombstone, 0 none |
| 132 | u32 | range count | release, after ranges | a reader looks at ranges only if not 0 |
| 192 | 16 u32 | head links | release | skip list head, one link per level |
| 4096 | u64 each | hash slots | release | tag (bits 32-63), node offset / 8 (bits 0-31); 0 empty |

Hash slots: open addressing from the low bits of the key's hash, step 1, at least one slot empty
at all times (fullness counts them). The tag is the hash's high half, so that nearly every other
key is told apart without touching its node.

Key node, 8-aligned, named by the offset of its header:

| where | width | field | order | meaning |
| --- | --- | --- | --- | --- |
| below the header | u32 each | links | release | next node of level i, at header - 4 * (i + 1) |
| 0 | u32 | versions | release | newest version |
| 4 | u32 | bits 0-23 key bytes, bits 24-31 height | constant | |
| 8 | | key | constant | |

Version, 8-aligned, newest first in the chain of its key:

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u64 | seq | |
| 8 | u32 | next | older version, 0 none |
| 12 | u32 | bits 0-27 value bytes, bits 28-31 kind | KIND_PUT, KIND_DELETE, KIND_PUT_EXPIRING |
| 16 | u64 | expires us | only KIND_PUT_EXPIRING |
| 16 or 24 | | value | |

Range tombstones form a chain of their own, 8-aligned, newest first; every lookup consults it while
range count is not 0.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u64 | seq | |
| 8 | u32 | next | older range tombstone, 0 none |
| 12 | u32 | start bytes | |
| 16 | u32 | end bytes | 0: no end |
| 24 | | start, then end | |

Steps in the life of an entry, and what a reader sees if the writer dies behind each
M1  Node, key and version are written into free arena before anything refers to them. Dead
    here: bytes nobody reaches.
M2  A new key: its hash slot is stored (release). Dead here: found by hash, not in order.
M3  A known key: the node's versions word is stored (release), the new version naming the former
    one. Dead here: found by hash and, where its node was linked (M5), in order.
M4  visible_seq covers the entry (C5). Until then readers skip it by its sequence: this is what
    hides a dead writer's half batch, whatever M2 and M3 left.
M5  A new key's node is linked, from level 0 up, the node's own link before its predecessor's.
    Dead between levels: in order at level 0; upper levels only shorten the search.
M6  ordered_seq of the control page covers the entry after M5. Whoever needs the order (scans,
    range checks) waits for it, or finds the coordinator dead and the generation over.
M7  A range tombstone: its node, then ranges, then range count. Dead in between: count 0 hides
    the first one, and visible_seq hides any.
M8  A frozen memtable is never written again. It is unlinked and punched only when no pin holds
    an epoch that names it (engine/retire.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm.segment import Segment

MEMTABLE_MAGIC = int.from_bytes(b"FDBMEMT\0", "little")

_HEAD = struct.Struct("<QI4xQQQQ16xQQQQ")
if _HEAD.size != layout.MEMTABLE_FIRST_SEQ + 8:
    raise ImportError("the memtable's layout and its struct differ")


@dataclass(frozen=True, slots=True)
class MemtableHead:
    """A copy of a memtable's head, for stats and tools."""

    range_count: int
    number: int
    nbytes: int
    slot_count: int
    arena_offset: int
    used_bytes: int
    key_count: int
    version_count: int
    first_seq: int


def read_memtable_head(segment: Segment, number: int | None = None) -> MemtableHead:
    """Copy a memtable's head, and check the copy.

    Shape:  number, the one that the version page names; None takes any.
    Raises: ProtocolError, not a memtable of this layout and number, or offsets out of bounds.
    """
    if segment.nbytes < layout.MEMTABLE_SLOTS_OFFSET:
        raise ProtocolError(f"{segment.name}: a memtable of {segment.nbytes} bytes")
    with segment.view as view:
        copy = bytes(view[: _HEAD.size])
        range_count = layout.load32(view, layout.MEMTABLE_RANGE_COUNT)
    magic, version, *words = _HEAD.unpack(copy)
    if magic != MEMTABLE_MAGIC or version != layout.LAYOUT_VERSION:
        raise ProtocolError(f"{segment.name}: no memtable of layout {layout.LAYOUT_VERSION}")
    head = MemtableHead(range_count, *words)
    if head.nbytes != segment.nbytes or number not in (None, head.number):
        raise ProtocolError(f"{segment.name}: says it is memtable {head.number}")
    slots_end = layout.MEMTABLE_SLOTS_OFFSET + 8 * head.slot_count
    if not slots_end <= head.arena_offset <= head.used_bytes <= head.nbytes:
        raise ProtocolError(f"{segment.name}: its arena lies out of bounds")
    return head
