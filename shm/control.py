"""Publish the coordinator's words to everyone: the control page, and the doorbell beside it.

Control page, segment k0, CONTROL_BYTES. The coordinator alone writes; everyone else maps it
read-only. It outlives generations: a new coordinator maps the page that it finds. Every hot word
has a cache line of its own. Stores are release, loads acquire, unless the order says otherwise.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u64 | magic | "FDBCTRL\\0", stored last when the page is made |
| 8 | u32 | layout | LAYOUT_VERSION; another one is refused |
| 16 | 16 bytes | database id | constant |
| 64 | u64 | generation | of the coordinator in charge; grows |
| 128 | u64 | epoch | of the current version; bit 63: this page is retired, look for a new one |
| 192 | u64 | visible seq | highest sequence that readers may see |
| 256 | u64 | ordered seq | up to here the memtables' key order is complete |
| 320 | u64 | gc floor | no snapshot is below it, and none will be |
| 384 | u32 | sleeping | 1 while the coordinator sleeps on the doorbell; full fence behind it |
| 448 | u32 | state | STATE_*; advice only |
| 452 | u32 | coordinator pid | for people; liveness is DIR/LOCK |
| 512 | u32 | active clients | that sent something in the last tick; relaxed |
| 576 | u64 | last time us | T of the last commit group |
| 640 | u64 | memtable bytes | for stats and batch limits |
| 648 | u64 | batch bytes max | largest batch accepted, operations as encoded |
| 704 | u64 | compacted | ticket up to which ranges are compacted (shm/control_request.py) |
| 768 | u32 | at rest | 1: nothing to compact, and nothing was flushed for a while; advice only |
| 776 | 5 u64 | figures | of the tree, for stats, in the order of TreeFigures; relaxed |
| 2048 | u64 | keyspaces | changes of the catalogue of key spaces in this generation |

Doorbell, segment d0, DOORBELL_BYTES. Any client may write anything; it means "look", or is advice
among clients.

| offset | width | field | meaning |
| --- | --- | --- | --- |
| 0 | u32 | word | futex; add 1 and wake to wake the coordinator |
| 64 | u32 | attention | add 1 when DIR/clients has news, then ring |
| 2048 | 32 u64 | turns | 64 apart; whose turn it is at a contended key (kernel/turn.pyx) |

Invariants, with what a reader sees if the coordinator dies between any two stores
C1  A page without its magic is not there: it was being made. The next coordinator replaces it.
C2  generation is stored before the first commit under it. Dead in between: readers see a new
    generation without commits; their snapshots of the old one are refused, and that is safe.
C3  The version page of epoch E exists, complete, before E is stored. Dead in between: the old
    epoch stands and is complete; the unnamed page is swept.
C4  A version that names memtable M is published (C3) before visible seq covers a commit in M.
    Dead in between: M is current and shows nothing.
C5  visible seq is stored after all entries up to it lie in the memtables and are as durable as
    promised. Dead in between: those commits are unacknowledged and invisible until recovery.
C6  ordered seq never exceeds visible seq by more than the group at hand; entries above it are
    found by hash and not yet in order. Dead in between: a scan may link them by itself.
C7  gc floor grows only, and only to the minimum of a scan of all slots. A snapshot taken in that
    moment below it reads the floor behind its pin, and starts over. What merges drop does not
    hang on it (workers/publisher.py, `floor`), but on C3 and C5: whoever loads an epoch and then
    visible seq sees all that was visible when that epoch's tables were made.
C8  A retired epoch (bit 63) is never unset. Dead before the new page: clients find no page and
    wait as for a start.
C9  sleeping is stored, full fence, then all tails are read again; a client stores its tail, full
    fence, then reads sleeping. Dead while sleeping: the client's own bounded wait notices.
C10 keyspaces is stored after the visible seq that shows the change. Dead in between: generation
    moves, which tells handles to look at the catalogue as well.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

from ferrisdb.errors import ProtocolError
from ferrisdb.kernel import layout
from ferrisdb.shm.segment import Segment

CONTROL_MAGIC = int.from_bytes(b"FDBCTRL\0", "little")
EPOCH_RETIRED = 1 << 63
DATABASE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class TreeFigures:
    """What flushes and compactions have to do and have done since this service started."""

    #: Bytes that have to go down until no level is over its target.
    debt_bytes: int = 0
    #: Records in WAL files.
    log_bytes: int = 0
    #: Tables that flushes wrote.
    flushed_bytes: int = 0
    #: Tables that compactions read and wrote; moves not counted.
    compaction_read_bytes: int = 0
    compaction_written_bytes: int = 0


class ControlPage:
    """The words of one control page.

    Owner: setters, the coordinator alone; on a read-only mapping they raise BufferError.
    """

    __slots__ = ("_view", "segment")

    def __init__(self, segment: Segment) -> None:
        """Check the page's head.

        Raises: ProtocolError, no control page of this layout (C1).
        """
        if segment.nbytes != layout.CONTROL_BYTES:
            raise ProtocolError(f"{segment.name}: a control page of {segment.nbytes} bytes")
        view = segment.view
        magic, version = (
            layout.load64(view, layout.CONTROL_MAGIC),
            layout.load32(view, layout.CONTROL_LAYOUT),
        )
        if magic != CONTROL_MAGIC or version != layout.LAYOUT_VERSION:
            raise ProtocolError(
                f"{segment.name}: no control page of layout {layout.LAYOUT_VERSION}"
                f" (magic {magic:#x}, layout {version})"
            )
        self.segment = segment
        self._view = view

    @classmethod
    def format(
        cls, segment: Segment, *, database_id: bytes, memtable_bytes: int, batch_bytes_max: int
    ) -> ControlPage:
        """Make a fresh segment a control page: generation, epoch and sequences are 0.

        Shape: segment of CONTROL_BYTES zeroes; database_id, 16 bytes.
        """
        if segment.nbytes != layout.CONTROL_BYTES or len(database_id) != DATABASE_ID_BYTES:
            raise ValueError("a control page has its size and a database id has 16 bytes")
        with segment.view as view:
            at = layout.CONTROL_NONCE
            view[at : at + DATABASE_ID_BYTES] = database_id
            layout.store32(view, layout.CONTROL_STATE, layout.STATE_STARTING)
            layout.store64(view, layout.CONTROL_MEMTABLE_BYTES, memtable_bytes)
            layout.store64(view, layout.CONTROL_BATCH_BYTES_MAX, batch_bytes_max)
            layout.store32(view, layout.CONTROL_LAYOUT, layout.LAYOUT_VERSION)
            layout.store64(view, layout.CONTROL_MAGIC, CONTROL_MAGIC)
        return cls(segment)

    def close(self) -> None:
        """Release the view and unmap."""
        self._view.release()
        self.segment.close()

    @property
    def database_id(self) -> bytes:
        """The 16 bytes of the database id."""
        at = layout.CONTROL_NONCE
        return bytes(self._view[at : at + DATABASE_ID_BYTES])

    @property
    def is_retired(self) -> bool:
        """Whether another page has taken this one's place, or will (C8)."""
        return layout.load64(self._view, layout.CONTROL_EPOCH) >= EPOCH_RETIRED

    def retire(self) -> None:
        """Tell everyone who maps this page to look for a new one."""
        epoch = layout.load64(self._view, layout.CONTROL_EPOCH)
        layout.store64(self._view, layout.CONTROL_EPOCH, epoch | EPOCH_RETIRED)

    @property
    def generation(self) -> int:
        """Generation of the coordinator in charge (C2)."""
        return layout.load64(self._view, layout.CONTROL_GENERATION)

    @generation.setter
    def generation(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_GENERATION, value)

    @property
    def epoch(self) -> int:
        """Epoch of the current version, without the retired bit (C3)."""
        return layout.load64(self._view, layout.CONTROL_EPOCH) & (EPOCH_RETIRED - 1)

    @epoch.setter
    def epoch(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_EPOCH, value)

    @property
    def visible_seq(self) -> int:
        """Highest sequence that readers may see (C5)."""
        return layout.load64(self._view, layout.CONTROL_VISIBLE_SEQ)

    @visible_seq.setter
    def visible_seq(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_VISIBLE_SEQ, value)

    @property
    def ordered_seq(self) -> int:
        """Sequence up to which the memtables' key order is complete (C6)."""
        return layout.load64(self._view, layout.CONTROL_ORDERED_SEQ)

    @ordered_seq.setter
    def ordered_seq(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_ORDERED_SEQ, value)

    @property
    def gc_floor(self) -> int:
        """Sequence that no snapshot is below (C7)."""
        return layout.load64(self._view, layout.CONTROL_GC_FLOOR)

    @gc_floor.setter
    def gc_floor(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_GC_FLOOR, value)

    @property
    def is_sleeping(self) -> bool:
        """Whether the coordinator sleeps on the doorbell (C9)."""
        return layout.load32(self._view, layout.CONTROL_SLEEPING) != 0

    @is_sleeping.setter
    def is_sleeping(self, value: bool) -> None:
        layout.store32(self._view, layout.CONTROL_SLEEPING, int(value))

    @property
    def state(self) -> int:
        """STATE_* of the coordinator; advice only."""
        return layout.load32(self._view, layout.CONTROL_STATE)

    @state.setter
    def state(self, value: int) -> None:
        layout.store32(self._view, layout.CONTROL_STATE, value)

    @property
    def coordinator_pid(self) -> int:
        """Process id of the coordinator, for people."""
        return layout.load32(self._view, layout.CONTROL_COORDINATOR_PID)

    @coordinator_pid.setter
    def coordinator_pid(self, value: int) -> None:
        layout.store32(self._view, layout.CONTROL_COORDINATOR_PID, value)

    @property
    def active_clients(self) -> int:
        """Clients that sent something in the last tick."""
        return layout.load32(self._view, layout.CONTROL_ACTIVE_CLIENTS)

    @active_clients.setter
    def active_clients(self, value: int) -> None:
        layout.store32(self._view, layout.CONTROL_ACTIVE_CLIENTS, value)

    @property
    def last_time_us(self) -> int:
        """T of the last commit group, µs since the epoch of Unix."""
        return layout.load64(self._view, layout.CONTROL_LAST_TIME_US)

    @last_time_us.setter
    def last_time_us(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_LAST_TIME_US, value)

    @property
    def compacted_ticket(self) -> int:
        """Highest ticket of this generation whose range is compacted."""
        return layout.load64(self._view, layout.CONTROL_COMPACTED)

    @compacted_ticket.setter
    def compacted_ticket(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_COMPACTED, value)

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to compact, and nothing was flushed for a while."""
        return layout.load32(self._view, layout.CONTROL_AT_REST) != 0

    @is_at_rest.setter
    def is_at_rest(self, value: bool) -> None:
        layout.store32(self._view, layout.CONTROL_AT_REST, int(value))

    @property
    def figures(self) -> TreeFigures:
        """Figures of the tree; each is whole, they may be of different moments."""
        at = layout.CONTROL_FIGURES
        count = len(fields(TreeFigures))
        return TreeFigures(*(layout.load64(self._view, at + 8 * n) for n in range(count)))

    @figures.setter
    def figures(self, value: TreeFigures) -> None:
        for n, figure in enumerate(astuple(value)):
            layout.store64(self._view, layout.CONTROL_FIGURES + 8 * n, figure)

    @property
    def memtable_bytes(self) -> int:
        """Bytes of a memtable segment."""
        return layout.load64(self._view, layout.CONTROL_MEMTABLE_BYTES)

    @memtable_bytes.setter
    def memtable_bytes(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_MEMTABLE_BYTES, value)

    @property
    def batch_bytes_max(self) -> int:
        """Largest batch accepted, in bytes of encoded operations."""
        return layout.load64(self._view, layout.CONTROL_BATCH_BYTES_MAX)

    @batch_bytes_max.setter
    def batch_bytes_max(self, value: int) -> None:
        layout.store64(self._view, layout.CONTROL_BATCH_BYTES_MAX, value)
