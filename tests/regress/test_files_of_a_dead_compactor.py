"""Seen: files that nothing named stayed until the next start, one for each death of a compactor.

Cause: a flush that was given to the next compactor got a new file number, and nobody removed the
file of the first; an old WAL file that was to be used again was forgotten with the request.
Remedy: the coordinator notes the number and the old file of what is under way, removes the one
and uses the other when the compactor has died or failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.world import World, tiny_limits
from tests.support.simfs import SimFileSystem

DEATHS = 3
TICKS = 20


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        ("rename", "ferrisdb.workers.compactor.GuardedFileSystem.rename"),
        ("datasync", "ferrisdb.engine.flush.flush_memtable"),
        ("sync_dir", "ferrisdb.engine.flush.flush_memtable"),
        ("datasync", "ferrisdb.engine.wal_files.recycle_wal"),
        ("sync_dir", "ferrisdb.engine.wal_files.recycle_wal"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_running_service_removes_what_a_dead_compactor_left(
    tmp_path: Path, kind: str, site: str, seed: int
) -> None:
    with tiny_limits():
        world = World(SimFileSystem(str(tmp_path)), seed)
        try:
            restarts = world.restarts
            for _ in range(DEATHS):
                assert world.live_until_death(kind, site)
                go_on(world)
            world.live_quietly(200)
            go_on(world)
            assert world.restarts == restarts, "it was to go without a restart"
            assert unneeded(world) == set()
        finally:
            world.close()


def go_on(world: World) -> None:
    """Give the next compactor the time to come, and to do what there is to do."""
    for _ in range(TICKS):
        world.pass_time()
        world.work()
    world.settle()


def unneeded(world: World) -> set[str]:
    """Return the files that no version names, less one WAL file prepared and one kept."""
    memtables = world.coordinator._memtables
    numbers = {*memtables.frozen_numbers, memtables.active_number}
    named = {f"{number:06}.wal" for number in numbers}
    named |= {f"{number:06}.sst" for number in memtables.table_numbers()}
    names = {n for n in world.fs.list_dir(world.path) if n.endswith((".sst", ".wal", ".tmp"))}
    found = names - named
    logs = sorted(name for name in found if name.endswith(".wal"))
    prepared = [name for name in logs if int(name[:6]) > max(numbers)]
    kept = [name for name in logs if name not in prepared]
    return found - set(prepared[-1:]) - set(kept[-1:])
