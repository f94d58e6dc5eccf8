"""verify names every breach of what files say of themselves and of each other, and goes on.

Method: a database with everything (tests/support/full_database.py); a breach is made by hand, with
checksums made right where the breach is one of meaning.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ferrisdb.engine.report import Report, Severity
from ferrisdb.engine.verify import VersionMovedError, verify_files, verify_live
from ferrisdb.engine.version import Version
from ferrisdb.errors import NotADatabaseError
from ferrisdb.format import wal
from ferrisdb.format.edit import TableMeta, VersionEdit, decode_edit, encode_edit
from ferrisdb.format.filenames import DIR
from ferrisdb.format.manifest import (
    ManifestRecord,
    encode_manifest_record,
    manifest_records,
    read_manifest,
)
from ferrisdb.seams import RealFileSystem
from tests.support.full_database import make

FS = RealFileSystem()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "db"
    make(path, 3)
    return path


@pytest.fixture
def db(image: Path, tmp_path: Path) -> Path:
    shutil.copytree(image, tmp_path / "db")
    return tmp_path / "db"


def check(db: Path) -> Report:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in db.iterdir()}
    report = verify_files(FS, str(db))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    return report


def version_after(records: list[ManifestRecord]) -> Version:
    found = Version()
    for record in records:
        found = found.apply(record.edit)
    return found


def version(db: Path) -> Version:
    (path,) = db.glob("MANIFEST-*")
    return version_after(list(manifest_records(path.read_bytes(), str(path))))


def flip(path: Path, offset: int) -> None:
    stored = bytearray(path.read_bytes())
    stored[offset] ^= 0x10
    path.write_bytes(stored)


def places(report: Report) -> set[str]:
    return {Path(finding.path).name for finding in report.errors}


def rewrite_edits(db: Path, change: Callable[[int, VersionEdit], VersionEdit]) -> None:
    (path,) = db.glob("MANIFEST-*")
    stored = path.read_bytes()
    out = stored[:64]
    for index, record in enumerate(manifest_records(stored, str(path))):
        out += encode_manifest_record(encode_edit(change(index, record.edit)), len(out))
    path.write_bytes(out)


def last_log(db: Path) -> tuple[Path, bytes, wal.WalFile, int]:
    for path in sorted(db.glob("*.wal"), reverse=True):
        stored = path.read_bytes()
        header = wal.decode_file_header(stored, str(path))
        found = wal.scan_file(stored, header, str(path))
        if found.record_count:
            return path, stored, header, found.valid_end
    raise AssertionError("no log has records")


def test_a_whole_database_is_clean_and_counted(db: Path) -> None:
    report = check(db)
    assert report.is_clean and not report.findings
    tables = version(db).tables()
    assert report.table_count == len(tables)
    assert report.entry_count == sum(table.entry_count for table in tables)
    # CURRENT and MANIFEST, tables, logs.
    assert report.file_count == 2 + len(tables) + len(list(db.glob("*.wal")))
    assert report.record_count > 10
    assert "clean" in str(report) and report.as_dict()["is_clean"] is True


def test_every_damaged_file_is_named(db: Path) -> None:
    damaged = set()
    for path in [*db.glob("*.sst"), *db.glob("*.wal"), *db.glob("MANIFEST-*"), db / "CURRENT"]:
        flip(path, 40)
        damaged.add(path.name)
    assert places(check(db)) == damaged


def test_every_damaged_page_and_record_is_named(db: Path) -> None:
    table = max(db.glob("*.sst"), key=lambda path: path.stat().st_size)
    for offset in (100, 5000, 9000):
        flip(table, offset)
    log, stored, header, _ = last_log(db)
    offsets = list(wal.scan_file(stored, header, str(log)).offsets)
    for offset in (offsets[2], offsets[5]):
        flip(log, offset + 30)
    report = check(db)
    found = {(Path(one.path).name, one.offset) for one in report.errors}
    assert found == {(table.name, 0), (table.name, 4096), (table.name, 8192)} | {
        (log.name, offsets[2]),
        (log.name, offsets[5]),
    }


def test_missing_files_are_named(db: Path) -> None:
    table = sorted(db.glob("*.sst"))[0]
    oldest = sorted(db.glob("*.wal"))[0]
    table.unlink()
    oldest.unlink()
    assert places(check(db)) == {table.name, oldest.name}


def test_what_the_manifest_says_of_a_table_must_be_so(db: Path) -> None:
    wanted = version(db).tables()[0]

    def lie(meta: TableMeta) -> TableMeta:
        if meta.number != wanted.number:
            return meta
        return replace(
            meta, entry_count=meta.entry_count + 1, smallest=b"",
            delete_count=0, expiring_count=0, range_delete_count=0,
        )  # fmt: skip

    rewrite_edits(db, lambda _, edit: replace(edit, added=tuple(map(lie, edit.added))))
    report = check(db)
    assert places(report) == {f"{wanted.number:06d}.sst"}
    said = " ".join(finding.expected for finding in report.errors)
    for field in ("entry_count", "smallest", "delete_count", "expiring_count"):
        assert field in said


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("next_file_number", 3, "next_file_number"),
        ("log_number", 1 << 40, "log number"),
        ("generation", 1, "generation"),
    ],
)
def test_numbers_that_contradict_each_other_are_named(
    db: Path, field: str, value: int, expected: str
) -> None:
    last = len(read_manifest(FS, DIR(str(db))).edits) - 1

    def change(index: int, edit: VersionEdit) -> VersionEdit:
        return replace(edit, **{field: value}) if index == last else edit  # type: ignore[arg-type]

    rewrite_edits(db, change)
    assert any(expected in finding.expected for finding in check(db).errors)


def test_a_last_sequence_below_a_table_is_named(db: Path) -> None:
    rewrite_edits(db, lambda _, edit: replace(edit, last_seq=1))
    assert any("sequence of table" in finding.expected for finding in check(db).errors)


def test_tables_of_a_level_that_overlap_are_named(db: Path) -> None:
    lowest = next(level for level in reversed(version(db).levels) if len(level) > 1)
    left, right = lowest[:2]

    def stretch(meta: TableMeta) -> TableMeta:
        return replace(meta, largest=right.largest) if meta.number == left.number else meta

    rewrite_edits(db, lambda _, edit: replace(edit, added=tuple(map(stretch, edit.added))))
    assert any("do not overlap" in finding.expected for finding in check(db).errors)


def test_an_edit_that_does_not_apply_is_named_and_tables_are_still_read(db: Path) -> None:
    rewrite_edits(
        db, lambda index, edit: replace(edit, removed=((3, 999),)) if index == 5 else edit
    )
    flip(sorted(db.glob("*.sst"))[-1], 70)
    found = places(check(db))
    assert sorted(db.glob("*.sst"))[-1].name in found
    assert any(name.startswith("MANIFEST") for name in found)


def test_a_log_that_is_shorter_than_its_successor_says_is_named(db: Path) -> None:
    report = check(db)
    assert report.is_clean
    log, stored, header, _ = last_log(db)
    opening = wal.read_opening(stored, wal.scan_file(stored, header, str(log)), str(log))
    assert opening is not None
    older = db / f"{opening.predecessor_number:06d}.wal"
    content = older.read_bytes()
    its = wal.decode_file_header(content, str(older))
    found = wal.scan_file(content, its, str(older))
    last = found.offsets[-1]
    older.write_bytes(content[:last] + bytes(len(content) - last))
    assert places(check(db)) == {older.name}


def test_a_torn_tail_is_a_note(db: Path) -> None:
    log, stored, _, end = last_log(db)
    log.write_bytes(stored[:end] + b"torn" + stored[end + 4 :])
    report = check(db)
    # In a recycled file anything may stand there.
    header = wal.decode_file_header(stored, str(log))
    assert report.is_clean and bool(report.notes) is not header.recycled


def test_a_torn_edit_is_a_note(db: Path) -> None:
    (path,) = db.glob("MANIFEST-*")
    with path.open("ab") as file:
        file.write(b"\x01\x02\x03")
    report = check(db)
    assert report.is_clean and [Path(note.path).name for note in report.notes] == [path.name]


def test_orphans_and_strangers_are_notes(db: Path) -> None:
    (db / "999999.sst").write_bytes(b"")
    (db / "000001.wal").write_bytes(b"")
    (db / "MANIFEST-999999").write_bytes(b"")
    (db / "000123.sst.tmp").write_bytes(b"")
    (db / "holiday.jpg").write_bytes(b"")
    (db / "lost").mkdir()
    report = verify_files(FS, str(db))
    assert report.is_clean and len(report.notes) == 6


def test_without_current_the_newest_manifest_is_read(db: Path) -> None:
    (db / "CURRENT").unlink()
    report = check(db)
    assert places(report) == {"CURRENT"}
    assert report.table_count == len(version(db).tables())


def test_what_is_no_database_can_not_be_checked(tmp_path: Path) -> None:
    with pytest.raises(NotADatabaseError):
        verify_files(FS, str(tmp_path))
    (tmp_path / "photo").write_bytes(b"")
    with pytest.raises(NotADatabaseError):
        verify_files(FS, str(tmp_path))


def test_an_unreadable_file_is_an_error(db: Path) -> None:
    table = sorted(db.glob("*.sst"))[0]
    table.unlink()
    os.symlink(db / "nothing", table)
    (finding,) = verify_files(FS, str(db)).findings
    assert finding.severity is Severity.ERROR and finding.expected == "a readable file"


def test_live_asks_for_the_version_that_the_manifest_names(db: Path) -> None:
    numbers = version(db).numbers()
    assert verify_live(FS, str(db), numbers, lambda: None).is_clean
    with pytest.raises(VersionMovedError):
        verify_live(FS, str(db), numbers - {min(numbers)}, lambda: None)


def test_live_looks_again_before_it_reports(db: Path) -> None:
    (path,) = db.glob("MANIFEST-*")
    stored = path.read_bytes()
    records = list(manifest_records(stored, str(path)))
    last = records[-1]
    assert decode_edit(encode_edit(last.edit), "", 0) == last.edit
    path.write_bytes(stored[: last.offset + 5])
    waits: list[int] = []

    def wait() -> None:
        waits.append(1)
        path.write_bytes(stored)

    report = verify_live(FS, str(db), version_after(records).numbers(), wait)
    assert waits and not report.findings
