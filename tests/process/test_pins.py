"""What pins hold, and that nothing else stays: on disk, in shared memory, in the figures.

Method: real processes, one idle, one stopped by SIGSTOP, one with a snapshot; the database is
rewritten three times. Space is what the file systems have allocated (st_blocks) to the files of
the directory and to the segments of its nonce.

"One copy" is measured, not computed: what the same rows take after a full compaction when nobody
else is there, with the logs and the memtable that are kept ahead. A rewriting changes every value
and no length, so one copy stays one copy; the slack is a block of each file, one log more that
waits to be recycled, and one memtable that has just been made.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ferrisdb
from ferrisdb.errors import SnapshotTooOldError
from tests.support import processes
from tests.support.databases import configure, opened, wait_until, wait_until_prepared
from tests.support.leaks import SHM_DIR
from tests.support.processes import python
from tests.support.service import environment, run

ROW_COUNT = 4000
VALUE_BYTES = 400
MEMTABLE_BYTES = 1 << 18
SETTINGS = {"memtable_bytes": MEMTABLE_BYTES, "table_bytes": 1 << 18, "level_base_bytes": 1 << 20}
RETURN_S = 2.0
SLACK_BYTES = (MEMTABLE_BYTES * 5) // 4 + (64 << 10)


class Client:
    """A process with a handle, which does what it is told."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            python("tests.support.pinning", path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self.pid = self._process.pid

    def tell(self, order: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, f"the client ended at {order!r}"
        return answer

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def leave(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "db"
    configure(directory, **SETTINGS)
    return directory


@pytest.fixture
def clients(path: Path) -> Iterator[list[Client]]:
    """Two processes that have read everything once: see `attend`."""
    attended: list[Client] = []
    yield attended
    for client in attended:
        client.leave()


def rewrite(db: ferrisdb.Database, number: int) -> None:
    """Give every row another value of the same length, and merge."""
    value = b"%d" % number * VALUE_BYTES
    db.put_many((b"%08d" % row, value) for row in range(ROW_COUNT))
    db.compact()


def disk_bytes(path: Path) -> int:
    """Return what the directory's files take; one that goes meanwhile takes nothing."""
    total = 0
    for file in path.iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def space(path: Path) -> tuple[int, int]:
    """Return the bytes on disk and in shared memory, clients' own segments left out."""
    clients = 0
    for name in processes.segments(processes.nonce(path)):
        if ".c" in name:
            clients += (SHM_DIR / name).stat().st_blocks * 512
    return disk_bytes(path), processes.segment_bytes(processes.nonce(path)) - clients


def one_copy(db: ferrisdb.Database, path: Path) -> tuple[int, int]:
    """Return what one copy takes at most, in the sense of the module's docstring."""
    rewrite(db, 0)
    wait_until_prepared(path)
    wait_until(lambda: len(list(path.glob("*.sst"))) == db.stats()["table_count"])
    disk, memory = space(path)
    live = ROW_COUNT * (VALUE_BYTES + 8)
    assert live < disk < 1.3 * live + 3 * SLACK_BYTES, "the measure itself is no copy"
    return disk + SLACK_BYTES, memory + MEMTABLE_BYTES


def returns_to(copy: tuple[int, int], path: Path) -> tuple[int, int]:
    """Wait for RETURN_S at most until disk and shared memory are back at one copy."""
    give_up = time.monotonic() + RETURN_S
    while True:
        disk, memory = space(path)
        if disk <= copy[0] and memory <= copy[1]:
            return disk, memory
        assert time.monotonic() < give_up, f"{disk} and {memory} bytes, one copy is {copy}"
        time.sleep(0.02)


def row_of(db: ferrisdb.Database, pid: int) -> dict[str, Any]:
    (row,) = (row for row in db.stats()["clients"] if row["pid"] == pid)
    assert isinstance(row, dict)
    return row


def test_idle_and_stopped_processes_keep_nothing(path: Path, clients: list[Client]) -> None:
    with opened(path) as db:
        copy = one_copy(db, path)
        clients.append(Client(path))
        clients.append(Client(path))
        idle, stopped = clients
        for client in clients:
            assert client.tell("read") == f"{ROW_COUNT} 0"
        stopped.signal(signal.SIGSTOP)
        for number in (1, 2, 3):
            rewrite(db, number)
        returns_to(copy, path)
        for client in clients:
            assert row_of(db, client.pid)["pinned_bytes"] == 0
        stopped.signal(signal.SIGCONT)
        for client in (stopped, idle):
            assert client.tell("read") == f"{ROW_COUNT} 3"
        returns_to(copy, path)


def test_a_snapshot_pins_its_own_version_and_nothing_else(
    path: Path, clients: list[Client]
) -> None:
    with opened(path) as db:
        copy = one_copy(db, path)
        clients.append(Client(path))
        client = clients[0]
        client.tell("snapshot")
        # The one open in the middle, too: of what came and went between them nothing stays.
        rewrite(db, 1)
        with db.snapshot() as second:
            for number in (2, 3):
                rewrite(db, number)
            assert client.tell("read snapshot") == f"{ROW_COUNT} 0"
            assert {bytes(value[:1]) for _, value in second.scan()} == {b"1"}
        row = row_of(db, client.pid)
        live = ROW_COUNT * (VALUE_BYTES + 8)
        assert live <= row["pinned_table_bytes"] <= 1.3 * live
        assert row["pinned_memtable_bytes"] == row["pinned_memtables"] * MEMTABLE_BYTES
        (snapshot,) = row["snapshots"]
        assert snapshot["pinned_bytes"] == row["pinned_bytes"] == db.stats()["pinned_bytes"]
        assert (snapshot["seq"], snapshot["epoch"]) == (
            row["oldest_snapshot_seq"],
            row["oldest_epoch"],
        )
        assert 0 < snapshot["age_s"] <= row["oldest_pin_s"] + 1
        # One copy, and what stats says is pinned: nothing of the two versions between is left.
        tables = row["pinned_table_bytes"] + row["pinned_tables"] * 4096
        returns_to((copy[0] + tables, copy[1] + row["pinned_memtable_bytes"]), path)
        shown = run("stats", str(path)).stdout.decode()
        (line,) = (line for line in shown.splitlines() if f"pid {client.pid}," in line)
        assert f"pinned_bytes {row['pinned_bytes']}" in line and line.startswith("clients.")
        assert "snapshots.0" in shown
        assert client.tell("read snapshot") == f"{ROW_COUNT} 0"
        client.tell("close snapshot")
        returns_to(copy, path)
        assert row_of(db, client.pid)["pinned_bytes"] == 0


def test_slots_of_the_dead_are_free_within_a_second(path: Path, clients: list[Client]) -> None:
    with opened(path) as db:
        copy = one_copy(db, path)
        clients.append(Client(path))
        client = clients[0]
        client.tell("snapshot")
        rewrite(db, 1)
        assert row_of(db, client.pid)["pinned_bytes"] > ROW_COUNT * VALUE_BYTES
        client.signal(signal.SIGKILL)
        begun = time.monotonic()
        wait_until(lambda: all(row["pid"] != client.pid for row in db.stats()["clients"]))
        wait_until(lambda: disk_bytes(path) <= copy[0])
        # The machine may be busy with others: the coordinator needs a fifth of a second.
        assert time.monotonic() - begun < 2.0


def test_a_revoked_snapshot_pins_nothing(tmp_path: Path, clients: list[Client]) -> None:
    path = tmp_path / "db"
    configure(path, **SETTINGS, max_snapshot_age_s=1.0)
    with opened(path) as db:
        copy = one_copy(db, path)
        with db.snapshot() as snap:
            rewrite(db, 1)
            wait_until(lambda: disk_bytes(path) <= copy[0])
            with pytest.raises(SnapshotTooOldError):
                snap.get(b"00000001")
            (row,) = db.stats()["clients"]
            assert row["pinned_bytes"] == 0 and row["snapshots"] == []
