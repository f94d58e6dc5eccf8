"""The rule machine of the model test: Hypothesis draws, a `World` carries out.

A step is one operation that is carried out on the real service and on the dictionary and whose
answers are compared (a write answers nothing: the whole database is compared behind each rule, by
another handle each time). Neither those comparisons nor what happens to the service (flushes,
compactions, restarts, kills) are counted as steps.

One service serves many examples, for a start takes half a second: each begins with a range delete
of everything. After a failure the next example gets a new directory, so that Hypothesis shrinks
what fails by itself; what fails only behind other examples is reported as flaky, with the
operations of the example, and everything before them is in the file `operations-NNN`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.support.model_ops import OP_BYTES
from tests.support.model_world import Disagreement, World

RULES_PER_EXAMPLE: Final = 36
OPS_PER_RULE_MAX: Final = 30
#: A directory's tree, its log of operations and Hypothesis's memory all end with the directory.
STEPS_PER_DIRECTORY: Final = 30_000
STEPS_PER_EXAMPLE: Final = 300

Shares = dict[str, int]
#: Of 1,000 happenings.
OFTEN: Final[Shares] = {
    "flush": 200, "compact_range": 60, "compact": 12, "sync": 40, "expiry": 10, "reopen": 8,
    "restart": 8, "kill_compactor": 20, "kill_coordinator": 10, "kill_service": 6,
    "kill_reader": 6, "kill_everything": 6,
}  # fmt: skip
SELDOM: Final[Shares] = {
    "flush": 200, "compact_range": 50, "compact": 5, "sync": 30, "expiry": 4, "reopen": 3,
    "restart": 3, "kill_compactor": 6, "kill_coordinator": 4, "kill_service": 2,
    "kill_reader": 2, "kill_everything": 2,
}  # fmt: skip


@dataclass(slots=True)
class Run:
    """One run of the model test: where it works, and what it has done."""

    folder: Path
    seed: int
    shares: Shares
    steps: int = 0
    world: World | None = None
    world_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failure: Disagreement | None = None

    def happening(self, drawn: bytes) -> str | None:
        """Return what is to happen, None for nothing: so for the simplest bytes."""
        # Bytes are drawn evenly, numbers are not.
        number, behind = int.from_bytes(drawn) % 1000, 1000
        for name, share in self.shares.items():
            behind -= share
            if number >= behind:
                return name
        return None

    def fresh_world(self) -> World:
        """Return the world that the next example works in."""
        if self.world is not None and self.world.failure is not None:
            self.leave()
        if self.world is None:
            self.world = World(self.folder, self.world_count, self.seed)
            self.world_count += 1
        return self.world

    def leave(self) -> None:
        """Close the world there is."""
        world, self.world = self.world, None
        if world is not None:
            self.counts.update(world.counts)
            self.failure = self.failure or world.failure
            world.close()


def machine(run: Run) -> type[RuleBasedStateMachine]:
    """Return the machine whose examples work for `run`."""

    class Against(RuleBasedStateMachine):
        """The database against a dictionary."""

        def __init__(self) -> None:
            super().__init__()
            self._world = run.fresh_world()
            self._world.begin()

        def _operate(self, drawn: list[bytes]) -> None:
            for one in drawn:
                self._world.do(one)
                run.steps += 1
            self._world.compare()

        @rule(drawn=st.lists(st.binary(min_size=OP_BYTES, max_size=OP_BYTES), max_size=6))
        def few(self, drawn: list[bytes]) -> None:
            self._operate(drawn)

        @rule(
            drawn=st.lists(
                st.binary(min_size=OP_BYTES, max_size=OP_BYTES),
                min_size=OPS_PER_RULE_MAX // 2,
                max_size=OPS_PER_RULE_MAX,
            )
        )
        def many(self, drawn: list[bytes]) -> None:
            self._operate(drawn)

        @rule(drawn=st.binary(min_size=2, max_size=2))
        def happen(self, drawn: bytes) -> None:
            event = run.happening(drawn)
            if event is not None:
                self._world.happen(event)

        def teardown(self) -> None:
            if self._world.failure is None:
                self._world.end()

    return Against


def run_model(
    folder: Path,
    steps: int,
    number: int,
    shares: Shares,
    *,
    steps_per_directory: int = STEPS_PER_DIRECTORY,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Drive at least so many steps, in one directory after the other; return what was done.

    Shape:  number, the seed: it decides the operations, and not the moments of the kills.
    Raises: Disagreement, or Hypothesis's report of a failure that does not come again.
    """
    run = Run(folder, number, shares)
    begin = time.monotonic()
    try:
        while run.steps < steps:
            before = run.steps
            _fill_directory(run, number, min(steps, run.steps + steps_per_directory))
            rate = run.steps / (time.monotonic() - begin)
            say(
                f"{run.steps} of {steps} steps, the last {run.steps - before} in directory"
                f" {run.world_count - 1}; {rate:.0f} a second"
            )
    finally:
        run.leave()
    return run


def _fill_directory(run: Run, number: int, goal: int) -> None:
    run.seed = number + run.world_count
    while run.steps < goal:
        # About so many: what an example does is for Hypothesis to draw, and the first is empty.
        _explore(run, (goal - run.steps) // STEPS_PER_EXAMPLE + 3)
        run.seed += 1_000_003
    if run.world is not None:
        run.world.check_files()
    run.leave()


def _explore(run: Run, examples: int) -> None:
    kind = seed(run.seed)(machine(run))
    how = settings(
        max_examples=examples,
        stateful_step_count=RULES_PER_EXAMPLE,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(kind, settings=how)
    except Flaky as error:
        if run.failure is not None:
            raise run.failure from error
        raise
