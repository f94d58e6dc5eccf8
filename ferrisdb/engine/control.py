"""Decide what the coordinator does about rare events: a pure state machine.

`Control.handle(event)` returns the actions to carry out, in order. It does no I/O and reads no
clock: events carry the time. `workers/coordinator.py` feeds it and carries its actions out, and
the same class runs under the simulation in tests.

Invariants
    K1  At most one job of each kind (prepare, flush, compact) is with the compactor.
    K2  Memtables are flushed oldest first, one at a time: the log may be cut behind each.
    K3  A memtable is frozen only when its successor is prepared: there is always an active one.
    K4  At most `frozen_count_max` memtables wait for their flush, and level 0 with them has at
        most LEVEL0_STALL_COUNT tables; then writes stall. From LEVEL0_SLOW_COUNT on they are
        slowed down, the more the nearer to the stall.
    K5  A job that was with a compactor when it died is given to the next one.
    K6  What failed is tried again, mostly a second later, for as long as it takes. While a failure
        keeps writers waiting they are refused with its code, and no longer.
    K7  A reader worker that died is started again at once, one that dies again and again with
        growing pauses; the service is given up only when all of them do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ferrisdb.engine.restarts import PAUSE_NS_FIRST, STEADY_NS, Restarts
from ferrisdb.errors import DiskFullError, SharedMemoryFullError
from ferrisdb.exit_codes import ExitCode

RETRY_NS = 1_000_000_000
RETRY_NS_MAX = 60_000_000_000
#: Of a compaction for which writers wait, or which only lacked space.
RETRY_SOON_NS_MAX = 5_000_000_000
SPACE_CODES = (DiskFullError.wire_code, SharedMemoryFullError.wire_code)
LEVEL0_SLOW_COUNT = 12
LEVEL0_STALL_COUNT = 24
#: Snapshots end and entries expire: so often the tree is looked at though nothing changed it.
LOOK_NS = 5_000_000_000
#: So long behind the last flush the tree is calm: it is merged further than a busy one.
CALM_NS = 1_500_000_000


class Job(Enum):
    """What can fail and is tried again."""

    PREPARE = "prepare a memtable"
    ROTATE = "go on with the next memtable"
    FLUSH = "flush"
    COMPACT = "compact"
    INSTALL = "log new tables"
    PUBLISH = "publish a version"
    LOG = "log commits"


# Events


@dataclass(frozen=True, slots=True)
class Started:
    """Recovery is over; `frozen` memtables (oldest first) wait for their flush."""

    now_ns: int
    frozen: tuple[int, ...]
    active: int
    level0_count: int = 0


@dataclass(frozen=True, slots=True)
class CompactorReady:
    """A compactor process has started."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class CompactorDied:
    """The compactor process is gone."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class ReadersWanted:
    """Sockets are to be served, by workers 0 to `count` - 1."""

    now_ns: int
    count: int


@dataclass(frozen=True, slots=True)
class ReaderDied:
    """A reader worker is gone, without having been told to leave."""

    now_ns: int
    number: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A memtable and a WAL file of that number are ready."""

    now_ns: int
    number: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """The active memtable is frozen, and the prepared one takes writes."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class JobFailed:
    """A job came to nothing and changed nothing; `wire_code` says why (ferrisdb.errors)."""

    now_ns: int
    job: Job
    wire_code: int


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job without an event of its own has succeeded: INSTALL, PUBLISH or LOG."""

    now_ns: int
    job: Job


@dataclass(frozen=True, slots=True)
class Flushed:
    """A frozen memtable stands in a table (or was empty)."""

    now_ns: int
    number: int
    level0_count: int = 0


@dataclass(frozen=True, slots=True)
class Compacted:
    """A compaction is installed."""

    now_ns: int
    level0_count: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The tree has the shape that it should have: there is nothing to compact."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class CompactWanted:
    """Somebody asked for the compaction of a range."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class LogFull:
    """The active memtable or its WAL file has no room for the next request."""

    now_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now_ns: int
    client_count: int


Event = (
    Started
    | CompactorReady
    | CompactorDied
    | ReadersWanted
    | ReaderDied
    | Prepared
    | Rotated
    | Flushed
    | Compacted
    | JobFailed
    | JobDone
    | Settled
    | CompactWanted
    | LogFull
    | Tick
)


# Actions


@dataclass(frozen=True, slots=True)
class StartCompactor:
    """Start a compactor process."""


@dataclass(frozen=True, slots=True)
class StartReader:
    """Start the reader worker of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Have the next memtable and WAL file made."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Have this frozen memtable flushed."""

    number: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Pick a compaction and have it done; say Settled if there is none."""

    is_calm: bool = False


@dataclass(frozen=True, slots=True)
class Rotate:
    """Freeze the active memtable and go on with the prepared one; then say Rotated."""

    number: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Stop the service."""

    code: ExitCode


Action = StartCompactor | StartReader | Prepare | Flush | Compact | Rotate | Exit


@dataclass(slots=True)
class Control:
    """The coordinator's judgement.

    Units:   idle_exit_ns, time without clients after which to leave; None: never.
    Owner:   the coordinator's main thread.
    """

    frozen_count_max: int
    idle_exit_ns: int | None
    active: int = 0
    #: K2: oldest first.
    frozen: list[int] = field(default_factory=list)
    prepared: int | None = None
    rotate_wanted: bool = False
    #: Of each job that failed and has not succeeded since, the wire code.
    failed: dict[Job, int] = field(default_factory=dict)
    has_compactor: bool = False
    preparing: bool = False
    flushing: int | None = None
    compacting: bool = False
    rotating: bool = False
    #: Nothing to compact, as far as is known.
    settled: bool = False
    #: Nor where the tree is calm.
    at_rest: bool = False
    level0_count: int = 0
    #: Of each reader worker, by its number.
    _readers: list[Restarts] = field(default_factory=list)
    _compactor: Restarts = field(default_factory=lambda: Restarts(PAUSE_NS_FIRST))
    _prepare_at_ns: int = 0
    _rotate_at_ns: int = 0
    _flush_at_ns: int = 0
    _compact_at_ns: int = 0
    _compact_retry_ns: int = RETRY_NS
    _look_at_ns: int = 0
    _calm_at_ns: int = 0
    _asked_calm: bool = False
    _idle_since_ns: int | None = None

    @property
    def is_stalled(self) -> bool:
        """Whether no request can be taken until a memtable is ready."""
        return self.rotate_wanted

    @property
    def refusal(self) -> int:
        """Wire code with which writers are refused while a stall lasts; 0: they wait (K6)."""
        reasons: list[Job] = []
        if self.prepared is None:
            reasons.append(Job.PREPARE)
        if not self._has_room:
            reasons += [Job.FLUSH, Job.INSTALL, Job.COMPACT]
        reasons.append(Job.ROTATE)
        return next((self.failed[job] for job in reasons if job in self.failed), 0)

    @property
    def shortage(self) -> int:
        """Wire code of the space that some job lacks; 0: none."""
        return next((code for code in self.failed.values() if code in SPACE_CODES), 0)

    @property
    def slowdown(self) -> float:
        """Part of its time that the commit loop is to rest: 0 to 0.9 (K4)."""
        over = self.level0_count - LEVEL0_SLOW_COUNT + 1
        steps = LEVEL0_STALL_COUNT - LEVEL0_SLOW_COUNT + 1
        return min(max(over, 0) / steps, 0.9)

    @property
    def _has_room(self) -> bool:
        waiting = len(self.frozen)
        return waiting < self.frozen_count_max and self.level0_count + waiting < LEVEL0_STALL_COUNT

    def handle(self, event: Event) -> list[Action]:
        """Take note of an event; return what is to be done about it, in order."""
        actions: list[Action] = []
        match event:
            case Started():
                self.active = event.active
                self.frozen = list(event.frozen)
                self.level0_count = event.level0_count
                self._calm_at_ns = event.now_ns + CALM_NS
                actions.append(StartCompactor())
            case CompactorReady():
                self.has_compactor = True
                self.preparing, self.flushing, self.compacting = False, None, False
            case CompactorDied():
                actions += self._bury(event.now_ns)
            case ReadersWanted():
                actions += self._want_readers(event.count)
            case ReaderDied():
                actions += self._bury_reader(event)
            case Prepared():
                self.preparing = False
                self.prepared = event.number
                self._succeeded(Job.PREPARE, event.now_ns)
            case Rotated():
                self._rotated()
                self._succeeded(Job.ROTATE, event.now_ns)
            case Flushed():
                self.flushing = None
                self.frozen.remove(event.number)
                self._calm_at_ns = event.now_ns + CALM_NS
                self._succeeded(Job.FLUSH, event.now_ns)
                self._tree_changed(event.level0_count)
            case Compacted():
                self.compacting = False
                self._compact_retry_ns = RETRY_NS
                self._succeeded(Job.COMPACT, event.now_ns)
                self._tree_changed(event.level0_count)
            case JobFailed():
                self._note_failure(event)
            case JobDone():
                self._succeeded(event.job, event.now_ns)
            case Settled():
                self.compacting, self.settled = False, True
                self.at_rest = self._asked_calm and not self.frozen
                look_ns = event.now_ns + LOOK_NS
                self._look_at_ns = look_ns if self._asked_calm else min(look_ns, self._calm_at_ns)
                self._succeeded(Job.COMPACT, event.now_ns)
            case CompactWanted():
                self.settled = False
            case LogFull():
                self.rotate_wanted = True
            case Tick():
                actions += self._tick(event)
        return actions + self._go_on(event.now_ns)

    def _go_on(self, now_ns: int) -> list[Action]:
        # What any event may have made possible.
        actions: list[Action] = []
        if self._may_rotate and now_ns >= self._rotate_at_ns:
            assert self.prepared is not None
            self.rotating = True
            actions.append(Rotate(self.prepared))
        if not self.has_compactor:
            return actions
        if self.prepared is None and not self.preparing and now_ns >= self._prepare_at_ns:
            self.preparing = True
            actions.append(Prepare())
        if self.frozen and self.flushing is None and now_ns >= self._flush_at_ns:
            self.flushing = self.frozen[0]
            actions.append(Flush(self.frozen[0]))
        if not self.compacting and not self.settled and now_ns >= self._compact_at_ns:
            self.compacting = True
            self._asked_calm = not self.frozen and now_ns >= self._calm_at_ns
            actions.append(Compact(self._asked_calm))
        return actions

    @property
    def _may_rotate(self) -> bool:
        wanted = self.rotate_wanted and not self.rotating
        return wanted and self.prepared is not None and self._has_room

    def _rotated(self) -> None:
        assert self.prepared is not None
        self.frozen.append(self.active)
        self.active, self.prepared = self.prepared, None
        self.rotate_wanted = self.rotating = self.at_rest = False

    def _note_failure(self, event: JobFailed) -> None:
        self.failed[event.job] = event.wire_code
        again_ns = event.now_ns + RETRY_NS
        match event.job:
            case Job.PREPARE:
                self.preparing, self._prepare_at_ns = False, again_ns
            case Job.ROTATE:
                self.rotating, self._rotate_at_ns = False, again_ns
            case Job.FLUSH:
                self.flushing, self._flush_at_ns = None, again_ns
            case Job.COMPACT:
                self.compacting = False
                soon = not self._has_room or event.wire_code in SPACE_CODES
                self._compact_at_ns = event.now_ns + min(
                    self._compact_retry_ns, RETRY_SOON_NS_MAX if soon else RETRY_NS_MAX
                )
                self._compact_retry_ns = min(self._compact_retry_ns * 2, RETRY_NS_MAX)
            case Job.INSTALL | Job.PUBLISH | Job.LOG:
                pass  # who does them tries again

    def _succeeded(self, job: Job, now_ns: int) -> None:
        if self.failed.pop(job, 0) in SPACE_CODES:
            # Space is there again: the compaction need not wait any longer either.
            self._compact_retry_ns, self._compact_at_ns = RETRY_NS, now_ns

    def _tree_changed(self, level0_count: int) -> None:
        self.level0_count = level0_count
        self.settled = self.at_rest = False

    def _bury(self, now_ns: int) -> list[Action]:
        self.has_compactor = False
        self.preparing, self.flushing, self.compacting = False, None, False
        # Its tables that waited to be logged are gone with it (K5).
        self.failed.pop(Job.INSTALL, None)
        self._compactor.died(now_ns)
        return [Exit(ExitCode.CRASH_LOOP)] if self._compactor.is_loop(now_ns) else []

    def _want_readers(self, count: int) -> list[Action]:
        if self._readers:
            return []
        self._readers = [Restarts(0, STEADY_NS) for _ in range(count)]
        return [StartReader(number) for number in range(count)]

    def _bury_reader(self, event: ReaderDied) -> list[Action]:
        reader, now_ns = self._readers[event.number], event.now_ns
        reader.died(now_ns)
        if all(one.is_loop(now_ns) for one in self._readers):
            return [Exit(ExitCode.CRASH_LOOP)]
        return [StartReader(event.number)] if reader.take_due(now_ns) else []

    def _tick(self, event: Tick) -> list[Action]:
        actions: list[Action] = []
        if self.settled and event.now_ns >= self._look_at_ns:
            self.settled = False
        if self._compactor.take_due(event.now_ns):
            actions.append(StartCompactor())
        for number, reader in enumerate(self._readers):
            if reader.take_due(event.now_ns):
                actions.append(StartReader(number))
        if event.client_count or self.idle_exit_ns is None:
            self._idle_since_ns = None
        elif self._idle_since_ns is None:
            self._idle_since_ns = event.now_ns
        elif event.now_ns - self._idle_since_ns >= self.idle_exit_ns:
            actions.append(Exit(ExitCode.OK))
        return actions
