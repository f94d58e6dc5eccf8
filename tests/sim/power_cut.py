"""Cut the power of a simulated service at its calls, and see that nothing promised is lost.

Run as `python -m tests.sim.power_cut [--all] [--seeds N] [--first SEED]`: with --all, every call
of each history is a cut, in three ways; without, a sample.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ferrisdb.errors import Error
from tests.sim.image import compare, recovered
from tests.sim.world import Mood, World, tiny_limits
from tests.support.simfs import SimFileSystem, Survival

Site = tuple[str, str]
Cut = tuple[int, Survival, int]
"""Index of the call that is not reached, what survives, seed of that."""

ACT_COUNT = 500
SPAN_MAX = 80
FLUSHED = ("sync_dir", "ferrisdb.engine.flush.flush_memtable")
ROTATE = ("datasync", "ferrisdb.workers.memtables.Memtables.rotate")
SWITCH = ("sync_dir", "ferrisdb.format.manifest._switch_current")
APPEND = ("datasync", "ferrisdb.format.manifest.ManifestWriter.append")


@contextmanager
def lived(folder: Path, seed: int, act_count: int = ACT_COUNT) -> Iterator[World]:
    """Yield a world that has lived and come to rest."""
    root = folder / f"world-{seed}"
    root.mkdir()
    with tiny_limits():
        world = World(SimFileSystem(str(root)), seed)
        try:
            _live_through_rare_events(world)
            world.live(act_count)
            world.settle()
            yield world
        finally:
            world.close()


def _live_through_rare_events(world: World) -> None:
    """Make sure of states in which syncs matter that are redundant else."""
    # Commits in a recycled WAL file while a flush, which syncs the directory too, hangs.
    assert world.live_until_call(*FLUSHED)
    world.live_quietly(700, Mood.SLOW_FLUSH)
    world.settle()
    # A rotation behind commits that are not synced.
    assert world.live_until_call(*ROTATE, Mood.OS_ONLY)
    world.live_quietly(40)
    # A second without any commit that asks for a sync.
    world.live_quietly(30, Mood.OS_ONLY)
    world.pass_second()
    world.live_quietly(10, Mood.OS_ONLY)
    world.stop_cleanly()
    # Deaths between a change of what the MANIFEST says and its sync: only behind them does it
    # matter that a start syncs what it has read.
    assert world.live_until_death(*SWITCH)
    assert world.live_until_death(*APPEND)


def faults_of_cut(world: World, fs: SimFileSystem, cut: Cut, folder: Path) -> list[str]:
    """Return what is wrong after one power cut; a start that is refused is wrong."""
    index, survival, seed = cut
    target = folder / "cut"
    fs.materialise(index, str(target), survival, random.Random(seed))
    path = str(target / "db")
    try:
        with recovered(path) as coordinator:
            return compare(world, coordinator, path, index)
    except Error as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(target)


def sample(world: World, count: int) -> list[Cut]:
    """Return cuts at calls all over the history."""
    rng = random.Random(world.fs.call_count)
    indexes = sorted(rng.sample(range(world.fs.call_count + 1), min(count, world.fs.call_count)))
    return [(index, rng.choice(list(Survival)), rng.getrandbits(30)) for index in indexes]


def every(world: World) -> list[Cut]:
    """Return three cuts at each call."""
    return [
        (index, survival, index)
        for index in range(world.fs.call_count + 1)
        for survival in Survival
    ]


def first_fault(
    world: World, fs: SimFileSystem, cuts: Iterable[Cut], folder: Path
) -> tuple[Cut, list[str]] | None:
    """Return the first cut that shows a fault, and its faults."""
    for cut in cuts:
        found = faults_of_cut(world, fs, cut, folder)
        if found:
            return cut, found
    return None


def telling_cuts(fs: SimFileSystem, site: Site, sync_count: int = 24) -> Iterator[Cut]:
    """Yield cuts at which a missing sync would show: behind each of the site's syncs, until what
    it was to save is safe by another one. The syncs that another follows late come first."""
    kind = site[0]
    spans: list[tuple[int, int]] = []
    for call in fs.calls:
        if (call.kind, call.site) == site:
            later = fs.calls[call.index + 1 : call.index + SPAN_MAX]
            covered = (c.index for c in later if (c.kind, c.path) == (kind, call.path))
            spans.append((call.index, next(covered, min(call.index + SPAN_MAX, fs.call_count))))
    spans.sort(key=lambda span: span[0] - span[1])
    for start, end in spans[:sync_count]:
        steps = (1, 2, 3, 5, 8, 13, 21, 34, SPAN_MAX)
        for index in sorted({min(start + step, end) for step in steps}):
            yield index, Survival.NOTHING, index
        if kind == "sync_dir":
            # Which of two names is there matters just behind a rename or an unlink.
            for index in range(start + 1, end + 1):
                if fs.calls[index - 1].kind in ("rename", "unlink"):
                    yield from ((index, Survival.RANDOM, index * 100 + n) for n in range(12))


def needless_syncs(world: World, folder: Path, sites: Iterable[Site]) -> list[Site]:
    """Return those of the syncs without which nothing was found to be lost."""
    needless = []
    for kind, name in sites:
        fs = world.fs.without(kind, name)
        if first_fault(world, fs, telling_cuts(world.fs, (kind, name)), folder) is None:
            needless.append((kind, name))
    return needless


def main() -> int:
    """Run long histories; returns 1 if a cut has shown a fault."""
    parser = argparse.ArgumentParser(prog="power_cut")
    parser.add_argument("--all", action="store_true", help="cut at every call")
    parser.add_argument("--seeds", type=int, default=1, help="how many histories")
    parser.add_argument("--first", type=int, default=1, help="seed of the first")
    arguments = parser.parse_args()
    failed = False
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        folder = Path(tempfile.mkdtemp(prefix="ferrisdb-power-cut-"))
        try:
            with lived(folder, seed) as world:
                cuts = every(world) if arguments.all else sample(world, 200)
                found = first_fault(world, world.fs, cuts, folder)
                needless = needless_syncs(world, folder, world.fs.sync_sites())
        finally:
            shutil.rmtree(folder)
        sys.stdout.write(
            f"seed {seed}: {len(world.sent)} batches, {world.restarts} restarts, "
            f"{world.fs.call_count} calls, {len(cuts)} cuts: {found or 'nothing lost'}; "
            f"syncs not shown to be needed: {needless or 'none'}\n"
        )
        failed = failed or found is not None
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
