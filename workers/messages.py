"""Say what coordinator and compactor tell each other through their pipe.

Both ends are processes of one service, parent and child, of one version of FerrisDB; the pipe is
theirs alone. Messages are frozen values of ints, bytes and text.

| to the compactor | answer |
| --- | --- |
| PrepareMemtable | Prepared, or Failed |
| FlushMemtable | Flushed, or Failed |
| CompactTables | Compacted, or Failed |
| Stop | none: the process leaves, giving up what is under way |

Each request but Stop has exactly one answer, unless the compactor dies. PrepareMemtable overtakes
a flush, and both overtake a compaction: the answers' kinds and numbers tell which request they
belong to. At most one CompactTables is unanswered.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrisdb.engine.pick import Compaction
from ferrisdb.format.edit import TableMeta
from ferrisdb.format.sstable import NO_ORIGIN, TableOrigin


@dataclass(frozen=True, slots=True)
class CompactorOptions:
    """What the compactor is started with."""

    block_bytes: int = 4096
    table_bytes: int = 64 << 20
    #: What compactions may write a second; 0: no limit. Flushes are never held back.
    compaction_bytes_per_s: int = 0
    #: Added to its niceness: flushing must not take the processor from commits.
    nice: int = 5


@dataclass(frozen=True, slots=True)
class PrepareMemtable:
    """Create and prefault segment m<number>, and make WAL file <number> ready.

    The coordinator has recorded the segment's name (S2) and never asked for the number with
    success before. A `recycle_number` other than 0 names a WAL file below the MANIFEST's log
    number, to be turned into the new one; its size counts then, and not `wal_bytes`.
    """

    number: int
    segment_bytes: int
    wal_bytes: int
    base_seq: int
    recycle_number: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Segment and WAL file of this number are ready; activate() finds the salt in the file."""

    number: int


@dataclass(frozen=True, slots=True)
class FlushMemtable:
    """Write memtable <number>, frozen and in complete order, as table <file_number> of level 0.

    The coordinator keeps the memtable named by its current version until it has the answer.
    """

    number: int
    file_number: int
    gc_floor: int
    origin: TableOrigin = NO_ORIGIN


@dataclass(frozen=True, slots=True)
class Flushed:
    """The table is there, synced and named; None: the memtable was empty, there is none."""

    number: int
    table: TableMeta | None


@dataclass(frozen=True, slots=True)
class CompactTables:
    """Merge tables into new ones, numbered from first_file_number on, at most file_count.

    The coordinator keeps the inputs named by its current version until it has the answer.
    """

    compaction: Compaction
    first_file_number: int
    file_count: int
    gc_floor: int
    expired_us: int
    origin: TableOrigin = NO_ORIGIN
    is_filtered: bool = False


@dataclass(frozen=True, slots=True)
class Compacted:
    """The outputs are there, synced and named."""

    request: CompactTables
    tables: tuple[TableMeta, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to nothing and left nothing; whether to ask again is the coordinator's."""

    request: Job
    #: Of the error's class (errors.by_wire_code).
    wire_code: int
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave."""


Job = PrepareMemtable | FlushMemtable | CompactTables
Request = Job | Stop
Answer = Prepared | Flushed | Compacted | Failed
