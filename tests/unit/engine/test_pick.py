"""What is compacted next. Method: small trees written as text, one table of cases for each rule.

A table is `number:smallest-largest`, of 10 bytes unless told; levels are dictionaries.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ferrisdb.engine.pick import (
    LAST_LEVEL,
    Compaction,
    PickOptions,
    RangeJob,
    overlapping,
    pick,
    pick_range,
    shape,
    targets,
)
from ferrisdb.engine.version import Version
from ferrisdb.format.edit import TableMeta, VersionEdit

OPTIONS = PickOptions(level0_count=4, base_bytes=100, table_bytes=10)


def table(text: str, level: int, **changes: int | bool) -> TableMeta:
    number, _, span = text.partition(":")
    smallest, _, largest = span.partition("-")
    fields = {"file_bytes": 10, "entry_count": 10, "min_seq": 1, "max_seq": int(number)} | changes
    return TableMeta(
        level=level,
        number=int(number),
        smallest=smallest.encode(),
        largest=largest.encode(),
        **fields,  # type: ignore[arg-type]
    )


def tree(levels: dict[int, str], **changes: int | bool) -> Version:
    metas = [table(t, level, **changes) for level, row in levels.items() for t in row.split()]
    return Version().apply(VersionEdit(added=tuple(metas)))


def picked(version: Version, **how: object) -> Compaction | None:
    wanted = {"cursors": {}, "gc_floor": 0} | how
    return pick(version, OPTIONS, **wanted)  # type: ignore[arg-type]


def numbers(compaction: Compaction | None) -> list[int] | None:
    return None if compaction is None else [t.number for t in compaction.inputs]


@pytest.mark.parametrize(
    ("sizes", "base", "wanted"),
    [
        ({}, 6, {}),
        ({6: 100}, 6, {}),
        ({6: 101}, 5, {5: 10.1}),
        ({6: 1000}, 5, {5: 100}),
        ({6: 1001}, 4, {5: 100.1, 4: 10.01}),
        ({6: 50, 5: 10}, 5, {5: 10}),
        ({6: 10**12}, 1, {5: 1e11, 1: 1e7}),
    ],
)
def test_levels_grow_from_the_last_one_up(
    sizes: dict[int, int], base: int, wanted: dict[int, float]
) -> None:
    metas = tuple(table(f"{n}:a-b", n, file_bytes=size) for n, size in sizes.items())
    found = targets(Version().apply(VersionEdit(added=metas)), OPTIONS)
    assert found.base_level == base
    for level, size in wanted.items():
        assert found.level_bytes[level] == pytest.approx(size)
    assert found.level_bytes[LAST_LEVEL] == float("inf")


@pytest.mark.parametrize(
    ("levels", "inputs", "output"),
    [
        # Nothing to do.
        ({0: "1:a-z 2:a-z 3:a-z"}, None, None),
        # Level 0 by count, with all that overlaps below.
        ({0: "1:a-z 2:a-z 3:a-z 4:a-z"}, [4, 3, 2, 1], 6),
        ({0: "11:c-e 12:c-d 13:a-d 14:d-f", 6: "1:a-b 2:e-g 3:h-i"}, [14, 13, 12, 11, 1, 2], 6),
        # Only the chain of overlaps that the oldest hangs in.
        ({0: "11:p-q 12:a-b 13:b-c 14:q-s", 6: "1:a-z"}, [14, 11, 1], 6),
        # Into the base level, which is above the last one.
        (
            {
                0: "11:a-z 12:a-z 13:a-z 14:a-z",
                6: "1:a-c 2:d-f 3:g-i 4:j-k 5:l-m 6:n-o 7:p-q 8:r-s 9:t-u 10:v-w 20:x-z",
            },
            [14, 13, 12, 11],
            5,
        ),
    ],
)
def test_level_0_goes_down_with_what_overlaps(
    levels: dict[int, str], inputs: list[int] | None, output: int | None
) -> None:
    found = picked(tree(levels))
    assert numbers(found) == inputs
    assert (found.output_level if found else None) == output


def big(last: int = 40) -> str:
    return " ".join(f"{100 + n}:b{n:02}-b{n:02}x" for n in range(last))


def test_a_level_over_its_target_goes_down_round_robin() -> None:
    version = tree({5: "1:a-a 2:b05-b06 3:b20-b21 4:c-d 5:e-f", 6: big()})
    assert shape(version, OPTIONS).scores[5] == pytest.approx(50 / 40)
    first = picked(version)
    assert numbers(first) == [1]
    assert first is not None and first.is_move and first.bottom and first.output_level == 6
    second = picked(version, cursors={5: b"a"})
    assert numbers(second) == [2, 105, 106]
    assert second is not None and not second.is_move
    # Behind the last one it begins anew.
    assert numbers(picked(version, cursors={5: b"e"})) == [1]


def test_bottom_is_where_nothing_lies_below() -> None:
    version = tree({4: "1:a-c", 5: "3:a-b", 6: "4:x-z"})
    assert pick_range(version, OPTIONS, RangeJob(b"", b"b", 9)) is not None
    step = pick_range(version, OPTIONS, RangeJob(b"", b"b", 9))
    assert step is not None and numbers(step[0]) == [1, 3] and step[0].bottom
    below = tree({4: "1:a-c", 5: "3:a-b", 6: "4:c-z"})
    step = pick_range(below, OPTIONS, RangeJob(b"", b"b", 9))
    assert step is not None and numbers(step[0]) == [1, 3] and not step[0].bottom


@pytest.mark.parametrize(("deletes", "moved"), [(2, True), (3, False)])
def test_what_holds_many_deletes_is_not_moved_to_the_bottom(deletes: int, moved: bool) -> None:
    version = tree({5: "1:a-a 2:c-c 3:d-d 4:e-e 5:f-f", 6: big()}, delete_count=deletes)
    found = picked(version)
    assert found is not None and numbers(found) == [1] and found.is_move is moved


@pytest.mark.parametrize(
    ("changes", "floor", "inputs"),
    [
        ({"delete_count": 5}, 9, [7]),
        ({"delete_count": 5}, 6, None),
        ({"delete_count": 1}, 9, None),
        ({"older_count": 3}, 9, [7]),
        ({"older_count": 3}, 6, None),
        ({"older_count": 2}, 9, None),
        ({"older_count": 2, "delete_count": 1}, 9, [7]),
        ({"range_delete_count": 1}, 9, [7]),
        ({"expiring_count": 9}, 9, None),
        ({"expiring_count": 9, "quarter_expires_us": 100}, 9, [7]),
        ({"expiring_count": 9, "quarter_expires_us": 100}, 6, None),
        ({"expiring_count": 9, "quarter_expires_us": 101}, 9, None),
    ],
)
def test_what_is_dead_at_the_bottom_goes_when_no_snapshot_needs_it(
    changes: dict[str, int], floor: int, inputs: list[int] | None
) -> None:
    found = picked(tree({6: "7:a-c"}, **changes), gc_floor=floor, expired_us=100)
    assert numbers(found) == inputs
    assert found is None or (found.output_level == 6 and found.bottom and not found.is_move)


def test_outputs_are_cut_where_they_would_overlap_too_much_below() -> None:
    version = tree({4: "1:a-z", 5: "2:p-q", 6: big(35)})
    step = pick_range(version, OPTIONS, RangeJob(b"", None, 1000))
    assert step is not None
    assert numbers(step[0]) == [1, 2]
    assert step[0].splits == (b"b10", b"b20", b"b30")


def test_a_calm_tree_has_little_above_its_last_level() -> None:
    version = tree({0: "1:a-z", 6: big(9)})
    assert picked(version) is None
    assert numbers(picked(version, is_calm=True)) == [1, *range(100, 109)]
    assert picked(tree({0: "1:a-z", 6: big(10)}), is_calm=True) is None
    # Level 0 counts with the levels between.
    above = {5: "2:b05-b06 3:c-d", 6: big(25)}
    assert numbers(picked(tree({0: "1:a-z", **above}), is_calm=True)) == [1, 2, 3]
    assert picked(tree(above), is_calm=True) is None
    # A tree that has nothing else yet is merged, too.
    assert numbers(picked(tree({0: "1:a-z 2:a-z"}), is_calm=True)) == [2, 1]


def test_a_delete_weighs_as_much_as_what_it_hides() -> None:
    version = tree({5: "1:a-a", 6: big(20)}, delete_count=0)
    assert shape(version, OPTIONS).scores[5] == pytest.approx(10 / 20)
    version = version.apply(
        VersionEdit(added=(table("2:b-b", 5, entry_count=40, delete_count=10),))
    )
    assert shape(version, OPTIONS).scores[5] == pytest.approx((20 + 10) / 20)


@pytest.mark.parametrize(
    ("levels", "debt"),
    [
        ({6: big(20)}, 0),
        ({0: "1:a-z 2:a-z 3:a-z", 5: "4:a-z", 6: big(20)}, 0),
        ({5: "1:a-b 2:c-d 3:e-f", 6: big(20)}, 10),
        # All of level 0, and what it makes too much in the level below.
        ({0: "1:a-z 2:a-z 3:a-z 4:a-z", 5: "5:a-z", 6: big(20)}, 40 + 30),
        ({0: "1:a-z 2:a-z 3:a-z 4:a-z"}, 40),
    ],
)
def test_debt_is_what_has_to_go_down(levels: dict[int, str], debt: int) -> None:
    assert shape(tree(levels), OPTIONS).debt_bytes == debt


def test_large_tables_make_level_0_due_by_their_size() -> None:
    assert numbers(picked(tree({0: "1:a-z 2:a-z"}, file_bytes=50))) == [2, 1]
    assert picked(tree({0: "1:a-z 2:a-z"}, file_bytes=49)) is None


def test_an_unbounded_range_tombstone_overlaps_everything_above() -> None:
    metas = tree({6: "1:a-b 2:c-d 3:e-f"}).levels[6]
    assert [t.number for t in overlapping(metas, [table("9:c-c", 5, unbounded=True)])] == [2, 3]
    last = replace(metas[2], unbounded=True)
    assert overlapping([last], [table("9:x-y", 5)]) == [last]
    assert overlapping([last], [table("9:a-d", 5)]) == []


def test_small_tables_of_ascending_keys_are_merged_together() -> None:
    version = tree({0: "1:a-a 2:b-b 3:c-c 4:d-d"}, file_bytes=2)
    assert numbers(picked(version)) == [4, 3, 2, 1]


def key_of(number: int) -> str:
    return f"{chr(97 + number // 10)}{number % 10}"


def settle(version: Version, first_number: int, seed: int) -> tuple[Version, int]:
    """Carry out a compaction by hand as if tables had no contents; return how many steps."""
    rng = random.Random(seed)
    job, number, steps = RangeJob(b"b", b"q", first_number), first_number, 0
    while (found := pick_range(version, OPTIONS, job)) is not None:
        compaction, job = found
        steps += 1
        assert steps < 500
        if compaction.is_move:
            outputs: tuple[TableMeta, ...] = compaction.moved()
        else:
            low = min(t.smallest for t in compaction.inputs)
            high = max(t.largest for t in compaction.inputs)
            keys = sorted({low, high, *(t.smallest for t in compaction.inputs)})
            outputs = tuple(
                TableMeta(compaction.output_level, number + n, 10, 1, key, key, 1, 1)
                for n, key in enumerate(keys)
                if rng.random() < 0.9
            )
            number += len(keys)
        version = version.apply(compaction.edit(outputs))
    return version, steps


@pytest.mark.parametrize("seed", range(30))
def test_a_range_by_hand_ends_in_one_level_all_of_it_rewritten(seed: int) -> None:
    rng = random.Random(seed)
    metas: list[TableMeta] = []
    for level in range(7):
        keys = sorted(rng.sample(range(100), 2 * rng.randrange(8)))
        for low, high in zip(keys[::2], keys[1::2], strict=True):
            span = f"{len(metas) + 1}:{key_of(low)}-{key_of(high)}"
            metas.append(table(span, level))
    version = Version().apply(VersionEdit(added=tuple(metas)))
    version, _ = settle(version, 1000, seed)
    within = [t for t in version.tables() if t.largest >= b"b" and t.smallest < b"q"]
    assert len({t.level for t in within}) <= 1
    assert all(t.number >= 1000 for t in within)
    assert not any(t.level == 0 for t in within)
