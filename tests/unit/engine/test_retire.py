"""What may go and what a pin holds. Method: slots as arrays, no process; a model by Hypothesis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrisdb.engine.retire import Pins, Resource, ResourceKind, Retirement
from ferrisdb.shm.client import SEQ_PLAIN_READ, SLOT_DTYPE

MEMTABLE, TABLE, PAGE = ResourceKind.MEMTABLE, ResourceKind.TABLE, ResourceKind.VERSION_PAGE


def slots(*pins: tuple[int, int], revoked: int = 0, born_ns: int = 0) -> npt.NDArray[np.void]:
    """Slots that hold (epoch, seq) each."""
    array = np.zeros(len(pins), SLOT_DTYPE)
    for index, (epoch, seq) in enumerate(pins):
        array[index]["epoch"] = epoch
        array[index]["seq"] = seq
        array[index]["revoked"] = revoked
        array[index]["born_ns"] = born_ns
        array[index]["now_us"] = seq % 1000
    return array


NONE = Pins.collect([])


def test_what_is_dropped_goes_at_once_when_nobody_pins() -> None:
    retirement = Retirement()
    retirement.publish(1, [10], [1, 2])
    retirement.publish(2, [10], [2, 3])
    assert retirement.reclaim(NONE) == [Resource(TABLE, 1), Resource(PAGE, 1)]
    assert retirement.reclaim(NONE) == [] and retirement.waiting == ()


def test_a_pin_holds_its_version_until_it_is_gone() -> None:
    retirement = Retirement()
    retirement.publish(1, [10], [1])
    retirement.publish(2, [11, 10], [1])
    retirement.publish(3, [11], [2])
    pinned = Pins.collect([(4, slots((0, 0), (2, 50)))])
    # Epoch 1's page is named by epoch 1 alone.
    assert retirement.reclaim(pinned) == [Resource(PAGE, 1)]
    held = {Resource(MEMTABLE, 10), Resource(TABLE, 1), Resource(PAGE, 2)}
    assert {one.resource for one in retirement.waiting} == held
    freed = retirement.reclaim(Pins.collect([(4, slots((3, 50)))]))
    assert freed == [Resource(MEMTABLE, 10), Resource(TABLE, 1), Resource(PAGE, 2)]


def test_an_old_pin_does_not_hold_what_came_after_it() -> None:
    retirement = Retirement()
    retirement.publish(1, [], [1])
    retirement.publish(2, [], [1, 2])
    retirement.publish(3, [], [1])
    assert Resource(TABLE, 2) in retirement.reclaim(Pins.collect([(0, slots((1, 5)))]))


def test_a_revoked_pin_holds_nothing_until_its_slot_is_used_under_another_epoch() -> None:
    retirement = Retirement()
    retirement.publish(1, [], [1])
    retirement.publish(2, [], [])
    assert not len(Pins.collect([(0, slots((1, 5), revoked=1))]).rows)
    used_again = Pins.collect([(0, slots((1, 5), revoked=9))])
    assert retirement.reclaim(used_again) == []
    revoked = Pins.collect([(0, slots((1, 5), revoked=1))])
    assert Resource(TABLE, 1) in retirement.reclaim(revoked)


def test_floor_is_the_oldest_snapshot_and_never_falls() -> None:
    assert NONE.gc_floor(visible_seq=90, floor=10) == 90
    pins = Pins.collect([(0, slots((1, SEQ_PLAIN_READ), (2, 40))), (3, slots((1, 60)))])
    assert pins.gc_floor(visible_seq=90, floor=10) == 40
    assert pins.gc_floor(visible_seq=90, floor=45) == 45
    assert pins.gc_floor(visible_seq=30, floor=10) == 30
    assert pins.now_us_floor(1000) == 40
    assert NONE.now_us_floor(1000) == 1000
    plain = Pins.collect([(0, slots((1, SEQ_PLAIN_READ)))])
    assert plain.gc_floor(visible_seq=90, floor=10) == 90


def test_pins_past_their_age_and_from_the_future_are_to_be_revoked() -> None:
    hour = 3600 * 10**9
    now = 5 * hour
    ages = [now - hour - 1, now - hour, now, now + 10, now + hour]
    pins = Pins.collect([(n, slots((1, 5), born_ns=born)) for n, born in enumerate(ages)])
    assert pins.too_old(now, hour) == [(0, 0, 1), (4, 0, 1)]
    assert pins.too_old(5, hour) != []
    assert NONE.too_old(now, hour) == []


def test_epochs_only_grow() -> None:
    retirement = Retirement()
    retirement.publish(5, [], [])
    with pytest.raises(ValueError, match="behind 5"):
        retirement.publish(5, [], [])


@settings(max_examples=60, deadline=None)
@given(
    versions=st.lists(st.sets(st.integers(1, 12), max_size=5), min_size=1, max_size=12),
    pinned=st.sets(st.integers(1, 12), max_size=3),
)
def test_nothing_that_a_pinned_version_names_is_ever_freed(
    versions: list[set[int]], pinned: set[int]
) -> None:
    retirement = Retirement()
    history: dict[int, set[Resource]] = {}
    dropped: set[int] = set()
    for epoch, tables in enumerate(versions, 1):
        # File numbers never recur: what was dropped once does not come back.
        alive = tables - dropped
        dropped |= {n for past in history.values() for n in _numbers(past)} - alive
        retirement.publish(epoch, [], alive)
        history[epoch] = {Resource(TABLE, n) for n in alive} | {Resource(PAGE, epoch)}
    pins = Pins.collect([(0, slots(*((epoch, 1) for epoch in sorted(pinned))))])
    freed = retirement.reclaim(pins)
    current = len(versions)
    held = set().union(*(history.get(epoch, set()) for epoch in {*pinned, current}))
    assert set(freed) == set().union(*history.values()) - held
    assert len(freed) == len(set(freed))


def _numbers(resources: set[Resource]) -> set[int]:
    return {one.number for one in resources if one.kind is TABLE}
