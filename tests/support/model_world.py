"""A real service under the model test: three handles in two processes, kills, and the model.

A `World` is one directory. It carries out operations on the database and on the model alike and
raises `Disagreement` where they differ. What it did since the last `begin` is in the message; all
since the directory was made is in the file `operations` beside it.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from ferrisdb import service
from ferrisdb.errors import SnapshotTooOldError
from tests.support import databases
from tests.support.leftovers import leftovers
from tests.support.model_child import RemoteActor
from tests.support.model_ops import Actor, Drawn, Model, Op, shown

TIMEOUT_S: Final = 30.0
#: Eight deaths of a compactor in a minute are a crash loop to its coordinator: stay below.
DEATHS_MAX: Final = 5
DEATHS_S: Final = 60.0
#: What takes about a second; once in an example, for Hypothesis likes to repeat itself.
HEAVY: Final = frozenset(
    {"reopen", "restart", "kill_coordinator", "kill_service", "kill_reader", "kill_everything"}
)
NOWHERE: Final = (b"\xff\xff nowhere", b"\xff\xff nowhere\0")
EXPIRY_S: Final = 0.03

#: Settings under which a few hundred operations make a deep tree; one for each directory in turn.
SETTINGS: Final = [
    {"memtable_bytes": 1 << 18, "table_bytes": 8192, "level_base_bytes": 8192, "block_bytes": 64},
    {"memtable_bytes": 1 << 18, "table_bytes": 1 << 14, "level_base_bytes": 1 << 15},
    {"memtable_bytes": 1 << 20, "table_bytes": 1 << 13, "level_base_bytes": 1 << 16}
    | {"block_bytes": 512, "frozen_memtable_count_max": 4},
]


class Disagreement(AssertionError):
    """The database and the dictionary say different things."""


class World:
    """One directory with its service, its handles and its model."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        """Make the directory and start everything."""
        self.directory = folder / f"db-{number:03}"
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = SETTINGS[number % len(SETTINGS)]
        databases.configure(self.directory, **self._settings)
        self._log = (folder / f"operations-{number:03}").open("w", encoding="utf-8")
        self._seed = seed
        self._rng = random.Random(seed)
        self._model = Model()
        self._recent: list[str] = []
        self._step = 0
        self._checks = 0
        self._strike: threading.Thread | None = None
        #: Since a kill nobody has written: a new service may come at any moment.
        self._unsettled = False
        self._deaths: list[float] = []
        self._had_heavy = False
        #: Whose asynchronous writes the others may not see yet.
        self._behind: int | None = None
        self.failure: Disagreement | None = None
        self.counts: dict[str, int] = {}
        self._actors: list[Actor | RemoteActor] = []
        self._attach()

    def _attach(self) -> None:
        path = str(self.directory)
        self._main = Actor(path, TIMEOUT_S)
        self._child = RemoteActor(path, TIMEOUT_S)
        self._actors = [self._main, Actor(path, TIMEOUT_S), self._child]

    # Operations

    def begin(self) -> None:
        """Begin an example: nothing is there and nobody looks."""
        self._recent = []
        self._had_heavy = False
        self._note("begin")
        self._close_moments()
        self._carry_out(0, ("delete_range", None, None, "os"))
        self._step = 0

    def do(self, drawn: bytes) -> None:
        """Carry out the operation that these bytes stand for, and compare."""
        self._step += 1
        one = Drawn(drawn, self._step, self._model.moments, len(self._actors))
        op = one.op()
        self._carry_out(one.actor, op)

    def compare(self) -> None:
        """See that all rows are as the model has them, by one handle in one direction."""
        self._checks += 1
        scan = ("scan", None, None, None, None, self._checks % 2 == 1, False)
        self._carry_out(self._checks % len(self._actors), scan)
        self._join_strike()

    def end(self) -> None:
        """End an example: every snapshot shows to its end what it showed."""
        self._join_strike()
        for number, moment in self._model.moments.items():
            if moment.scan is None:
                scan = ("scan", None, None, None, None, number % 2 == 1, False)
                self._carry_out(moment.actor, ("snapshot_read", number, scan))
        self._close_moments()
        for _ in self._actors:
            self.compare()

    def _close_moments(self) -> None:
        for number in list(self._model.moments):
            self._carry_out(self._model.moments[number].actor, ("snapshot_close", number))

    def _carry_out(self, actor: int, op: Op) -> None:
        self._note(f"{actor} {shown(op)}")
        self.counts[op[0]] = self.counts.get(op[0], 0) + 1
        moment = None
        if op[0] in ("snapshot_read", "snapshot_close"):
            moment = self._model.moments[op[1]]
        expected = self._model.do(op)
        begun_unsettled = self._unsettled
        try:
            if actor != self._behind:
                self._catch_up()
            found = self._try(actor, op, moment is not None)
        except SnapshotTooOldError:
            if moment is None or not moment.may_be_gone:
                self._disagree(actor, op, expected, "SnapshotTooOldError, and nothing died")
            return
        except Exception as error:
            self._disagree(actor, op, expected, repr(error))
        if found != expected:
            self._disagree(actor, op, expected, found)
        if op[0] in ("snapshot", "cursor") and begun_unsettled:
            self._model.moments[op[2]].may_be_gone = True
        if op[-1] == "async":
            self._behind = actor
        if _writes(op) and op[-1] != "async" and begun_unsettled and self._strike is None:
            self._unsettled = False

    def _catch_up(self) -> None:
        """Wait for asynchronous writes: only their own handle sees them at once."""
        behind, self._behind = self._behind, None
        if behind is not None:
            self._actors[behind].do(("drain",))

    def _try(self, actor: int, op: Op, is_of_moment: bool) -> Any:
        """Do it; a scan that a restart cuts off begins anew."""
        give_up = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._actors[actor].do(op)
            except SnapshotTooOldError:
                if is_of_moment or not self._unsettled or time.monotonic() > give_up:
                    raise

    def _disagree(self, actor: int, op: Op, expected: object, found: object) -> None:
        self._log.flush()
        lines = "\n  ".join(self._recent)
        self.failure = Disagreement(
            f"actor {actor}, {shown(op)}:\n expected {_part(expected, found)}\n"
            f" found    {_part(found, expected)}\n"
            f"seed {self._seed}, settings {self._settings}, folder {self.directory.parent}\n"
            f"operations of this example:\n  {lines}"
        )
        raise self.failure

    def _note(self, line: str) -> None:
        self._recent.append(line)
        self._log.write(line + "\n")

    # What happens to the service

    def happen(self, event: str) -> None:
        """Have something happen to the service, by the name of a method without its `_do_`."""
        self._join_strike()
        if event in HEAVY:
            if self._had_heavy:
                return
            self._had_heavy = True
        self._note(f"  {event}")
        self.counts[event] = self.counts.get(event, 0) + 1
        happening: Callable[[], None] = getattr(self, f"_do_{event}")
        try:
            happening()
        except Disagreement:
            raise
        except Exception as error:
            self._disagree(0, (event,), "no error", repr(error))

    def _do_flush(self) -> None:
        # A range that holds nothing: what lies in memory goes down, and no more.
        self._main.db.compact(*NOWHERE, timeout=TIMEOUT_S)

    def _do_compact(self) -> None:
        self._main.db.compact(timeout=TIMEOUT_S)

    def _do_compact_range(self) -> None:
        bounds = sorted(self._rng.sample([b"", b"a", b"b", b"k", b"n1", b"row050", b"row2"], 2))
        self._main.db.compact(*bounds, timeout=TIMEOUT_S)

    def _do_sync(self) -> None:
        """See that flush() waits for asynchronous writes."""
        if self._behind == 0:
            self._behind = None
        self._main.db.flush()

    def _do_expiry(self) -> None:
        """A snapshot that has seen a value shows it, though it expires, also from tables."""
        snapshot = None
        self._catch_up()
        self._main.db.put(b"expiring", b"value", ttl=EXPIRY_S)
        try:
            snapshot = self._main.db.snapshot()
            seen = snapshot.get(b"expiring")
            time.sleep(EXPIRY_S)
            self._do_flush()
            self._main.db.compact(b"e", b"f", timeout=TIMEOUT_S)
            kept = snapshot.get(b"expiring"), self._main.db.get(b"expiring")
            scanned = dict(snapshot.scan(prefix=b"expiring")).get(b"expiring")
        except SnapshotTooOldError:
            if not self._unsettled:
                raise
            return
        finally:
            if snapshot is not None:
                snapshot.close()
        if kept != (seen, None) or scanned != seen:
            self._disagree(0, ("expiry",), (seen, None), (*kept, scanned))

    def _do_reopen(self) -> None:
        """Close every handle and open them anew; the service may stay."""
        self._close_moments()
        self.close_handles()
        self._attach()
        for actor in range(3):
            self._carry_out(actor, ("scan", None, None, None, None, False, False))

    def _do_restart(self) -> None:
        """Stop the service by SIGTERM and go on with another, which leaves nothing lying about."""
        self._lose_moments()
        databases.stop_service(self.directory)
        self._main.db.flush()
        self.check_files()

    def _do_kill_compactor(self) -> None:
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < DEATHS_S] + [now]
        if len(self._deaths) > DEATHS_MAX:
            self._deaths = []
            self._do_restart()
            return
        self._strike_later(*self._compactor())

    def _do_kill_coordinator(self) -> None:
        self._deaths = []
        self._lose_moments()
        self._strike_later(*self._coordinator())

    def _do_kill_service(self) -> None:
        self._deaths = []
        self._lose_moments()
        coordinator = self._coordinator()
        compactor = self._compactor()
        self._strike_later(*compactor, *coordinator)

    def _do_kill_reader(self) -> None:
        """Kill the attached process, with the snapshots that it holds."""
        self._catch_up()
        child = len(self._actors) - 1
        self._child.kill()
        for number, moment in list(self._model.moments.items()):
            if moment.actor == child:
                del self._model.moments[number]
        self._child = RemoteActor(str(self.directory), TIMEOUT_S)
        self._actors[child] = self._child

    def _do_kill_everything(self) -> None:
        self._do_kill_service()
        self._do_kill_reader()

    def _lose_moments(self) -> None:
        self._unsettled = True
        for moment in self._model.moments.values():
            moment.may_be_gone = True

    def _strike_later(self, *victims: psutil.Process) -> None:
        """Kill while operations go on: a thread waits for a moment and does it."""
        delay_s = self._rng.choice((0.0, 0.002, 0.01, 0.03)) * self._rng.random()

        def strike() -> None:
            time.sleep(delay_s)
            for victim in victims:
                try:
                    victim.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue

        self._strike = threading.Thread(target=strike)
        self._strike.start()

    def _join_strike(self) -> None:
        if self._strike is not None:
            self._strike.join()
            self._strike = None

    def _coordinator(self) -> list[psutil.Process]:
        found = service.find(str(self.directory))
        try:
            process = None if found is None else psutil.Process(found.control.coordinator_pid)
            words = process.cmdline() if process is not None else []
        except psutil.Error:
            return []
        # A number that another process has by now is not ours to kill.
        return [process] if process is not None and str(self.directory) in words else []

    def _compactor(self) -> list[psutil.Process]:
        found = []
        for coordinator in self._coordinator():
            try:
                children = coordinator.children()
                found += [c for c in children if "spawn_main" in " ".join(c.cmdline())]
            except psutil.Error:
                continue
        return found

    def check_files(self) -> None:
        """See that no file is there which nothing needs, and that verify is content."""
        self._close_moments()
        found = leftovers(self._main.db)
        if found:
            self._disagree(0, ("leftovers",), [], found)
        damage = self._main.db.verify().errors
        if damage:
            self._disagree(0, ("verify",), [], list(damage))

    # The end

    def close_handles(self) -> None:
        """Detach everyone."""
        for actor in self._actors:
            actor.close()
        self._actors = []

    def close(self) -> None:
        """End everything; the directory stays."""
        self._join_strike()
        for actor in self._actors:
            try:
                actor.close()
            except Exception:
                # A failure is being told already; what it left behind must not hide it.
                if self.failure is None:
                    raise
        # Hypothesis may keep us for a while, but not what the handles map.
        self._actors = []
        del self._main, self._child
        databases.stop_service(self.directory)
        self._log.close()


def _writes(op: Op) -> bool:
    """Tell whether the operation is a write that the service hears of, and answers."""
    match op:
        case ("delete_range", start, end, *_):
            return end is None or (start or b"") < end
        case ("batch", inner, _):
            return any(_writes(one) for one in inner)
        case (name, *_):
            return name in ("put", "delete", "bulk")
    return False


def _part(mine: object, other: object) -> str:
    """Return an answer as text; of two long lists, from shortly before they differ."""
    if isinstance(mine, list) and isinstance(other, list):
        same = 0
        for one, another in zip(mine, other, strict=False):
            if one != another:
                break
            same += 1
        first = max(same - 1, 0)
        return f"({len(mine)} items, from item {first}) {shown(mine[first : first + 4])}"
    return shown(mine)
