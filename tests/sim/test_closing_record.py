"""A quiet log proves its own end, at the cost of one write, and a busy one pays nothing.

Method: the whole service in one process (tests/sim/world.py). Writes to the WAL are counted while
time passes; then each byte of the last group is damaged in the files as they lie there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ferrisdb.errors import CorruptionError
from ferrisdb.format import wal
from ferrisdb.kernel.commit import Reason
from ferrisdb.kernel.walscan import WalScan
from tests.sim.world import World, tiny_limits
from tests.sim.writer import SYNC
from tests.support.simfs import SimFileSystem


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with tiny_limits():
        world = World(SimFileSystem(str(tmp_path)), 7)
        try:
            world.settle()
            yield world
        finally:
            world.close()


def submit(world: World) -> None:
    world.sent.append(world.writers[1].submit(SYNC, world.fs.call_count))
    world.settle()


def closings(world: World) -> int:
    return sum(c.site.endswith("Memtables.close_log") for c in world.fs.calls)


def wal_calls(world: World) -> int:
    return sum(c.path.endswith(".wal") for c in world.fs.calls)


def scan(path: Path, content: bytes) -> WalScan:
    return wal.scan_file(content, wal.decode_file_header(content, str(path)), str(path))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_a_quiet_log_is_closed_once_and_never_touched_again(world: World) -> None:
    submit(world)
    before = closings(world)
    world.pass_second()
    assert closings(world) == before + 1
    touched = wal_calls(world)
    for _ in range(5):
        world.pass_second()
    assert wal_calls(world) == touched
    submit(world)
    world.pass_second()
    assert closings(world) == before + 2


def test_a_log_that_is_written_at_every_tick_is_not_closed(world: World) -> None:
    before = closings(world)
    writer = world.writers[1]
    for _ in range(20):
        world.sent.append(writer.submit(SYNC, world.fs.call_count))
        world.pass_time()
        while world._step() is not Reason.IDLE:
            pass
        writer.poll()
    assert closings(world) == before


def test_what_recovery_has_sealed_needs_no_closing(world: World) -> None:
    submit(world)
    world.kill_coordinator()
    before = closings(world)
    for _ in range(3):
        world.pass_second()
    assert closings(world) == before


@pytest.mark.parametrize("by", ["rest", "stop"])
def test_damage_to_the_last_synced_group_is_no_torn_tail(world: World, by: str) -> None:
    submit(world)
    if by == "rest":
        world.pass_second()
    else:
        coordinator, world._coordinator = world.coordinator, None
        coordinator.request_exit()
        coordinator.stop()
    paths = Path(world.path).glob("*.wal")
    path = max(paths, key=lambda path: scan(path, path.read_bytes()).record_count)
    content = path.read_bytes()
    found = scan(path, content)
    *_, last, closing = wal.records(content, found)
    assert last.operations and not closing.operations
    assert closing.synced_to == closing.offset == last.offset + last.total_bytes
    for at in range(last.offset, closing.offset, 13):
        with pytest.raises(CorruptionError):
            scan(path, flipped(content, at))
    for at in range(closing.offset, closing.offset + closing.total_bytes):
        assert scan(path, flipped(content, at)).valid_end == closing.offset
