"""Random lives: commits, syncs, rotations, restarts and power cuts, one after the other.

Method: a seed makes one life. After each cut, what survived (a random part of the unsynced) is
opened and lived on with; every batch that was promised is there, in order, ever after. Where a
life fails, its seed is in the test's name.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ferrisdb.engine.recover import RecoveredLogs
from ferrisdb.seams import FileSystem
from tests.support.replay import ListTarget
from tests.support.simfs import SimFileSystem, Survival
from tests.support.small_database import held, rotate_wal, start, stop
from tests.support.wal_build import Appender, put

Batch = tuple[int, bytes]


class Life:
    """One database across its power cuts.

    `written`: every batch of the present state, in order; `promised`: (call index, how many of
    them were promised from then on).
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.cuts = 0
        self.written: list[Batch] = []
        self.promised: list[tuple[int, int]] = []
        (folder / "0").mkdir()
        self.fs = SimFileSystem(str(folder / "0"))
        self._start()

    @property
    def path(self) -> str:
        return f"{self.fs.root}/db"

    def _start(self) -> None:
        self.logs: RecoveredLogs[ListTarget] = start(
            self.fs,
            self.path,
            room_bytes=self.rng.choice((400, 2000)),
            seed=self.rng.getrandbits(30),
        )
        assert held(self.logs) == self.written
        self.log = Appender(self.logs.wal, self.logs.last_seq + 1)
        self.next_number = self.logs.next_file_number
        self._promise()

    def _promise(self) -> None:
        self.promised.append((self.fs.call_count, len(self.written)))

    def _commit(self) -> None:
        operations = [put(self.rng.randbytes(3), b"v" * self.rng.randint(0, 60))]
        operations *= self.rng.randint(1, 3)
        if self.log.offset + 400 > self.log.wal.capacity:
            self._rotate()
        self.log.batch(*operations, raw=self.rng.random() < 0.5)
        self.written.append(self.log.appended[-1][:2])

    def _sync(self) -> None:
        self.log.sync()
        self._promise()

    def _rotate(self) -> None:
        files: FileSystem = self.fs
        self.log = rotate_wal(files, self.path, self.logs, self.log, self.next_number)
        self.next_number += 1
        self._promise()

    def _stop(self) -> None:
        stop(self.logs)
        self.log.wal.file.close()

    def _restart(self) -> None:
        self._stop()
        self._start()

    def _cut(self) -> None:
        # At any earlier call: what was promised by then is what must be there.
        self._stop()
        index = self.rng.randint(0, self.fs.call_count)
        promised = max((count for at, count in self.promised if at <= index), default=0)
        self.cuts += 1
        target = self.folder / f"{self.cuts}"
        survival = self.rng.choice(list(Survival))
        self.fs.materialise(index, str(target), survival, self.rng)
        self.fs = SimFileSystem(str(target))
        found = start(self.fs, self.path, seed=self.rng.getrandbits(30))
        left = held(found)
        assert left == self.written[: len(left)]
        assert len(left) >= promised
        stop(found)
        self.written, self.promised = left, []
        self._start()

    def step(self) -> None:
        """Do one thing."""
        act = self.rng.choices(
            (self._commit, self._sync, self._rotate, self._restart, self._cut), (12, 5, 1, 1, 2)
        )[0]
        act()

    def end(self) -> None:
        """Stop, and look once more."""
        self._restart()
        self._stop()


@pytest.mark.parametrize("seed", range(30))
def test_what_was_promised_stays_through_many_cuts(tmp_path: Path, seed: int) -> None:
    life = Life(tmp_path, seed)
    for _ in range(60):
        life.step()
    life.end()
