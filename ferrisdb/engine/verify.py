"""Check every checksum and every invariant of a database, and go on behind what is wrong.

What is read, in this order: CURRENT and the MANIFEST (verify_manifest.py), every table of the
version (verify_tables.py), the WAL files (verify_logs.py), and what else lies in the directory.
Each finding says where; damage to one file does not keep the others from being read. Nothing is
ever changed.

K1  A table that the MANIFEST names exists, is whole, and is what the MANIFEST says of it.
K2  Tables of one level from 1 on do not overlap; those of level 0 have sequences apart.
K3  No table has a file number at or above the next one, or a sequence above the last one.
K4  The WAL files from the log number on follow each other without a gap, in one generation, and
    hold what comes behind the tables.
K5  Every file has its own number; CURRENT, MANIFEST and WAL files have the database's id.

While a service runs, files grow and go away meanwhile. Then the caller pins a version, so that
its tables stay; what was found in the MANIFEST or in a log counts only if a second look finds the
same; and what stands at a log's end is not judged, for it may be half written.

Owner: any process. Memory: a log at a time, tables are mapped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeVar

from ferrisdb.engine.open import is_database
from ferrisdb.engine.report import Findings, Report
from ferrisdb.engine.verify_logs import Log, check_chain, read_log
from ferrisdb.engine.verify_manifest import Manifest, check_manifest
from ferrisdb.engine.verify_tables import check_table_file
from ferrisdb.errors import CorruptionError, NotADatabaseError, StorageError
from ferrisdb.format.filenames import DIR, FileKind, FileName, parse_name
from ferrisdb.seams import FileSystem

LOOKS_MAX = 50
Found = TypeVar("Found")


class VersionMovedError(Exception):
    """The MANIFEST names other tables than the version that the caller has pinned: pin anew."""


def verify_files(fs: FileSystem, path: str) -> Report:
    """Check a database that no service runs for; the caller keeps one from starting.

    Raises: NotADatabaseError, FormatTooNewError; StorageError where the directory can't be read.
    """
    findings = Findings()
    try:
        if not fs.exists(path) or not is_database(fs, path):
            raise NotADatabaseError(f"there is no FerrisDB database in {path}")
    except CorruptionError as error:
        # No CURRENT beside files that need one.
        findings.corruption(error)
    check = _Check(fs, path, findings)
    check.run()
    check.strays()
    return findings.report(path)


def verify_live(
    fs: FileSystem, path: str, pinned: frozenset[int], wait: Callable[[], None]
) -> Report:
    """Check a database whose service runs.

    Shape:  pinned, file numbers of the tables of a version that the caller keeps; wait, called
            between two looks at what may be about to change.
    Raises: VersionMovedError; FormatTooNewError; StorageError.
    """
    findings = Findings()
    _Check(fs, path, findings, pinned, wait).run()
    return findings.report(path)


class _Check:
    """One pass over a directory."""

    def __init__(
        self,
        fs: FileSystem,
        path: str,
        findings: Findings,
        pinned: frozenset[int] | None = None,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._fs = fs
        self._dir = DIR(path)
        self._findings = findings
        self._pinned = pinned
        self._wait = wait
        self._manifest = Manifest()

    def run(self) -> None:
        """Read everything that the database consists of."""
        self._manifest = self._settled(partial(check_manifest, self._fs, self._dir))
        self._tables()
        self._logs()

    def _settled(self, look: Callable[[Findings], Found]) -> Found:
        """Return what a look says; while a service runs, once two looks agree or find nothing."""
        before: Findings | None = None
        for _ in range(LOOKS_MAX):
            found = Findings()
            result = look(found)
            if self._pinned is None or not found.findings or found == before:
                break
            before = found
            self._wait()
        self._findings.add(found)
        return result

    def _names(self) -> dict[str, FileName | None]:
        return {name: parse_name(name) for name in self._fs.list_dir(self._dir.path)}

    # Tables

    def _tables(self) -> None:
        manifest = self._manifest
        if manifest.version is None:
            # Which tables count is not known: each by itself.
            for name in self._names().values():
                if name is not None and name.kind is FileKind.TABLE:
                    self._table(name.number)
            return
        if self._pinned is not None and self._pinned != manifest.version.numbers():
            raise VersionMovedError
        for meta in manifest.version.tables():
            self._table(meta.number)
            for limit, number, what in (
                (manifest.next_file_number - 1, meta.number, "file number"),
                (manifest.last_seq, meta.max_seq, "sequence"),
            ):
                if number > limit:
                    self._findings.error(
                        manifest.path, 0, f"a {what} of table {meta.number} up to {limit}", number
                    )
        for newer, older in pairwise(manifest.version.levels[0]):
            if older.max_seq >= newer.min_seq:
                self._findings.error(
                    manifest.path,
                    0,
                    f"sequences of table {older.number} below those of {newer.number}",
                    f"up to {older.max_seq}, from {newer.min_seq} on",
                )

    def _table(self, number: int) -> None:
        check_table_file(
            self._fs,
            self._dir.file(FileKind.TABLE, number),
            number,
            self._manifest.metas.get(number),
            self._findings,
        )

    # Logs

    def _logs(self) -> None:
        # Newest first: what an opening record says of its predecessor is then known to be there.
        numbers = sorted(
            (
                name.number
                for name in self._names().values()
                if name is not None
                and name.kind is FileKind.WAL
                and name.number >= self._manifest.log_number
            ),
            reverse=True,
        )
        logs: list[Log] = []
        is_frozen = False
        for number in numbers:
            log = self._settled(partial(self._log, number, is_frozen))
            if log is not None:
                logs.insert(0, log)
                is_frozen = is_frozen or log.opening is not None
        self._settled(partial(self._chain, logs))

    def _log(self, number: int, is_frozen: bool, findings: Findings) -> Log | None:
        path = self._dir.file(FileKind.WAL, number)
        log: Log | None = None
        try:
            log = read_log(
                self._fs,
                path,
                number,
                self._manifest,
                findings,
                judge_end=is_frozen or self._pinned is None,
                is_frozen=is_frozen,
            )
        except StorageError as error:
            findings.unreadable(path, error)
        if findings.findings and self._is_done_with(number):
            findings.findings.clear()
            return None
        return log

    def _chain(self, logs: list[Log], findings: Findings) -> None:
        check_chain(self._dir, logs, self._manifest, findings)
        if findings.findings and self._is_done_with(self._manifest.log_number):
            findings.findings.clear()

    def _is_done_with(self, number: int) -> bool:
        """Tell whether the service has flushed this log since its MANIFEST was read."""
        if self._pinned is None:
            return False
        for _ in range(LOOKS_MAX):
            found = Findings()
            manifest = check_manifest(self._fs, self._dir, found)
            if not found.findings:
                return number < manifest.log_number
            self._wait()
        return False

    # The rest of the directory

    def strays(self) -> None:
        """Note what the next start removes, moves aside or wonders at."""
        manifest = self._manifest
        if manifest.version is None:
            return
        tables = manifest.version.numbers()
        for text, name in self._names().items():
            path = self._dir.named(text)
            if name is None:
                self._findings.note(path, 0, "files of a database", "another one")
            elif name.kind is FileKind.TEMPORARY:
                self._findings.note(path, 0, "no file half written", "one")
            elif name.kind is FileKind.LOST:
                count = len(self._fs.list_dir(path))
                self._findings.note(path, 0, "nothing moved aside", f"{count} files")
            elif (
                (name.kind is FileKind.TABLE and name.number not in tables)
                or (name.kind is FileKind.MANIFEST and name.number != manifest.number)
                or (name.kind is FileKind.WAL and name.number < manifest.log_number)
            ):
                self._findings.note(path, 0, "a file that something refers to", "an orphan")
