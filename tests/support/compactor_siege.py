"""Kill the compactor at random moments of its flushes and compactions, beside a heavy writer.

A thread writes as fast as it can, and keeps in a dictionary what was acknowledged. The compactor
is stopped (SIGSTOP) at random times; if it is in a flush or a compaction then, it gets SIGKILL,
otherwise it goes on: so the moments are spread evenly over its work, and each counted kill is one
within it. What must hold:

S1  What the dead compactor was writing goes without a restart, by the service that goes on.
S2  After some kills and a restart, by SIGTERM or SIGKILL, the database is what the dictionary
    says, and no file is there that nothing needs.
S3  `verify` is content: beside the writer, with the service gone, and after the restart.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

import ferrisdb
from ferrisdb import service
from ferrisdb.engine.report import Report
from ferrisdb.verification import verify_stopped
from tests.support import databases
from tests.support.leftovers import leftovers, table_numbers

SETTINGS: Final = {"memtable_bytes": 1 << 19, "table_bytes": 1 << 16, "level_base_bytes": 1 << 18}
#: Eight deaths in a minute are a crash loop to the coordinator: a new one begins to count anew.
KILLS_PER_SERVICE: Final = 5
WAIT_S: Final = 60.0
KEY_COUNT: Final = 4000
BATCH_ROWS: Final = 60
_MEMTABLE = re.compile(r"/dev/shm/fdb[0-9a-f]+\.m(\d+)$")


class Writer:
    """A thread that writes, overwrites and deletes; `rows` is what was acknowledged."""

    def __init__(self, db: ferrisdb.Database, seed: int) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.batch_count = 0
        self._db = db
        self._rng = random.Random(seed)
        self._go = threading.Event()
        self._at_rest = threading.Event()
        self._leave = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._go.set()
        self._thread.start()

    def pause(self) -> None:
        """Return once nothing is under way."""
        self._go.clear()
        assert self._at_rest.wait(WAIT_S), "the writer hangs"
        if self._error is not None:
            raise self._error

    def go_on(self) -> None:
        """Write again."""
        self._at_rest.clear()
        self._go.set()

    def close(self) -> None:
        """End the thread."""
        self._leave = True
        self._go.set()
        self._thread.join(WAIT_S)

    def _run(self) -> None:
        try:
            while not self._leave:
                if not self._go.is_set():
                    self._at_rest.set()
                    self._go.wait()
                    continue
                self._write()
        except BaseException as error:
            self._error = error
        self._at_rest.set()

    def _write(self) -> None:
        rng = self._rng
        after = dict(self.rows)
        with self._db.write_batch() as batch:
            for _ in range(BATCH_ROWS):
                key = b"key%05d" % rng.randrange(KEY_COUNT)
                if rng.random() < 0.2:
                    batch.delete(key)
                    after.pop(key, None)
                else:
                    after[key] = b"%d/" % self.batch_count * rng.randrange(1, 100)
                    batch.put(key, after[key])
            if rng.random() < 0.05:
                first = rng.randrange(KEY_COUNT)
                start, end = b"key%05d" % first, b"key%05d" % (first + 40)
                batch.delete_range(start, end)
                after = {key: value for key, value in after.items() if not start <= key < end}
        # Only now is it acknowledged. Whoever reads `rows` has paused us.
        self.rows = after
        self.batch_count += 1


class CompactorSiege:
    """One directory whose compactor is killed again and again."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._directory = folder / "db"
        folder.mkdir(parents=True, exist_ok=True)
        databases.configure(self._directory, **SETTINGS)
        self._rng = random.Random(seed)
        self._say = say
        self._db = ferrisdb.open(self._directory, durability="os", timeout=WAIT_S)
        self._writer = Writer(self._db, seed)
        self.moments: Counter[str] = Counter()

    @property
    def kill_count(self) -> int:
        """How many kills fell within a flush or a compaction."""
        return self.moments.total()

    def round(self, kill_count: int) -> None:
        """Kill so many times, at most KILLS_PER_SERVICE, then start anew and check everything.

        Raises: AssertionError, CorruptionError.
        """
        for _ in range(kill_count):
            number_of_batches = self._writer.batch_count
            self._kill_within_a_job()
            give_up = time.monotonic() + WAIT_S
            while self._writer.batch_count == number_of_batches:
                assert time.monotonic() < give_up, "the writer hangs behind a kill"
                time.sleep(0.002)
        self._expect_clean(self._db.verify())
        self._writer.pause()
        how = self._rng.choice((signal.SIGTERM, signal.SIGKILL))
        databases.stop_service(self._directory, how)
        self._expect_clean(verify_stopped(str(self._directory)))
        self._db.flush()
        self.check()
        self._say(
            f"{self.kill_count:4} kills ({dict(self.moments)}), {how.name}:"
            f" {len(self._writer.rows)} rows of {self._writer.batch_count} batches are there"
        )
        self._writer.go_on()

    def check(self) -> None:
        """Compare the database with what was acknowledged, and the files with the version."""
        rows = self._writer.rows
        assert dict(self._db.scan()) == rows
        assert list(self._db.scan(reverse=True)) == sorted(rows.items(), reverse=True)
        keys = [b"key%05d" % n for n in range(0, KEY_COUNT, 3)]
        assert self._db.multi_get(keys) == [rows.get(key) for key in keys]
        found = leftovers(self._db)
        assert not found, f"nothing needs {found}"
        self._expect_clean(self._db.verify())

    def _expect_clean(self, report: Report) -> None:
        assert report.is_clean, report.errors

    def close(self) -> None:
        """End writer and service."""
        self._writer.close()
        self._db.close()
        databases.stop_service(self._directory)

    def _kill_within_a_job(self) -> None:
        give_up = time.monotonic() + WAIT_S
        while True:
            assert time.monotonic() < give_up, "the compactor has nothing to do, or is not there"
            time.sleep(self._rng.random() * 0.03)
            process = self._compactor()
            if process is None:
                continue
            try:
                process.suspend()
                job = self._job(process)
                if job is None:
                    process.resume()
                    continue
                written = self._unnamed_tables()
                process.kill()
                psutil.wait_procs([process], timeout=WAIT_S)
            except psutil.NoSuchProcess:
                continue
            self.moments[job] += 1
            self._await_removal(written)
            return

    def _compactor(self) -> psutil.Process | None:
        found = service.find(str(self._directory))
        if found is None:
            return None
        with contextlib.suppress(psutil.Error):
            coordinator = psutil.Process(found.control.coordinator_pid)
            for child in coordinator.children():
                if "spawn_main" in " ".join(child.cmdline()):
                    return child
        return None

    def _job(self, process: psutil.Process) -> str | None:
        """Return what a stopped compactor is in the middle of, None if nothing of interest."""
        with self._db.snapshot() as snapshot:
            memtables = {memtable.number for memtable in snapshot.version.memtables}
        paths = {one.path.removesuffix(" (deleted)") for one in process.memory_maps()}
        numbers = {int(found[1]) for path in paths if (found := _MEMTABLE.match(path))}
        # A memtable that is only being prepared is in no version yet.
        flushes = bool(numbers & memtables)
        compacts = any(path.endswith(".sst") for path in paths)
        if flushes and compacts:
            return "flush within a compaction"
        return "flush" if flushes else "compaction" if compacts else None

    def _unnamed_tables(self) -> set[Path]:
        live = table_numbers(self._db)
        return {
            path
            for pattern in ("*.sst", "*.sst.tmp")
            for path in self._directory.glob(pattern)
            if path.suffix == ".tmp" or int(path.stem) not in live
        }

    def _await_removal(self, written: set[Path]) -> None:
        """Wait until each is gone, or named: the answer may have been on its way (S1)."""
        give_up = time.monotonic() + WAIT_S
        while True:
            live = table_numbers(self._db)
            left = {p for p in written if p.exists()}
            left -= {p for p in left if p.suffix == ".sst" and int(p.stem) in live}
            if not left:
                return
            assert time.monotonic() < give_up, f"a killed compactor's files stay: {sorted(left)}"
            time.sleep(0.005)


def besiege_compactor(
    folder: Path, kill_count: int, seed: int, say: Callable[[str], None]
) -> Counter[str]:
    """Kill a compactor so many times in its work; return how often in which.

    Raises: as `CompactorSiege.round`; the folder stays then.
    """
    siege = CompactorSiege(folder, seed, say)
    try:
        while siege.kill_count < kill_count:
            siege.round(min(kill_count - siege.kill_count, KILLS_PER_SERVICE))
    finally:
        siege.close()
    return siege.moments
