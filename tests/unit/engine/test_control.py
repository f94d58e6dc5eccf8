"""Goal: the coordinator's decisions about rare events. Method: tables of events and actions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.engine import control as ctl
from ferrisdb.engine.control import Control
from ferrisdb.engine.restarts import LOOP_COUNT, LOOP_NS, PAUSE_NS_FIRST, PAUSE_NS_MAX, STEADY_NS
from ferrisdb.errors import DiskFullError
from ferrisdb.exit_codes import ExitCode

FULL = DiskFullError.wire_code


def started(*frozen: int, active: int = 10, frozen_max: int = 2) -> Control:
    """A control with a compactor that has its first requests."""
    control = Control(frozen_count_max=frozen_max, idle_exit_ns=None)
    assert control.handle(ctl.Started(0, frozen, active)) == [ctl.StartCompactor()]
    control.handle(ctl.CompactorReady(0))
    return control


def test_a_new_compactor_gets_a_preparation_and_the_oldest_flush() -> None:
    control = Control(frozen_count_max=2, idle_exit_ns=None)
    control.handle(ctl.Started(0, (3, 5), 7))
    assert control.handle(ctl.CompactorReady(1)) == [
        ctl.Prepare(),
        ctl.Flush(3),
        ctl.Compact(),
    ]
    # K1: no second one of a kind.
    assert control.handle(ctl.Tick(2, 1)) == []


def test_flushes_go_oldest_first_one_at_a_time() -> None:
    control = started(3, 5)
    assert control.handle(ctl.Flushed(1, 3)) == [ctl.Flush(5)]
    assert control.handle(ctl.Flushed(2, 5)) == []
    assert control.frozen == []


def test_a_full_log_rotates_at_once_if_the_next_is_prepared() -> None:
    control = started()
    assert control.handle(ctl.Prepared(1, 11)) == []
    assert control.handle(ctl.LogFull(2)) == [ctl.Rotate(11)]
    assert control.handle(ctl.Rotated(2)) == [ctl.Prepare(), ctl.Flush(10)]
    assert not control.is_stalled
    assert (control.active, control.frozen) == (11, [10])


def test_a_full_log_stalls_until_the_next_is_prepared() -> None:
    control = started()
    assert control.handle(ctl.LogFull(1)) == []
    assert control.is_stalled
    assert control.handle(ctl.Prepared(2, 11)) == [ctl.Rotate(11)]
    assert control.handle(ctl.Rotated(2)) == [ctl.Prepare(), ctl.Flush(10)]
    assert not control.is_stalled


def test_too_many_frozen_memtables_stall_until_one_is_flushed() -> None:
    control = started(3, 5, frozen_max=2)
    control.handle(ctl.Prepared(1, 11))
    assert control.handle(ctl.LogFull(2)) == []
    assert control.is_stalled
    actions = control.handle(ctl.Flushed(3, 3))
    assert actions == [ctl.Rotate(11), ctl.Flush(5)]
    assert control.handle(ctl.Rotated(3)) == [ctl.Prepare()]
    assert not control.is_stalled


def test_a_failed_preparation_is_tried_again_a_second_later_and_writers_hear_why() -> None:
    control = started()
    control.handle(ctl.LogFull(0))
    assert control.handle(ctl.JobFailed(100, ctl.Job.PREPARE, FULL)) == []
    assert control.refusal == FULL
    assert control.handle(ctl.Tick(ctl.RETRY_NS, 1)) == []
    assert control.handle(ctl.Tick(100 + ctl.RETRY_NS, 1)) == [ctl.Prepare()]
    assert control.handle(ctl.Prepared(2 * ctl.RETRY_NS, 11))[0] == ctl.Rotate(11)
    assert control.refusal == 0


def test_a_failed_flush_is_tried_again_and_refuses_writers_only_when_there_is_no_room() -> None:
    control = started(3, frozen_max=2)
    assert control.handle(ctl.JobFailed(0, ctl.Job.FLUSH, FULL)) == []
    assert control.refusal == 0
    assert control.handle(ctl.Tick(ctl.RETRY_NS, 1)) == [ctl.Flush(3)]
    control = started(3, 5, frozen_max=2)
    control.handle(ctl.JobFailed(0, ctl.Job.FLUSH, FULL))
    assert control.refusal == FULL


def test_a_dead_compactors_jobs_go_to_the_next_one() -> None:
    control = started(3)
    assert control.handle(ctl.CompactorDied(0)) == []
    assert control.handle(ctl.Tick(PAUSE_NS_FIRST - 1, 1)) == []
    assert control.handle(ctl.Tick(PAUSE_NS_FIRST, 1)) == [ctl.StartCompactor()]
    assert control.handle(ctl.CompactorReady(PAUSE_NS_FIRST)) == [
        ctl.Prepare(),
        ctl.Flush(3),
        ctl.Compact(),
    ]


def test_nothing_is_asked_of_a_compactor_that_is_not_there() -> None:
    control = started()
    control.handle(ctl.Prepared(0, 11))
    control.handle(ctl.CompactorDied(0))
    assert control.handle(ctl.LogFull(1)) == [ctl.Rotate(11)]
    assert control.handle(ctl.Rotated(1)) == []
    assert control.handle(ctl.LogFull(2)) == []
    assert control.is_stalled


@pytest.mark.parametrize("apart_ns", [0, LOOP_NS // LOOP_COUNT])
def test_a_crash_loop_ends_the_service(apart_ns: int) -> None:
    control = started()
    for death in range(LOOP_COUNT - 1):
        assert control.handle(ctl.CompactorDied(death * apart_ns)) == []
        control.handle(ctl.CompactorReady(death * apart_ns))
    last = (LOOP_COUNT - 1) * apart_ns
    assert control.handle(ctl.CompactorDied(last)) == [ctl.Exit(ExitCode.CRASH_LOOP)]


def test_rare_deaths_never_end_the_service() -> None:
    control = started()
    for death in range(3 * LOOP_COUNT):
        assert control.handle(ctl.CompactorDied(death * LOOP_NS)) == []
        control.handle(ctl.CompactorReady(death * LOOP_NS))


def test_readers_are_started_once_when_they_are_wanted() -> None:
    control = started()
    assert control.handle(ctl.ReadersWanted(1, 2)) == [ctl.StartReader(0), ctl.StartReader(1)]
    assert control.handle(ctl.ReadersWanted(2, 2)) == []


def test_a_dead_reader_is_started_at_once_and_then_with_growing_pauses() -> None:
    control = started()
    control.handle(ctl.ReadersWanted(0, 2))
    assert control.handle(ctl.ReaderDied(0, 1)) == [ctl.StartReader(1)]
    assert control.handle(ctl.ReaderDied(1, 0)) == [ctl.StartReader(0)]
    now_ns, pause_ns = 2, PAUSE_NS_FIRST
    for _ in range(LOOP_COUNT):
        assert control.handle(ctl.ReaderDied(now_ns, 1)) == []
        assert control.handle(ctl.Tick(now_ns + pause_ns - 1, 1)) == []
        assert control.handle(ctl.Tick(now_ns + pause_ns, 1)) == [ctl.StartReader(1)]
        now_ns += pause_ns
        pause_ns = min(2 * pause_ns, PAUSE_NS_MAX)


def test_the_service_is_given_up_only_when_all_readers_die_again_and_again() -> None:
    control = started()
    control.handle(ctl.ReadersWanted(0, 2))
    for death in range(2 * LOOP_COUNT):
        assert ctl.Exit(ExitCode.CRASH_LOOP) not in control.handle(ctl.ReaderDied(death, 0))
    for death in range(LOOP_COUNT - 1):
        assert ctl.Exit(ExitCode.CRASH_LOOP) not in control.handle(ctl.ReaderDied(death, 1))
    assert control.handle(ctl.ReaderDied(LOOP_NS - 1, 1)) == [ctl.Exit(ExitCode.CRASH_LOOP)]


def test_old_deaths_of_readers_are_forgotten() -> None:
    control = started()
    control.handle(ctl.ReadersWanted(0, 1))
    for death in range(3 * LOOP_COUNT):
        assert control.handle(ctl.ReaderDied(death * LOOP_NS, 0)) == [ctl.StartReader(0)]


def test_a_reader_that_had_lived_for_a_while_is_started_at_once_however_often_it_dies() -> None:
    control = started()
    control.handle(ctl.ReadersWanted(0, 1))
    now_ns = 0
    for _ in range(2 * LOOP_COUNT):
        assert control.handle(ctl.ReaderDied(now_ns, 0)) == [ctl.StartReader(0)]
        now_ns += STEADY_NS
    # One that had not counts again.
    assert control.handle(ctl.ReaderDied(now_ns, 0)) == [ctl.StartReader(0)]
    assert control.handle(ctl.ReaderDied(now_ns + STEADY_NS - 1, 0)) == []


def test_an_idle_service_leaves_after_its_time_and_clients_start_the_clock_anew() -> None:
    control = Control(frozen_count_max=2, idle_exit_ns=100)
    control.handle(ctl.Started(0, (), 1))
    assert control.handle(ctl.Tick(10, 0)) == []
    assert control.handle(ctl.Tick(109, 0)) == []
    assert control.handle(ctl.Tick(110, 1)) == []
    assert control.handle(ctl.Tick(150, 0)) == []
    assert control.handle(ctl.Tick(249, 0)) == []
    assert control.handle(ctl.Tick(250, 0)) == [ctl.Exit(ExitCode.OK)]


def test_a_service_in_the_foreground_stays() -> None:
    control = started()
    assert control.handle(ctl.Tick(10**18, 0)) == []
    assert control.handle(ctl.Tick(2 * 10**18, 0)) == []


@given(steps=st.lists(st.integers(0, 9), max_size=200), frozen_max=st.integers(1, 3))
def test_any_order_of_events_keeps_the_invariants(steps: list[int], frozen_max: int) -> None:
    control = Control(frozen_count_max=frozen_max, idle_exit_ns=None)
    alive, preparing, next_number, now_ns = False, False, 100, 0
    flushing: int | None = None
    todo: list[ctl.Action] = control.handle(ctl.Started(0, (), 1))
    for step in steps:
        now_ns += 300_000_001
        event: ctl.Event = ctl.Tick(now_ns, 1)
        if step <= 1 and alive and preparing:
            preparing, next_number = False, next_number + 1
            event = (
                ctl.JobFailed(now_ns, ctl.Job.PREPARE, FULL)
                if step
                else ctl.Prepared(now_ns, next_number)
            )
        elif step in (2, 3) and alive and flushing is not None:
            event = (
                ctl.JobFailed(now_ns, ctl.Job.FLUSH, FULL)
                if step == 3
                else ctl.Flushed(now_ns, flushing)
            )
            flushing = None
        elif step in (4, 5) and not control.is_stalled:
            event = ctl.LogFull(now_ns)
        elif step == 6 and alive:
            alive, preparing, flushing = False, False, None
            event = ctl.CompactorDied(now_ns)
        todo += control.handle(event)
        while todo:
            match todo.pop(0):
                case ctl.StartCompactor():
                    assert not alive
                    alive = True
                    todo += control.handle(ctl.CompactorReady(now_ns))
                case ctl.Prepare():
                    assert alive
                    assert not preparing
                    preparing = True
                case ctl.Flush(number):
                    assert alive
                    assert flushing is None
                    assert number == control.frozen[0]
                    flushing = number
                case ctl.Rotate(number):
                    assert control.prepared == number
                    if now_ns % 7 == 0:
                        code = ctl.JobFailed(now_ns, ctl.Job.ROTATE, FULL)
                        todo += control.handle(code)
                    else:
                        todo += control.handle(ctl.Rotated(now_ns))
                        assert control.active == number
                case ctl.Exit():
                    return
        assert len(control.frozen) <= frozen_max
        assert control.frozen == sorted(control.frozen)


def test_one_compaction_at_a_time_until_the_tree_is_settled() -> None:
    control = started(3)
    assert control.compacting
    # A flush changes the tree; but one is under way.
    assert control.handle(ctl.Flushed(1, 3, 1)) == []
    assert control.handle(ctl.Compacted(2, 0)) == [ctl.Compact()]
    assert control.handle(ctl.Settled(3)) == []
    assert control.handle(ctl.Tick(4, 1)) == []
    assert control.handle(ctl.CompactWanted(5)) == [ctl.Compact()]
    assert control.handle(ctl.Settled(6)) == []
    # It is looked at once more when it is calm, and then now and then: snapshots end silently.
    calm_ns = 1 + ctl.CALM_NS
    assert control.handle(ctl.Tick(calm_ns - 1, 1)) == []
    rests = [control.at_rest]
    assert control.handle(ctl.Tick(calm_ns, 1)) == [ctl.Compact(is_calm=True)]
    assert control.handle(ctl.Settled(calm_ns + 1)) == []
    rests.append(control.at_rest)
    assert control.handle(ctl.Tick(calm_ns + ctl.LOOK_NS, 1)) == []
    later_ns = calm_ns + 1 + ctl.LOOK_NS
    assert control.handle(ctl.Tick(later_ns, 1)) == [ctl.Compact(is_calm=True)]
    assert control.handle(ctl.Compacted(later_ns + 1, 0)) == [ctl.Compact(is_calm=True)]
    assert [*rests, control.at_rest] == [False, True, False]


def test_a_tree_is_not_at_rest_while_memtables_wait() -> None:
    control = started()
    control.handle(ctl.Settled(0))
    control.handle(ctl.Tick(ctl.CALM_NS, 1))
    control.handle(ctl.Settled(ctl.CALM_NS))
    rests = [control.at_rest]
    control.handle(ctl.Prepared(ctl.CALM_NS, 11))
    assert ctl.Rotate(11) in control.handle(ctl.LogFull(2 * ctl.CALM_NS))
    control.handle(ctl.Rotated(2 * ctl.CALM_NS))
    assert [*rests, control.at_rest] == [True, False]
    assert control.handle(ctl.Flushed(3 * ctl.CALM_NS, 10, 1)) == [ctl.Compact()]


def test_a_failed_compaction_is_tried_again_later_and_later() -> None:
    control = started()
    assert control.handle(ctl.JobFailed(0, ctl.Job.COMPACT, 33)) == []
    assert control.handle(ctl.Tick(ctl.RETRY_NS - 1, 1)) == []
    assert control.handle(ctl.Tick(ctl.RETRY_NS, 1)) == [ctl.Compact()]
    assert control.handle(ctl.JobFailed(ctl.RETRY_NS, ctl.Job.COMPACT, 33)) == []
    assert control.handle(ctl.Tick(3 * ctl.RETRY_NS - 1, 1)) == []
    assert control.handle(ctl.Tick(3 * ctl.RETRY_NS, 1)) == [ctl.Compact(is_calm=True)]


def test_level_0_slows_writes_down_and_then_stalls_them() -> None:
    control = started()
    control.handle(ctl.Prepared(0, 11))
    slow = []
    for count in range(ctl.LEVEL0_STALL_COUNT + 1):
        control.handle(ctl.Compacted(1, count))
        slow.append(control.slowdown)
    assert slow[: ctl.LEVEL0_SLOW_COUNT] == [0.0] * ctl.LEVEL0_SLOW_COUNT
    assert slow == sorted(slow) and 0 < slow[ctl.LEVEL0_SLOW_COUNT] < slow[-1] <= 0.9
    assert ctl.Rotate(11) not in control.handle(ctl.LogFull(2))
    assert control.is_stalled
    # Why nothing moves is what writers are told.
    control.handle(ctl.JobFailed(3, ctl.Job.COMPACT, 33))
    assert control.refusal == 33
    assert ctl.Rotate(11) in control.handle(ctl.Compacted(4, ctl.LEVEL0_STALL_COUNT - 1))
    assert control.refusal == 0
    control.handle(ctl.Rotated(4))
    assert not control.is_stalled


def test_a_rotation_that_lacks_space_is_tried_again_and_changes_nothing() -> None:
    control = started()
    control.handle(ctl.Prepared(0, 11))
    assert control.handle(ctl.LogFull(1)) == [ctl.Rotate(11)]
    assert control.handle(ctl.JobFailed(1, ctl.Job.ROTATE, FULL)) == []
    assert (control.active, control.prepared, control.frozen) == (10, 11, [])
    assert control.is_stalled and control.refusal == control.shortage == FULL
    assert control.handle(ctl.Tick(ctl.RETRY_NS, 1)) == []
    assert control.handle(ctl.Tick(ctl.RETRY_NS + 1, 1)) == [ctl.Rotate(11)]
    control.handle(ctl.Rotated(ctl.RETRY_NS + 1))
    assert control.refusal == control.shortage == 0


def test_a_shortage_lasts_until_every_job_that_lacked_space_has_succeeded() -> None:
    control = started(3)
    control.handle(ctl.JobFailed(1, ctl.Job.PREPARE, FULL))
    control.handle(ctl.JobFailed(1, ctl.Job.PUBLISH, ctl.SPACE_CODES[1]))
    control.handle(ctl.JobFailed(1, ctl.Job.FLUSH, 20))
    assert control.shortage == FULL
    control.handle(ctl.Prepared(2, 11))
    assert control.shortage == ctl.SPACE_CODES[1]
    control.handle(ctl.JobDone(3, ctl.Job.PUBLISH))
    assert control.shortage == 0


def test_space_that_is_there_again_ends_the_wait_of_a_compaction() -> None:
    control = started()
    control.handle(ctl.JobFailed(1, ctl.Job.PREPARE, FULL))
    for n in range(1, 5):
        control.handle(ctl.JobFailed(n * ctl.RETRY_NS_MAX, ctl.Job.COMPACT, FULL))
        late = ctl.Tick(n * ctl.RETRY_NS_MAX + ctl.RETRY_SOON_NS_MAX, 1)
        assert ctl.Compact(is_calm=True) in control.handle(late)
    control.handle(ctl.JobFailed(300 * ctl.RETRY_NS, ctl.Job.COMPACT, FULL))
    assert ctl.Compact(is_calm=True) in control.handle(ctl.Prepared(300 * ctl.RETRY_NS + 1, 11))


def test_a_compactor_that_dies_takes_what_was_not_logged_with_it() -> None:
    control = started(3)
    control.handle(ctl.JobFailed(1, ctl.Job.INSTALL, FULL))
    assert control.shortage == FULL
    control.handle(ctl.CompactorDied(2))
    assert control.shortage == 0
