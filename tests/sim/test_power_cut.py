"""The whole service in one process, and the power fails: nothing promised is lost.

Method: a seed makes a history of eight writers, a coordinator and a compactor, with deaths of any
of them at any call (tests/sim/world.py). Then the power is cut at calls of it, and a coordinator
is started on what is left (tests/sim/image.py has what must hold). Without any one of the syncs
there is a cut that loses something, or the sync, or the check, is worth nothing.

`python -m tests.sim.power_cut --all --seeds N` cuts at every call.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sim.image import Image, compare, recovered
from tests.sim.power_cut import first_fault, lived, needless_syncs, sample
from tests.sim.world import World, tiny_limits
from tests.support.simfs import SimFileSystem, Survival


@pytest.mark.parametrize("seed", range(20, 23))
def test_cuts_lose_nothing_that_was_promised(tmp_path: Path, seed: int) -> None:
    with lived(tmp_path, seed) as world:
        assert world.restarts > 3
        found = first_fault(world, world.fs, sample(world, 60), tmp_path)
    assert found is None, f"seed {seed}: {found}"


def test_every_sync_is_needed(tmp_path: Path) -> None:
    # One history mostly shows them all; the next ones are for those that it left.
    left: set[tuple[str, str]] | None = None
    for seed in range(1, 5):
        with lived(tmp_path, seed) as world:
            sites = world.fs.sync_sites()
            assert len(sites) == 20, sites
            left = set(needless_syncs(world, tmp_path, sites if left is None else left))
        if not left:
            break
    assert not left, f"nothing is lost without {left}"


@pytest.mark.parametrize("seed", range(30, 34))
def test_life_goes_on_behind_cut_after_cut(tmp_path: Path, seed: int) -> None:
    inherited: dict[tuple[int, int], int] = {}
    root = tmp_path / "0"
    root.mkdir()
    with tiny_limits():
        for cut in range(1, 5):
            world = World(SimFileSystem(str(root)), seed + cut * 1000, inherited)
            try:
                world.live(150)
            finally:
                world.close()
            index = world.rng.randint(0, world.fs.call_count)
            root = tmp_path / f"{cut}"
            survival = world.rng.choice(list(Survival))
            world.fs.materialise(index, str(root), survival, world.rng)
            # As the next life's first start will find it.
            look = tmp_path / "look"
            SimFileSystem(str(root)).materialise(0, str(look), Survival.NOTHING)
            with recovered(str(look / "db")) as coordinator:
                faults = compare(world, coordinator, str(look / "db"), index)
                inherited = Image.read(coordinator, str(look / "db")).last_batches()
            assert not faults, f"seed {seed}, cut {cut} at {index}: {faults}"
            shutil.rmtree(look)
