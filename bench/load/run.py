"""Run a load: connect, write the keys, let the clients go, watch them, delete the keys.

R1  Whatever happens, no process is left; the keys are deleted unless they are to be kept, and if
    that fails it is said which are left.
R2  Ctrl-C and SIGTERM end a load early: what was measured until then is written and shown. A second
    one leaves the keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ferrisdb import errors, exit_codes
from ferrisdb.bench.load.assertions import Assertion, Verdict
from ferrisdb.bench.load.crew import ClientFailedError, Crew
from ferrisdb.bench.load.interrupts import Interrupts
from ferrisdb.bench.load.lines import live_head, live_line
from ferrisdb.bench.load.output import Output
from ferrisdb.bench.load.plan import Plan
from ferrisdb.bench.load.seconds import Second, Timeline
from ferrisdb.bench.load.session import FAILURES, RefusedError, Session, new_session
from ferrisdb.bench.load.worker import LOAD, LOADED, READY
from ferrisdb.bench.records import keys_of
from ferrisdb.cli.failure import CommandFailure
from ferrisdb.exit_codes import ExitCode

HEAD_START_NS: Final = 100_000_000
SHOWN_LATE_NS: Final = 1_500_000_000
"""A second's line is shown that long after its begin, even if a client has not sent its part."""
DELETED_AT_ONCE: Final = 1000
PROBED: Final = 64


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load came to."""

    total: Second
    seconds: float
    engine: str
    verdicts: tuple[Verdict, ...]
    was_interrupted: bool

    @property
    def code(self) -> ExitCode:
        """With which the command ends."""
        if self.was_interrupted:
            return ExitCode.INTERRUPTED
        if self.total.wrong or not all(verdict.held for verdict in self.verdicts):
            return ExitCode.THRESHOLD_MISSED
        return ExitCode.OK if self.total.operations else ExitCode.UNAVAILABLE


class Load:
    """One load.

    Owner:  the main thread, for it handles signals.
    """

    def __init__(
        self,
        plan: Plan,
        assertions: list[Assertion],
        say: Callable[[str], None],
        output: Output | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        """Prepare it.

        Shape:   say, takes the live lines; keeps, whether the keys stay.
        """
        self._plan = plan
        self._assertions = assertions
        self._say = say
        self._output = output
        self._keeps = keeps
        self._timeline = Timeline(plan.clients)
        self._interrupts = Interrupts()
        self._shown = 0

    def run(self) -> LoadResult:
        """Do all of it.

        Raises:  CommandFailure, the service can't be reached or refuses, or a client failed.
        """
        plan = self._plan
        session = new_session(plan.target, plan.durability, plan.timeout_s)
        with self._interrupts:
            try:
                _connect(session, plan)
                _refuse_foreign_keys(session, plan)
                return self._run(session)
            finally:
                session.close()

    def _run(self, session: Session) -> LoadResult:
        plan = self._plan
        has_written = False
        crew = Crew(plan)
        try:
            crew.await_all(READY)
            self._say(f"writing {plan.key_count:,} keys that begin with {self._shown_prefix} ...")
            has_written = True
            crew.tell(LOAD)
            crew.await_all(LOADED)
            seconds, was_interrupted = self._measure(crew)
        except ClientFailedError as error:
            raise CommandFailure(str(error), error.code) from error
        finally:
            crew.close()
            if has_written:
                self._clean_up(session)
        total = self._timeline.total
        outcomes = total.outcomes(seconds)
        verdicts = tuple(assertion.judge(outcomes) for assertion in self._assertions)
        if self._output is not None:
            self._output.finish(total, seconds, session.engine, verdicts)
        return LoadResult(total, seconds, session.engine, verdicts, was_interrupted)

    def _measure(self, crew: Crew) -> tuple[float, bool]:
        """Let the clients go and follow them to the end; returns seconds, and whether cut short."""
        plan = self._plan
        begin_ns = time.perf_counter_ns() + HEAD_START_NS + int(plan.warm_up_s * 1e9)
        crew.tell(begin_ns)
        self._say(live_head())
        # A message of a client's must not be cut in the middle.
        self._interrupts.held = True
        while not crew.is_done and not self._interrupts.came:
            left_ns = self._due_ns(begin_ns) - time.perf_counter_ns()
            for client, second in crew.hear(max(left_ns, 0) / 1e9):
                self._timeline.add(client, second)
            self._show(begin_ns)
        was_interrupted = not crew.is_done
        if was_interrupted:
            self._say("interrupted: waiting for the clients ...")
            for client, second in crew.stop():
                self._timeline.add(client, second)
        self._interrupts.held = False
        seconds = max((self._timeline.total.ended_ns - begin_ns) / 1e9, 0.0)
        self._finish_seconds(seconds)
        return seconds, was_interrupted

    def _show(self, begin_ns: int) -> None:
        """Write complete seconds, and show those that are due, complete or not."""
        for second in self._timeline.complete():
            if self._output is not None:
                self._output.add(second)
            if second.number >= self._shown:
                self._say(live_line(second))
                self._shown = second.number + 1
        while time.perf_counter_ns() >= self._due_ns(begin_ns):
            self._say(live_line(self._timeline.partial(self._shown)))
            self._shown += 1

    def _due_ns(self, begin_ns: int) -> int:
        """Return when the next second is shown, even if a client has not sent its part."""
        return begin_ns + self._shown * 1_000_000_000 + SHOWN_LATE_NS

    def _finish_seconds(self, seconds: float) -> None:
        for second, length in self._timeline.rest(seconds):
            if self._output is not None:
                self._output.add(second, length)
            if second.number >= self._shown:
                self._say(live_line(second))
                self._shown = second.number + 1

    def _clean_up(self, session: Session) -> None:
        """Delete the keys, or say what is left (R1)."""
        if self._keeps:
            self._say(f"kept: {self._plan.key_count:,} keys that begin with {self._shown_prefix}")
            return
        try:
            self._say(f"deleting the keys that begin with {self._shown_prefix} ...")
            delete_keys(session, self._plan)
        except (*FAILURES, RefusedError, KeyboardInterrupt) as error:
            reason = str(error) or "interrupted"
            self._say(
                f"keys may be left: {reason}; delete them by `ferrisdb bench load "
                f"{self._plan.target.text} --clean-up --prefix {self._plan.prefix.decode()} "
                f"--keys {self._plan.key_count}`"
            )

    @property
    def _shown_prefix(self) -> str:
        return repr(self._plan.prefix.decode())


def delete_keys(session: Session, plan: Plan) -> None:
    """Delete every key that a load of this plan writes, and no other.

    Raises:  what FAILURES has; RefusedError.
    """
    for begin in range(0, plan.key_count, DELETED_AT_ONCE):
        numbers = np.arange(begin, min(begin + DELETED_AT_ONCE, plan.key_count), dtype=np.uint64)
        keys = [plan.prefix + key for key in keys_of(numbers)]
        try:
            session.open()
            session.delete_many(keys)
        except FAILURES as error:
            # Once more behind a restart.
            session.failed(error)
            session.open()
            session.delete_many(keys)


def clean_up(plan: Plan) -> None:
    """Delete what a load has left.

    Raises:  CommandFailure.
    """
    session = new_session(plan.target, plan.durability, plan.timeout_s)
    try:
        _connect(session, plan)
        _refuse_foreign_keys(session, plan)
        delete_keys(session, plan)
    except FAILURES as error:
        raise _unreachable(plan, error) from error
    finally:
        session.close()


def _connect(session: Session, plan: Plan) -> None:
    try:
        session.open(patient=False)
    except RefusedError as error:
        raise CommandFailure(str(error), error.code) from error
    except FAILURES as error:
        raise _unreachable(plan, error) from error


def _refuse_foreign_keys(session: Session, plan: Plan) -> None:
    """Refuse to go on where somebody else's keys would be overwritten."""
    step = max(plan.key_count // PROBED, 1)
    numbers = np.arange(0, plan.key_count, step, dtype=np.uint64)
    try:
        for key in keys_of(numbers):
            value = session.get(plan.prefix + key)
            if value is not None and value[: len(key)] != key:
                raise CommandFailure(
                    f"there is a key {(plan.prefix + key).decode()!r} that no load has written: "
                    "choose another --prefix",
                    ExitCode.USAGE,
                )
    except FAILURES as error:
        raise _unreachable(plan, error) from error


def _unreachable(plan: Plan, error: Exception) -> CommandFailure:
    code = ExitCode.UNAVAILABLE
    if isinstance(error, errors.Error):
        code = exit_codes.for_error(error)
    return CommandFailure(f"{plan.target.text} can't be loaded: {error}", code)
