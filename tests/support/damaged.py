"""A database to damage: built once by a real service, copied for each test, read without one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ferrisdb
from ferrisdb.engine.open import open_state, replay_edits
from ferrisdb.engine.recover import recover_logs
from ferrisdb.engine.repair import repair_directory
from ferrisdb.engine.repair_report import RepairReport
from ferrisdb.engine.survey import open_table
from ferrisdb.format.filenames import DIR, FileKind
from ferrisdb.format.manifest import read_manifest
from ferrisdb.kernel.memtable import MemtableWriter
from ferrisdb.kernel.merge import Scan
from ferrisdb.kernel.source import Source
from ferrisdb.kernel.table import Table
from ferrisdb.seams import FileSystem, RealFileSystem
from tests.support.databases import configure, opened, wait_until
from tests.support.fakes import ManualClock, SeededRng
from tests.support.tables import DELETE, LATEST

TINY = {
    "memtable_bytes": 1 << 18,
    "table_bytes": 1 << 15,
    "level_base_bytes": 1 << 17,
    "wal_sync_interval_s": 0.05,
}
NOW_US = 1_700_000_000_000_000
Rows = dict[bytes, bytes]


class Sample:
    """A stopped database, what it holds, and everything each key ever held.

    `kept_tables`: every table that was seen while it was built, if that was asked for.
    """

    # No dataclass: Hypothesis would print all of it.
    def __init__(
        self,
        path: Path,
        rows: Rows,
        ever: dict[bytes, set[bytes]],
        kept_tables: dict[str, bytes],
    ) -> None:
        self.path, self.rows, self.ever, self.kept_tables = path, rows, ever, kept_tables

    def copy(self, path: Path) -> Path:
        """Copy the files into a new directory."""
        shutil.copytree(self.path, path)
        return path


def make_sample(path: Path, *, batches: int = 330, seed: int = 5, keep: bool = False) -> Sample:
    """Write, overwrite and delete until there are several levels, and stop the service."""
    rng = random.Random(seed)
    rows: Rows = {}
    ever: dict[bytes, set[bytes]] = {}
    kept: dict[str, bytes] = {}
    configure(path, **TINY)
    with opened(path) as db:
        for number in range(batches):
            with db.write_batch() as batch:
                for _ in range(100):
                    key = b"key%05d" % rng.randrange(2500)
                    if rng.random() < 0.3:
                        batch.delete(key)
                        rows.pop(key, None)
                    else:
                        value = b"%d/%d" % (number, rng.getrandbits(200))
                        batch.put(key, value)
                        rows[key] = value
                        ever.setdefault(key, set()).add(value)
            if number % 20 == 10:
                first = b"key%05d" % rng.randrange(2400)
                last = b"key%05d" % (int(first[3:]) + 40)
                db.delete_range(first, last)
                rows = {k: v for k, v in rows.items() if not first <= k < last}
            if keep and number % 5 == 0:
                if number % 10 == 0:
                    db.compact()
                for file in path.glob("*.sst"):
                    # It may go at any moment.
                    with suppress(FileNotFoundError):
                        kept[file.name] = file.read_bytes()
            if number == batches // 3:
                db.compact()
        db.flush()
        # At rest, no input of a compaction is left that could stand for its output.
        wait_until(lambda: len(list(path.glob("*.sst"))) == db.stats()["table_count"])
    return Sample(path, rows, ever, kept)


def largest_live_table(path: Path, *, lowest_level: int = 0) -> Path:
    """Return the largest table that the MANIFEST names: the removal of others may be under way."""
    directory = DIR(str(path))
    state = replay_edits(directory, read_manifest(RealFileSystem(), directory))
    tables = [table for level in state.version.levels[lowest_level:] for table in level]
    largest = max(tables, key=lambda table: (table.file_bytes, table.number))
    return path / f"{largest.number:06d}.sst"


def repair(path: Path, *, dry: bool = False, fs: FileSystem | None = None) -> RepairReport:
    """Repair a directory with tables as small as the sample's."""
    return repair_directory(
        fs or RealFileSystem(),
        str(path),
        clock=ManualClock(),
        rng=SeededRng(3),
        is_dry_run=dry,
        table_bytes=1 << 15,
    )


@dataclass(slots=True)
class Opened:
    """A database's sources in the order in which a lookup asks them, newest first."""

    memtables: list[MemtableWriter]
    tables: list[Table]

    def get(self, key: bytes) -> bytes | None:
        """Look a key up as a reader does: the first answer stands."""
        covered = 0
        sources: list[MemtableWriter | Table] = [*self.memtables, *self.tables]
        for source in sources:
            ranges = source.range_tombstones()
            found = source.get(b"\0" + key, LATEST)
            pairs = ranges if isinstance(ranges, list) else ranges.ranges()
            for start, end, seq in pairs:
                if start <= b"\0" + key and (not end or b"\0" + key < end):
                    covered = max(covered, seq)
            if found is not None:
                return None if found[1] == DELETE or covered > found[0] else found[3]
            if covered:
                return None
        return None

    def rows(self) -> Rows:
        """Return what a scan of everything shows."""
        from ferrisdb.kernel.tombstones import RangeTombstones

        sources: list[Source] = [m.source(LATEST) for m in self.memtables]
        sources += [table.source(LATEST) for table in self.tables]
        tombstones = [RangeTombstones(m.range_tombstones()) for m in self.memtables]
        tombstones += [table.range_tombstones() for table in self.tables]
        scan = Scan(
            sources,
            tombstones,
            prefix_bytes=1,
            start=b"\0",
            end=b"\1",
            reverse=False,
            limit=None,
            keys_only=False,
            snapshot_seq=LATEST,
            now_us=NOW_US,
        )
        found: Rows = {}
        while batch := scan.fetch(4096):
            found.update(batch)  # type: ignore[arg-type]  # pairs, as keys_only is not set
        return found


class _Target(MemtableWriter):
    """A memtable in private memory, its order complete after each record."""


@contextmanager
def reading(path: Path, fs: FileSystem | None = None) -> Iterator[Opened]:
    """Start a database without processes and read it."""
    fs = fs or RealFileSystem()
    state = open_state(fs, str(path))
    logs = recover_logs(
        fs,
        state,
        make_memtable=lambda number: _Target(bytearray(1 << 22), number, 1),
        wal_bytes=1 << 14,
        clock=ManualClock(),
        rng=SeededRng(1),
    )
    with ExitStack() as stack:
        stack.callback(logs.wal.file.close)
        stack.callback(logs.manifest.close)
        tables: list[Table] = []
        for meta in state.version.tables():
            table = open_table(fs, DIR(str(path)).file(FileKind.TABLE, meta.number), meta.number)
            stack.callback(table.close)
            tables.append(table)
        yield Opened([target for _, target in reversed(logs.memtables)], tables)


def check_rows(path: Path, rows: Rows, *, fs: FileSystem | None = None) -> None:
    """See that scan and lookups show exactly these rows."""
    with reading(path, fs) as db:
        assert db.rows() == rows
        for n in range(0, 2500, 3):
            key = b"key%05d" % n
            assert db.get(key) == rows.get(key), key


def served_rows(path: Path) -> Rows:
    """Return what a real service shows."""
    with opened(path) as db:
        return dict(ferrisdb.Database.scan(db))
