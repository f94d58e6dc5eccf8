"""Say what the words of a client's segment mean: its ring, slots, completions and metrics.

Segment c<index>, CLIENT_BYTES, written by one client process ("client") and the coordinator
("coord"). The coordinator treats it as hostile: it copies, then checks the copy. Stores are
release and loads acquire unless said otherwise.

| offset | width | field | writer | meaning |
| --- | --- | --- | --- | --- |
| 0 | u64 | magic | client | "FDBCLNT\\0", stored last |
| 8 | u32 | layout | client | LAYOUT_VERSION |
| 16 | u64 | segment bytes | client | CLIENT_BYTES |
| 24 | 16 bytes | client id | client | random, never reused |
| 40 | u32 | pid | client | for people |
| 64 | u64 | generation | client | that it has agreed to be served under |
| 128 | u64 | tail | client | bytes pushed since creation, multiple of 8 |
| 192 | u64 | done pos | client | first byte of the ring whose request is not answered yet |
| 200 | u32 | slots used | client | slots at or above this index were never used |
| 256 | u32 | sleeping | client | threads about to sleep; bit 30: in epoll; full fence behind it |
| 320 | u32 | wake | coord | futex, incremented before a wake |
| 324 | u32 | wakes fd | coord | 1: it has an eventfd, written to where bit 30 of sleeping is set |
| 384 | u64 | attached | coord | generation under which it serves this client |
| 448 | u32 | error | coord | wire code of why it serves this client no longer; 0 none |
| 512 | u64 | large | client | number of the large-batch segment in use; 0 none (names.py) |
| 4096 | 256 x 64 | slots | both | pins, below |
| 20480 | 256 x 64 | completions | coord | answers, at request no % 256 |
| 36864 | 512 u64 | metrics | client | counters, relaxed |
| 65536 | 524288 | ring | client | requests, below |

Slot: one per pin. Free while epoch is 0.

| offset | width | field | writer | meaning |
| --- | --- | --- | --- | --- |
| 0 | u64 | epoch | client | pinned epoch; stored last at a pin, full fence, then the epoch again |
| 8 | u64 | seq | client | snapshot; 2**64-1: a plain read, which needs no floor |
| 16 | u64 | now us | client | the snapshot's frozen time |
| 24 | u64 | born ns | client | monotonic time of the pin |
| 32 | u64 | revoked | both | epoch that it revoked here; a reader whose epoch it is must stop |

Completion: request no is stored last; the rest is complete when it equals the request's.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u64 | request no | stored last |
| 8 | u32 | status | 0 or the wire code of an error |
| 12 | u32 | reply bytes | 0 to 32 |
| 16 | u64 | seq | last sequence of the batch; with a status, a detail |
| 24 | 32 bytes | reply | |

Request in the ring: 8-aligned, position = tail % RING_BYTES; never wraps, a PAD record (header
only: bytes and type) fills the end.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u32 | bytes | whole record, multiple of 8 |
| 4 | u8 | type | REQUEST_PAD 1, _BATCH 2, _CONTROL 3 (control_request.py), _ATOMIC 4 |
| 5 | u8 | durability | DURABILITY_ASYNC 1, _OS 2, _SYNC 3 |
| 8 | u64 | request no | grows by 1 |
| 16 | u64 | unanswered no | lowest number that the client still wants an answer to |
| 24 | u64 | generation | of the snapshot; 0 any |
| 32 | u64 | snapshot seq | for the checks |
| 40 | u64 | deadline ns | monotonic; a stall past it is answered with BusyError |
| 48 | u32 | ops bytes | |
| 52 | u32 | count | operations |
| 56 | u32 | checks bytes | what must be unchanged since the snapshot, see below |
| 64 | u64 | large no | segment with operations, checks behind them; 0: they follow here |
| 72 | u64 | expiry us | earliest expiry of what was read: up to T it is a conflict; 0 none |
| 80 | | operations, checks | |

A check is `u32 key bytes | CHECK_KEY << 24, key`, or `u32 start bytes | CHECK_RANGE << 24, u32 end
bytes, start, end` with an empty end for no bound: stored keys. A conflict's detail is the ordinal
of the check that failed, all ones for the expiry. Atomic operations: kernel/atomics.pxd; their
reply is u32 how many wrote, u32 whether the result does not fit, i64 the result of the last.

Invariants, with what the other side sees if the writer dies between any two stores
R5  (R1-R4 are the registry's.) A segment is formatted before its entry is published; without
    magic it is not there.
R6  A record lies in the ring completely before tail covers it. Client dead in between: the
    record was never sent. Coordinator: reads below its copy of tail only.
R7  tail - done pos <= RING_BYTES, and at most COMPLETION_COUNT requests are unanswered, so a
    completion never waits for room. A client that breaks this gets ProtocolError in `error`.
R8  A completion's request no is stored after its other words. Coordinator dead in between: the
    client sees no answer, and asks the next generation for the outcome.
R9  A slot's seq, now and born are stored before its epoch. Client dead in between: the slot is
    free. Dead later: it pins until the coordinator sees the byte of DIR/clients unlocked.
R10 revoked names an epoch, so that a slot used again under a later one is not revoked; whoever
    takes the slot anew clears it before R9. A revocation that comes too late for the former pin
    and hits a new one of the same epoch is a needless SnapshotTooOldError, no worse. The
    coordinator frees what the slot pinned only after a full fence and a second look; the reader
    checks revoked after it has read, before it answers.
R11 large is stored before segment x is created, and cleared after it is unlinked. Dead in
    between: whoever reaps the client unlinks it.
R12 sleeping is raised, full fence, then the completion is looked at again; the coordinator
    stores the completion, full fence, then reads sleeping. Every sleep is bounded. The event
    loop of a reader does the same with bit 30; it is woken by an eventfd that the coordinator
    gave it, and where there is none (wakes fd 0) it looks again every millisecond.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm.segment import Segment

CLIENT_MAGIC = int.from_bytes(b"FDBCLNT\0", "little")
CLIENT_ID_BYTES = 16
#: SLOT_SEQ of a pin that needs its version only, not a floor.
SEQ_PLAIN_READ = (1 << 64) - 1
#: Counters of a reader worker: its number, from 1 on; the socket connections that it has.
METRIC_READER = 8
METRIC_CONNECTIONS_NOW = 17

SLOT_DTYPE = np.dtype(
    {
        "names": ["epoch", "seq", "now_us", "born_ns", "revoked"],
        "formats": ["<u8"] * 5,
        "offsets": [
            layout.SLOT_EPOCH,
            layout.SLOT_SEQ,
            layout.SLOT_NOW_US,
            layout.SLOT_BORN_NS,
            layout.SLOT_REVOKED,
        ],
        "itemsize": layout.SLOT_BYTES,
    }
)

_HEAD = struct.Struct("<QI4xQ16sI")
if _HEAD.size != layout.CLIENT_PID + 4:
    raise ImportError("the client segment's layout and its struct differ")


def format_client(segment: Segment, client_id: bytes) -> None:
    """Make a fresh segment a client's, the magic last (R5).

    Shape: segment of CLIENT_BYTES zeroes; client_id, 16 bytes.
    Owner: the client, before its entry is published.
    """
    if segment.nbytes != layout.CLIENT_BYTES or len(client_id) != CLIENT_ID_BYTES:
        raise ValueError("a client segment has its size and a client id has 16 bytes")
    with segment.view as view:
        head = _HEAD.pack(0, layout.LAYOUT_VERSION, segment.nbytes, client_id, os.getpid())
        view[: _HEAD.size] = head
        layout.store64(view, layout.CLIENT_MAGIC, CLIENT_MAGIC)


def check_client(segment: Segment, client_id: bytes) -> None:
    """Check the head of a client's segment against its entry in DIR/clients.

    Raises: ProtocolError, not a segment of this layout, or another client's.
    """
    if segment.nbytes != layout.CLIENT_BYTES:
        raise ProtocolError(f"{segment.name}: a client segment of {segment.nbytes} bytes")
    with segment.view as view:
        copy = bytes(view[: _HEAD.size])
    magic, version, nbytes, found_id, _ = _HEAD.unpack(copy)
    if magic != CLIENT_MAGIC or version != layout.LAYOUT_VERSION or nbytes != segment.nbytes:
        raise ProtocolError(f"{segment.name}: no client segment of layout {layout.LAYOUT_VERSION}")
    if found_id != client_id:
        raise ProtocolError(f"{segment.name}: belongs to another client than its entry")


def slots_of(segment: Segment) -> npt.NDArray[np.void]:
    """Return all slots as an array over the shared words themselves.

    Shape: SLOT_COUNT items of SLOT_DTYPE; writable if the mapping is. Copy before you check.
    """
    slots: npt.NDArray[np.void] = np.frombuffer(
        segment.view, SLOT_DTYPE, layout.SLOT_COUNT, layout.SLOTS_OFFSET
    )
    return slots


def copy_slots(segment: Segment) -> npt.NDArray[np.void]:
    """Return a private copy of the slots in use, as the coordinator needs them.

    Each word is loaded whole (they are aligned); words of one slot may be of different moments,
    which R9 and C7 make harmless.
    """
    with segment.view as view:
        used = min(layout.load32(view, layout.CLIENT_SLOTS_USED), layout.SLOT_COUNT)
        slots: npt.NDArray[Any] = np.frombuffer(view, SLOT_DTYPE, used, layout.SLOTS_OFFSET).copy()
    return slots


def large_in_use(segment: Segment) -> int:
    """Return the number of the large-batch segment that a client names, 0 for none."""
    if segment.nbytes != layout.CLIENT_BYTES:
        return 0
    with segment.view as view:
        return layout.load64(view, layout.CLIENT_LARGE)


def metrics_of(segment: Segment) -> npt.NDArray[np.uint64]:
    """Return the counters as an array over the shared words themselves."""
    row: npt.NDArray[np.uint64] = np.frombuffer(
        segment.view, "<u8", layout.METRICS_COUNT, layout.METRICS_OFFSET
    )
    return row
