"""Make a damaged directory a database again, from what is readable, and say what was lost.

Where CURRENT's MANIFEST is whole its version stands: damaged tables are replaced, in their level,
by what can be salvaged; WAL files that a start would refuse are replayed into tables. Without a
MANIFEST the tables themselves tell which of them count (repair_choice.py).

R1  Everything new is written, synced and named before one MANIFEST and CURRENT make it the
    database; until then the directory is what it was, beside tables that say that a repair wrote
    them. So a repair that dies is simply run again.
R2  Nothing that was there is removed before it has a second name in `quarantine`, synced.
R3  File numbers go on above every number seen, sequences too; the generation goes up.
R4  A directory that a start would take is left alone.

Owner: under LOCK.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ferrisdb import limits
from ferrisdb.engine.compact import CompactSettings, compact_tables, file_count_max
from ferrisdb.engine.open import DatabaseState
from ferrisdb.engine.pick import Compaction
from ferrisdb.engine.recover import check_logs
from ferrisdb.engine.repair_choice import Unit, choose, place
from ferrisdb.engine.repair_logs import LogReplay
from ferrisdb.engine.repair_report import FileReport, RepairReport
from ferrisdb.engine.salvage import Salvage, WriteSettings, salvage_table
from ferrisdb.engine.survey import (
    ManifestFinding,
    Survey,
    TableFinding,
    as_found,
    open_table,
    survey_directory,
)
from ferrisdb.engine.version import Version
from ferrisdb.engine.wal_files import WalOwner, prepare_wal
from ferrisdb.errors import Error, NotADatabaseError, StorageError
from ferrisdb.format.edit import Outcome, TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR, FileKind, format_name
from ferrisdb.format.header import DATABASE_ID_BYTES
from ferrisdb.format.manifest import ManifestWriter
from ferrisdb.kernel.properties import TableOrigin
from ferrisdb.seams import Clock, FileSystem, Rng

_NEW_WAL_BYTES: Final = 4096
_QUARANTINE_COPY_BYTES: Final = 1 << 20


def repair_directory(
    fs: FileSystem,
    path: str,
    *,
    clock: Clock,
    rng: Rng,
    is_dry_run: bool = False,
    table_bytes: int = 64 << 20,
    block_bytes: int = 4096,
) -> RepairReport:
    """Repair a directory, or with is_dry_run say what would be done.

    Raises:  NotADatabaseError; FormatTooNewError, nothing done; StorageError, DiskFullError among
             them: run it again.
    Durable: yes.
    Cost:    reads every file, and writes those anew that were damaged or have to be merged.
    """
    survey = survey_directory(fs, path)
    if not (survey.tables or survey.wals or survey.manifests):
        raise NotADatabaseError(f"{path} holds no table, WAL file or MANIFEST of FerrisDB")
    if survey.database_id is None:
        survey.database_id = rng.bytes(DATABASE_ID_BYTES)
    to = WriteSettings(fs, DIR(path), survey.database_id, clock.wall_us(), block_bytes, is_dry_run)
    return _Repair(survey, to, clock, rng, table_bytes).run()


class _Repair:
    """One repair, step by step."""

    def __init__(
        self, survey: Survey, to: WriteSettings, clock: Clock, rng: Rng, table_bytes: int
    ) -> None:
        self._survey, self._to = survey, to
        self._fs, self._dir = to.fs, to.directory
        self._clock, self._rng, self._table_bytes = clock, rng, table_bytes
        self._report = RepairReport(self._dir.path, to.is_dry_run)
        self._files: dict[str, FileReport] = {}
        #: Tables of the new version.
        self._tables: list[TableMeta] = []
        self._outcomes: tuple[Outcome, ...] = ()
        self._last_seq = 0
        self._log_number = 0
        self._generation = 1 + max(
            (w.header.generation for w in survey.wals.values() if w.header), default=0
        )
        numbers = [survey.number_max, survey.current_number]
        for manifest in survey.manifests.values():
            numbers += [(edit.next_file_number or 1) - 1 for edit in manifest.edits]
            generations = [edit.generation or 0 for edit in manifest.edits]
            self._generation = max(self._generation, 1 + max(generations, default=0))
        for table in survey.tables.values():
            if table.properties is not None:
                numbers += table.properties.origin.inputs
                # A number past this was never given out; it is damage that no checksum told.
        self._next_number = 1 + max(n for n in numbers if n < 1 << 62)

    def run(self) -> RepairReport:
        """Decide, write, switch, put aside."""
        report = self._report
        state = self._trusted()
        if state is not None:
            report.basis = state.manifest.path.rpartition("/")[2]
            if self._is_sound(state):
                report.table_count = len(state.version.tables())
                return report
        report.is_needed = True
        if state is not None:
            self._from_manifest(state)
        else:
            report.basis = "the tables and logs themselves"
            self._from_files()
        self._finish()
        return report

    def _note(self, name: str, fate: str, *particulars: str) -> None:
        one = self._files.setdefault(name, FileReport(name, fate))
        one.fate = fate
        one.particulars += particulars

    def _numbers(self) -> Iterator[int]:
        while True:
            self._next_number += 1
            yield self._next_number - 1

    # With a MANIFEST

    def _trusted(self) -> DatabaseState | None:
        """Return what the live MANIFEST says, if that is certainly the database's last state."""
        survey = self._survey
        number = survey.current_number or max(survey.manifests, default=0)
        manifest = survey.manifests.get(number)
        for other in survey.manifests.values():
            if other.error is not None:
                self._note(other.name, "damaged", str(other.error))
        if survey.current_error is not None:
            self._note("CURRENT", "damaged", str(survey.current_error))
        if manifest is None or manifest.state is None:
            return None
        state = replace(manifest.state, wal_numbers=self._needed_logs(manifest.state))
        doubtful = survey.current_number == 0 or bool(state.manifest.anomaly)
        if doubtful and not self._has_all_files(manifest, state):
            return None
        if any(self._has_commits_of_its_own(number) for number in self._copies(state)):
            self._note(manifest.name, "out of date", "a WAL file has commits of a later generation")
            return None
        return state

    def _needed_logs(self, state: DatabaseState) -> tuple[int, ...]:
        return tuple(
            number
            for number, one in sorted(self._survey.wals.items())
            if number >= state.log_number
            and (one.header is None or one.header.generation <= state.generation)
        )

    def _copies(self, state: DatabaseState) -> list[int]:
        return [
            number
            for number, one in self._survey.wals.items()
            if one.header is not None and one.header.generation > state.generation
        ]

    def _has_commits_of_its_own(self, number: int) -> bool:
        # As engine/open.py tells copies that a recovery left from a log that took commits.
        return LogReplay.has_commits_of_its_own(self._fs, self._survey.wals[number])

    def _has_all_files(self, manifest: ManifestFinding, state: DatabaseState) -> bool:
        missing = [t.number for t in state.version.tables() if t.number not in self._survey.tables]
        if state.log_number and state.log_number not in self._survey.wals:
            missing.append(state.log_number)
        if missing:
            self._note(manifest.name, "out of date", f"it needs files that are gone: {missing}")
        return not missing

    def _is_sound(self, state: DatabaseState) -> bool:
        """Tell whether a start would take the directory, and every read succeed (R4)."""
        if self._survey.current_error is not None:
            return False
        for table in state.version.tables():
            finding = self._survey.tables.get(table.number)
            if finding is None or finding.error is not None or not as_found(table, finding):
                return False
        return not self._log_fault(state)

    def _log_fault(self, state: DatabaseState) -> str:
        """Return why a start would refuse the WAL files; empty if it takes them."""
        if state.log_number and state.log_number not in state.wal_numbers:
            return f"{format_name(FileKind.WAL, state.log_number)} is gone"
        try:
            check_logs(self._fs, state)
        except Error as error:
            return str(error)
        return ""

    def _from_manifest(self, state: DatabaseState) -> None:
        for table in state.version.tables():
            name = format_name(FileKind.TABLE, table.number)
            finding = self._survey.tables.get(table.number)
            if finding is None:
                self._note(name, "missing", f"level {table.level}, {table.entry_count} entries")
                self._lose_table(name, table)
            elif finding.error is None and as_found(table, finding):
                self._tables.append(table)
                self._note(name, "kept")
            else:
                self._salvage(finding, table)
        self._last_seq = state.last_seq
        self._outcomes = state.outcomes
        fault = self._log_fault(state)
        if fault:
            self._tables += self._replay_logs(list(state.wal_numbers), fault)
        else:
            self._log_number, self._generation = state.log_number, state.generation
            for number in state.wal_numbers:
                self._note(format_name(FileKind.WAL, number), "kept")

    def _lose_table(self, name: str, table: TableMeta) -> None:
        upto = "the end" if table.unbounded else repr(table.largest)
        self._report.lost.append(
            f"{name}: {table.entry_count} entries of level {table.level} between "
            f"{table.smallest!r} and {upto}, sequences {table.min_seq} to {table.max_seq}: gone, "
            "and older values or deleted keys there may show"
        )

    # Damaged tables

    def _salvage(self, finding: TableFinding, meant: TableMeta | None) -> TableMeta | None:
        """Replace a damaged table by what can be read of it; returns that, None if nothing can."""
        number = next(self._numbers())
        found = salvage_table(self._to, finding, number)
        known = meant or finding.meta
        self._note(finding.name, "damaged", str(finding.error or "not the table that is meant"))
        self._report_salvage(finding.name, known, found)
        if found.meta is None:
            if known is not None:
                self._lose_table(finding.name, known)
            else:
                self._report.lost.append(f"{finding.name}: everything; nothing in it checks out")
            return None
        meta = found.meta
        if meant is not None:
            meta = replace(meta, level=meant.level)
            self._tables.append(meta)
        new_name = format_name(FileKind.TABLE, number)
        self._note(new_name, "new", f"{found.entry_count} entries salvaged from {finding.name}")
        return meta

    def _report_salvage(self, name: str, known: TableMeta | None, found: Salvage) -> None:
        if found.meta is None:
            return
        for part in found.lost:
            above = "the first key" if part.above is None else f"behind {part.above!r}"
            upto = "the last key" if part.upto is None else f"{part.upto!r}"
            self._report.lost.append(
                f"{name}: bytes {part.begin} to {part.end}: keys from {above} up to {upto}; older "
                "values or deleted keys there may show"
            )
        if found.range_count is None and (known is None or known.range_delete_count):
            self._report.lost.append(f"{name}: its range deletes; what they deleted may show")
        if known is not None and known.entry_count > found.entry_count:
            count = known.entry_count - found.entry_count
            self._report.lost.append(f"{name}: {count} of {known.entry_count} entries in all")

    # Without a MANIFEST

    def _from_files(self) -> None:
        choice = choose(self._survey)
        for name, reason in choice.passed_over.items():
            self._note(name, "not needed", reason)
        metas: list[TableMeta] = []
        #: Of each table its file's number when it was written: ties are decided by it.
        age: dict[int, int] = {}
        salvaged: dict[int, TableMeta] = {}
        for finding in choice.tables:
            if finding.error is None and finding.meta is not None:
                metas.append(finding.meta)
                age[finding.number] = finding.number
                self._note(finding.name, "kept")
                continue
            meta = self._salvage(finding, None)
            if meta is not None:
                salvaged[meta.number] = meta
                if finding.meta is not None:
                    # Sequences that the table left out are known by its properties alone.
                    bounds = finding.meta
                    meta = replace(meta, min_seq=bounds.min_seq, max_seq=bounds.max_seq)
                metas.append(meta)
                age[meta.number] = finding.number
        self._last_seq = max(
            (t.properties.gc_floor for t in self._survey.tables.values() if t.properties),
            default=0,
        )
        for edit in (e for m in self._survey.manifests.values() for e in m.edits):
            self._last_seq = max(self._last_seq, edit.last_seq or 0)
            if edit.outcomes is not None:
                self._outcomes = edit.outcomes
        self._last_seq = max([self._last_seq, *(meta.max_seq for meta in metas)])
        for table in self._replay_logs(choice.wal_numbers, ""):
            metas.append(table)
            age[table.number] = table.number
        for unit in place(metas):
            for table in self._settle(unit, age):
                true = salvaged.get(table.number, table)
                self._tables.append(replace(true, level=table.level))

    def _settle(self, unit: Unit, age: dict[int, int]) -> list[TableMeta]:
        """Return a unit's tables in its level, merged if there are several."""
        if len(unit.tables) == 1:
            table = unit.tables[0]
            name = format_name(FileKind.TABLE, table.number)
            self._note(name, self._files[name].fate, f"level {unit.level}")
            return [replace(table, level=unit.level)]
        inputs = sorted(unit.tables, key=lambda table: -age[table.number])
        names = [format_name(FileKind.TABLE, table.number) for table in inputs]
        if self._to.is_dry_run:
            for name in names:
                self._note(name, "to be merged", "its sequences interleave with other tables'")
            return [replace(table, level=0) for table in inputs]
        compaction = Compaction(
            tuple(replace(table, level=0) for table in inputs), unit.level, bottom=False
        )
        count = file_count_max(compaction, self._table_bytes)
        supply = self._numbers()
        settings = CompactSettings(
            database_id=self._to.database_id,
            created_us=self._to.created_us,
            # Nobody reads: of each key the newest version is enough.
            gc_floor=max(self._last_seq, unit.max_seq),
            expired_us=0,
            block_bytes=self._to.block_bytes,
            table_bytes=self._table_bytes,
            origin=TableOrigin(is_repair=True),
        )
        merged = compact_tables(
            compaction,
            self._fs,
            self._dir,
            settings,
            file_numbers=[next(supply) for _ in range(count)],
            open_table=lambda path, number: open_table(self._fs, path, number),
        )
        for name in names:
            self._note(name, "merged", "its sequences interleave with other tables'")
        for meta in merged:
            new_name = format_name(FileKind.TABLE, meta.number)
            self._note(new_name, "new", f"level {unit.level}, merged from {', '.join(names)}")
        return list(merged)

    # WAL files

    def _replay_logs(self, numbers: list[int], fault: str) -> list[TableMeta]:
        """Replay WAL files into tables, and return these."""
        replay = LogReplay(self._to, self._survey, self._numbers())
        replay.run(numbers)
        if fault:
            self._report.lost.append(f"a start refused the WAL files: {fault}")
        for name, fate, particulars in replay.notes:
            self._note(name, fate, *particulars)
        self._report.lost += replay.lost
        self._last_seq = max(self._last_seq, replay.last_seq)
        self._outcomes += replay.outcomes()
        return replay.tables

    # The switch

    def _finish(self) -> None:
        report, survey = self._report, self._survey
        version = (
            Version().apply(VersionEdit(added=tuple(self._tables)))
            if (not self._to.is_dry_run)
            else None
        )
        report.table_count = len(self._tables)
        report.entry_count = sum(table.entry_count for table in self._tables)
        used = {format_name(FileKind.TABLE, table.number) for table in self._tables}
        keeps_logs = self._log_number != 0
        aside = [t.name for t in survey.tables.values() if t.name not in used]
        aside += [
            w.name
            for n, w in survey.wals.items()
            if not (keeps_logs and self._files.get(w.name, FileReport("", "")).fate == "kept")
        ]
        aside += [m.name for m in survey.manifests.values()]
        aside = sorted(aside)
        for name in aside:
            if name not in self._files:
                self._note(name, "not needed")
        report.files = [self._files[name] for name in sorted(self._files)]
        self._last_seq = max([self._last_seq, *(t.max_seq for t in self._tables)])
        report.last_seq = self._last_seq = min(self._last_seq, limits.SEQNO_MAX)
        report.quarantined = aside
        if version is None:
            return
        if self._fs.exists(self._dir.fixed(FileKind.CURRENT)) and survey.current_error:
            aside = [*aside, "CURRENT"]
        self._put_aside(aside)
        self._write_manifest(version, keeps_logs)
        for name in aside:
            if name != "CURRENT":
                self._fs.unlink(self._dir.named(name))
        self._fs.sync_dir(self._dir.path)

    def _put_aside(self, names: list[str]) -> None:
        """Give each file a second name in `quarantine` (R2)."""
        fs = self._fs
        folder = self._dir.fixed(FileKind.QUARANTINE)
        if not fs.exists(folder):
            fs.mkdir(folder)
        for name in names:
            source = self._dir.named(name)
            for turn in range(1000):
                target = f"{folder}/{name}~{turn}" if turn else f"{folder}/{name}"
                if not fs.exists(target):
                    fs.link(source, target)
                    break
                if self._is_same(source, target):
                    break  # an earlier attempt has linked it
            else:
                raise StorageError(errno.EEXIST, "clear the quarantine", folder)
        fs.sync_dir(folder)
        fs.sync_dir(self._dir.path)

    def _is_same(self, source: str, target: str) -> bool:
        if self._fs.size(source) != self._fs.size(target):
            return False
        one, other = self._fs.open_read(source), self._fs.open_read(target)
        try:
            for at in range(0, one.size(), _QUARANTINE_COPY_BYTES):
                if one.pread(_QUARANTINE_COPY_BYTES, at) != other.pread(_QUARANTINE_COPY_BYTES, at):
                    return False
        finally:
            one.close()
            other.close()
        return True

    def _write_manifest(self, version: Version, keeps_logs: bool) -> None:
        supply = self._numbers()
        if not keeps_logs:
            # Whatever WAL files are still there when this is read lie below the new one.
            self._log_number = next(supply)
            prepare_wal(
                self._fs,
                self._dir,
                number=self._log_number,
                file_bytes=_NEW_WAL_BYTES,
                owner=WalOwner(self._to.database_id, self._generation),
                base_seq=self._last_seq + 1,
                clock=self._clock,
                rng=self._rng,
            )
        number = next(supply)
        ManifestWriter.create(
            self._fs,
            self._dir,
            number=number,
            database_id=self._to.database_id,
            snapshot=VersionEdit(
                database_id=self._to.database_id,
                next_file_number=self._next_number,
                last_seq=self._last_seq,
                log_number=self._log_number,
                generation=self._generation,
                added=version.tables(),
                outcomes=self._outcomes,
            ),
            clock=self._clock,
        ).close()
