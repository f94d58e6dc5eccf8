"""One process that is the whole service: coordinator, compactor, eight writers, seeded.

The file system is simulated, shared memory is real. A seed decides who does the next thing:
writers submit and look for answers, the coordinator takes one step, the compactor does one job,
time passes, somebody dies. A death comes at a call of the file system, in the middle of whatever
its process is at; in the middle of a recovery, too.

The world notes what is promised, as (index of the next call, sequence number): every commit up to
there is durable from that call on. By docs/reliability.md, that is what a "sync" commit is
acknowledged with; "os" commits a second later; all that a clean stop leaves or a start shows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from unittest.mock import patch

from ferrisdb.bench.inline_compactor import InlineCompactor
from ferrisdb.kernel.commit import Reason
from ferrisdb.options import Options
from ferrisdb.shm.locks import DirectoryLock
from ferrisdb.shm.names import SegmentNames
from ferrisdb.workers.children import Inbox
from ferrisdb.workers.coordinator import TICK_NS, Coordinator
from ferrisdb.workers.messages import CompactorOptions
from tests.sim.batches import Batch, Life
from tests.sim.writer import OS, SYNC, Sent, Writer
from tests.support.fakes import ManualClock, SeededRng
from tests.support.simfs import Killed, SimFileSystem

WRITER_COUNT = 8
UNANSWERED_MAX = 4
MEMTABLE_BYTES = 1 << 16
MANIFEST_ROTATE_BYTES = 3000
ACTS_PER_MOOD = 60
_COMPACTOR_DEATHS_MAX = 3  # of one coordinator; it gives up at eight


class Mood(Enum):
    """What is out of the ordinary for a while."""

    NOTHING = 0
    OS_ONLY = 1
    """No commit asks for a sync."""
    SLOW_FLUSH = 2
    """The compactor prepares, and gets no further with its flush."""


def tiny_options() -> Options:
    """Return settings with a memtable smaller than users may choose."""
    options = Options()
    object.__setattr__(options, "memtable_bytes", MEMTABLE_BYTES)
    return options


@contextmanager
def tiny_limits() -> Iterator[None]:
    """Have the MANIFEST rotated early, and silence what the deaths make people hear."""
    logger = logging.getLogger("ferrisdb")
    former = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            patch("ferrisdb.workers.memtables.MANIFEST_ROTATE_BYTES", MANIFEST_ROTATE_BYTES),
            patch("ferrisdb.engine.recover.MANIFEST_ROTATE_BYTES", MANIFEST_ROTATE_BYTES),
        ):
            yield
    finally:
        logger.setLevel(former)


class World:
    """A database and everyone who uses it; `close` leaves no segment.

    Shape: inherited, for each life of an earlier world the last batch that is there.
    """

    def __init__(
        self, fs: SimFileSystem, seed: int, inherited: dict[Life, int] | None = None
    ) -> None:
        self.fs = fs
        self.rng = random.Random(seed)
        self.path = f"{fs.root}/db"
        self.clock = ManualClock()
        self.sent: list[Sent] = []
        self.promised: list[tuple[int, int]] = []
        #: Lives whose writer died, and since which call: what becomes of their outcomes is open.
        self.dead_since: dict[Life, int] = {}
        self.restarts = 0
        #: Processes that died at a call.
        self.deaths = 0
        self.inherited = inherited or {}
        self.writers: list[Writer] = []
        self._mood = Mood.NOTHING
        self._asleep: list[Writer] = []
        self._compactor_deaths = 0
        self._compactor: InlineCompactor | None = None
        self._coordinator: Coordinator | None = None
        if not fs.exists(self.path):
            fs.mkdir(self.path)
        self._lock = DirectoryLock(self.path)
        self._lock.acquire()
        self._start()
        for number in range(WRITER_COUNT):
            former = max((i for w, i in self.inherited if w == number), default=0)
            self.writers.append(Writer(self.path, (number, former + 1)))

    # The parties

    @property
    def coordinator(self) -> Coordinator:
        assert self._coordinator is not None
        return self._coordinator

    def _make_compactor(
        self,
        directory: str,
        options: CompactorOptions,
        generation: int,
        inbox: Inbox,
        ring: Callable[[], None],
    ) -> InlineCompactor:
        self._compactor = InlineCompactor(
            directory, options, generation, inbox, ring,
            fs=self.fs, clock=self.clock, rng=SeededRng(self.rng.getrandbits(32)),
        )  # fmt: skip
        return self._compactor

    def _start(self) -> None:
        while self._coordinator is None:
            try:
                self._coordinator = Coordinator(
                    self.path,
                    tiny_options(),
                    fs=self.fs,
                    clock=self.clock,
                    rng=SeededRng(self.rng.getrandbits(32)),
                    compactor=self._make_compactor,
                    background_sync=False,
                )
            except Killed:
                self.deaths += 1
                self.fs.revive()
        self._compactor_deaths = 0
        self._promise(self.coordinator.page.visible_seq)
        self._look()

    def _promise(self, seq: int) -> None:
        self.promised.append((self.fs.call_count, seq))

    def _step(self) -> Reason:
        try:
            reason = self.coordinator.step()
        except Killed:
            self.deaths += 1
            self._restart()
            reason = Reason.TICK
        self._look()
        return reason

    def _look(self) -> None:
        # What is acknowledged, from which call on. No answer is an error here, and an answer to
        # what was asked again after a restart must not differ from an earlier one.
        for writer in self.writers:
            for sent, status, last_seq in writer.answered():
                assert status == 0, f"{sent} was answered {status}"
                assert sent.last_seq in (0, last_seq), f"{sent} was answered again: {last_seq}"
                if sent.last_seq:
                    continue
                sent.last_seq, sent.call_index = last_seq, self.fs.call_count
                sent.acknowledged_ns = self.clock.monotonic_ns()
                if sent.durability == SYNC:
                    self._promise(last_seq)

    def _restart(self) -> None:
        """Have another coordinator take over from one that died."""
        self._look()
        if self._compactor is not None:
            self._compactor.stop(0)
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            coordinator.abandon()
        self.fs.revive()
        if self.rng.random() < 0.3:
            self.fs.kill(self.fs.call_count + self.rng.randint(0, 12))
        self._start()
        self.restarts += 1
        # Some hear of it late, and then ask for outcomes that others have had for long.
        self._asleep = list(self.writers)
        for writer in list(self._asleep):
            if self.rng.random() < 0.6:
                self._wake(writer)

    def _wake(self, writer: Writer) -> None:
        self._asleep.remove(writer)
        writer.rejoin()

    # What can happen

    def submit(self) -> None:
        """Have a writer submit; a third of the writers mix durabilities."""
        awake = [w for w in self.writers if w not in self._asleep]
        ready = [w for w in awake if len(w.unanswered) < UNANSWERED_MAX]
        if not ready:
            return
        writer = self.rng.choice(ready)
        mixed = writer.life[0] % 3 == 0
        cheap = self._mood is Mood.OS_ONLY or (mixed and self.rng.random() < 0.6)
        durability = OS if cheap else SYNC
        self.sent.append(writer.submit(durability, self.fs.call_count))

    def poll(self) -> None:
        """Have a writer take its answers."""
        self.rng.choice(self.writers).poll()

    def work(self) -> None:
        """Have the compactor do one job."""
        if self._compactor is None or not self._compactor.has_work:
            return
        if self._mood is Mood.SLOW_FLUSH and not self._compactor.has_requests:
            return
        try:
            self._compactor.work()
        except Killed:
            self.deaths += 1
            self.fs.revive()
            self._compactor.die()

    def kill_compactor(self) -> None:
        """Let the compactor die, unless the coordinator would soon give up on it."""
        if self._compactor is not None and self._compactor_deaths < _COMPACTOR_DEATHS_MAX:
            self._compactor_deaths += 1
            self._compactor.die()

    def doom(self) -> None:
        """Let a process die: at one of the next calls, or before a sync of a kind that was seen."""
        if self.rng.random() < 0.4:
            self.fs.kill(self.fs.call_count + self.rng.randint(0, 12))
        else:
            self.fs.kill_before(*self.rng.choice(self.fs.sync_sites()))

    def pass_time(self, us: int = TICK_NS // 1000) -> None:
        """Let a tick pass."""
        self.clock.advance_us(us)
        self._step()

    def pass_second(self) -> None:
        """Let so much time pass that "os" commits are durable."""
        before_ns = self.clock.monotonic_ns()
        for _ in range(13):
            self.pass_time()
        known = [s.last_seq for s in self.sent if s.last_seq and s.acknowledged_ns <= before_ns]
        self._promise(max(known, default=0))

    def replace_writer(self) -> None:
        """Kill a writer and start its next incarnation."""
        awake = [w for w in self.writers if w not in self._asleep]
        if not awake:
            return
        writer = self.rng.choice(awake)
        self._look()
        writer.die()
        self.dead_since[writer.life] = self.fs.call_count
        at = self.writers.index(writer)
        number, incarnation = writer.life
        self.writers[at] = Writer(self.path, (number, incarnation + 1))

    def wake(self) -> None:
        """Have a writer notice that the coordinator is another."""
        if self._asleep:
            self._wake(self.rng.choice(self._asleep))

    def kill_coordinator(self) -> None:
        """Let the coordinator die between two steps; its compactor dies with it."""
        self._restart()

    def stop_cleanly(self) -> None:
        """Stop the coordinator, with "os" commits that nothing else syncs; start another."""
        self.settle()
        self.live_quietly(12, Mood.OS_ONLY)
        while self.coordinator.step() is not Reason.IDLE:
            pass
        self._look()
        if any(s.last_seq == 0 for w in self.writers for s in w.unanswered):
            self.settle()  # it waits for a memtable
        before = max((s.last_seq for s in self.sent), default=0)
        coordinator, self._coordinator = self.coordinator, None
        coordinator.request_exit()
        coordinator.stop()
        self._promise(before)
        self._start()
        self.restarts += 1
        for writer in self.writers:
            writer.rejoin()

    def settle(self) -> None:
        """Go on until everything submitted is acknowledged and the compactor has no work."""
        self.fs.revive()
        self._mood = Mood.NOTHING
        while self._asleep:
            self.wake()
        for _ in range(1000):
            self.work()
            self.pass_time()
            while self._step() is not Reason.IDLE:
                pass
            for writer in self.writers:
                writer.poll()
            busy = self._compactor is not None and self._compactor.has_work
            if not busy and not any(w.unanswered for w in self.writers):
                return
        raise AssertionError("the world does not settle")

    def live(self, act_count: int) -> None:
        """Let that many things happen."""
        acts: dict[Callable[[], object], float] = {
            self.submit: 12, self._step: 12, self.poll: 8, self.work: 2.5, self.pass_time: 2,
            self.wake: 0.5, self.pass_second: 0.3, self.doom: 0.5, self.kill_coordinator: 0.1,
            self.kill_compactor: 0.1, self.replace_writer: 0.15, self.stop_cleanly: 0.1,
        }  # fmt: skip
        for n, act in enumerate(self.rng.choices(list(acts), list(acts.values()), k=act_count)):
            if n % ACTS_PER_MOOD == 0:
                self._mood = self.rng.choice(list(Mood))
            act()

    def live_quietly(self, act_count: int, mood: Mood = Mood.NOTHING) -> None:
        """Let that many things happen, and nobody die who is not doomed already."""
        self._mood = mood
        acts = (self.submit, self._step, self.poll, self.work, self.wake)
        for act in self.rng.choices(acts, (12, 12, 8, 3, 1), k=act_count):
            act()

    def live_until_call(self, kind: str, site: str, mood: Mood = Mood.NOTHING) -> bool:
        """Live quietly until that call has been made once more; False if it never is."""
        begin = self.fs.call_count
        for _ in range(300):
            self.live_quietly(10, mood)
            if any((c.kind, c.site) == (kind, site) for c in self.fs.calls[begin:]):
                return True
        return False

    def live_until_death(self, kind: str, site: str) -> bool:
        """Live quietly until a process dies just before that call; False if it is never made."""
        before = self.deaths
        for _ in range(300):
            self.fs.kill_before(kind, site)
            self.live_quietly(10)
            if self.deaths != before:
                self.fs.revive()
                return True
        return False

    def close(self) -> None:
        """End everything, and remove every name from shared memory."""
        self.fs.revive()
        for writer in self.writers:
            writer.close()
        self.writers = []
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            if self._compactor is not None:
                self._compactor.stop(0)
            coordinator.abandon()
        names = SegmentNames.read(self.path)
        if names is not None:
            names.sweep()
        self._lock.release()

    # For the checks

    def batches(self) -> dict[Batch, Sent]:
        """Return everything that was ever submitted."""
        return {sent.batch: sent for sent in self.sent}
