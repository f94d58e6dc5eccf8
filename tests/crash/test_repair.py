"""Repair: what is not damaged is there with its right values, and nothing deleted comes back.

Method: a database with levels, range deletes and WAL files, built once by a real service, is
damaged in a copy, repaired, and read without a service, by scan and by lookups. At the end: damage
at random places, and a power cut before every call of a repair.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrisdb.engine.open import open_state, replay_edits
from ferrisdb.engine.tablescan import LostPart, TableScan
from ferrisdb.errors import CorruptionError, NotADatabaseError
from ferrisdb.format import wal
from ferrisdb.format.filenames import DIR
from ferrisdb.format.manifest import read_manifest
from ferrisdb.format.sstable import TableProperties
from ferrisdb.seams import RealFileSystem
from tests.support.damaged import (
    Rows,
    Sample,
    check_rows,
    largest_live_table,
    make_sample,
    reading,
    repair,
)
from tests.support.simfs import SimFileSystem, Survival

FS = RealFileSystem()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("repair") / "db")


def flip(file: Path, at: int, bits: int = 0x40) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= bits
    file.write_bytes(content)


def drop_manifest(path: Path) -> None:
    (path / "CURRENT").unlink()
    for file in path.glob("MANIFEST-*"):
        file.unlink()


def damage_logs(path: Path) -> int:
    """Flip a byte in a record in the middle of each log; return how many operations it had."""
    lost = 0
    for file in sorted(path.glob("*.wal")):
        content = file.read_bytes()
        header = wal.decode_file_header(content, str(file))
        records = list(wal.records(content, wal.scan_file(content, header, str(file))))
        if len(records) > 5:
            flip(file, records[3].offset + 100)
            lost += records[3].count
    return lost


DAMAGE_WITHOUT_LOSS: dict[str, Callable[[Path], None]] = {
    "no CURRENT": lambda path: (path / "CURRENT").unlink(),
    "CURRENT flipped": lambda path: flip(path / "CURRENT", 33),
    "no MANIFEST": lambda path: next(path.glob("MANIFEST-*")).unlink(),
    "neither": drop_manifest,
    "MANIFEST flipped": lambda path: flip(next(path.glob("MANIFEST-*")), 200),
    "MANIFEST's snapshot flipped": lambda path: flip(next(path.glob("MANIFEST-*")), 80),
    "footer": lambda path: flip(largest_live_table(path), -20),
    "header of a table": lambda path: flip(largest_live_table(path), 17),
    "block index": lambda path: flip(
        largest_live_table(path), properties(largest_live_table(path)).index_offset + 5
    ),
}


def properties(file: Path) -> TableProperties:
    with closing(FS.open_read(str(file))) as handle:
        found = TableScan(handle, str(file)).properties
    assert found is not None
    return found


@pytest.mark.parametrize("name", DAMAGE_WITHOUT_LOSS)
def test_what_can_be_made_up_for_is_not_lost(sample: Sample, tmp_path: Path, name: str) -> None:
    path = sample.copy(tmp_path / "db")
    DAMAGE_WITHOUT_LOSS[name](path)
    would = repair(path, dry=True)
    report = repair(path)
    assert report.is_needed
    assert report.lost == would.lost
    if "header" in name or ("index" in name and report.lost):
        # Entries share the page with the header, range deletes may with the index.
        assert report.lost
        return
    assert report.lost == []
    assert not repair(path).is_needed
    check_rows(path, sample.rows)


def test_a_database_without_damage_is_left_alone(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "db")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert not repair(path).is_needed
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_dry_run_writes_nothing(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "db")
    flip(largest_live_table(path), 9000)
    drop_manifest(path)
    damage_logs(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert repair(path, dry=True).lost
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def outside(rows: Rows, lost: list[LostPart]) -> Rows:
    return {
        key: value
        for key, value in rows.items()
        if not any(
            (part.above is None or part.above < b"\0" + key)
            and (part.upto is None or b"\0" + key <= part.upto)
            for part in lost
        )
    }


@pytest.mark.parametrize("with_manifest", [True, False])
def test_only_the_damaged_blocks_of_a_table_are_lost(
    sample: Sample, tmp_path: Path, with_manifest: bool
) -> None:
    path = sample.copy(tmp_path / "db")
    table = largest_live_table(path, lowest_level=1)
    flip(table, 9000)
    with closing(FS.open_read(str(table))) as handle:
        blocks = TableScan(handle, str(table)).blocks()
        lost = [part for part in blocks if isinstance(part, LostPart)]
    assert 1 <= len(lost) <= 3
    if not with_manifest:
        drop_manifest(path)
    report = repair(path)
    named = any(f"bytes {lost[0].begin} to {lost[0].end}" in line for line in report.lost)
    assert (path / "quarantine" / table.name).exists()
    with reading(path) as db:
        shown = db.rows()
        # Without a MANIFEST, what the table was made of may be there still and stand for it: the
        # WAL file of a table that was moved down as it is. Then nothing is lost.
        assert named or (not with_manifest and shown == sample.rows), report.lost
        kept = outside(sample.rows, lost)
        assert len(kept) > len(sample.rows) // 2
        assert outside(shown, lost) == kept
        assert [db.get(key) for key in kept] == list(kept.values())
    assert all(value in sample.ever[key] for key, value in shown.items())


def test_a_truncated_table_is_lost_as_a_whole_and_named(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "db")
    table = largest_live_table(path)
    content = table.read_bytes()
    table.write_bytes(content[: len(content) // 2])
    report = repair(path)
    assert [line for line in report.lost if table.name in line]
    with reading(path) as db:
        assert all(value in sample.ever[key] for key, value in db.rows().items())


@pytest.mark.parametrize("with_manifest", [True, False])
def test_one_damaged_record_of_a_log_is_one_batch(
    sample: Sample, tmp_path: Path, with_manifest: bool
) -> None:
    path = sample.copy(tmp_path / "db")
    newest = replay_edits(DIR(str(path)), read_manifest(FS, DIR(str(path)))).log_number
    file = path / f"{newest:06d}.wal"
    content = file.read_bytes()
    header = wal.decode_file_header(content, str(file))
    records = list(wal.records(content, wal.scan_file(content, header, str(file))))
    if len(records) < 5:
        pytest.fail("the sample's log is too short")
    bad = records[3]
    flip(file, bad.offset + 100)
    with pytest.raises(CorruptionError):
        with reading(path):
            pass
    if not with_manifest:
        drop_manifest(path)
    report = repair(path)
    first, last = bad.first_seq, bad.first_seq + bad.count - 1
    assert any(f"sequences {first} to {last}" in line for line in report.lost)
    touched = {op.key[1:] for op in bad.operations}
    with reading(path) as db:
        shown = db.rows()
    whole = {k: v for k, v in sample.rows.items() if k not in touched}
    if not any(op.kind is wal.OpKind.RANGE_DELETE for op in bad.operations):
        assert {k: v for k, v in shown.items() if k not in touched} == whole
    assert all(value in sample.ever[key] for key, value in shown.items())


def test_numbers_and_sequences_go_on_above_everything(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "db")
    numbers = [int(file.stem) for file in [*path.glob("*.sst"), *path.glob("*.wal")]]
    before = replay_edits(DIR(str(path)), read_manifest(FS, DIR(str(path))))
    with reading(sample.copy(tmp_path / "same")):
        pass
    drop_manifest(path)
    repair(path)
    state = open_state(FS, str(path))
    assert state.next_file_number > max(numbers)
    assert state.database_id == before.database_id
    assert state.generation > before.generation
    assert state.last_seq >= before.last_seq


def test_inputs_that_outlived_their_compaction_do_not_come_back(tmp_path: Path) -> None:
    # A reader's pin, or a crash between two removals, keeps some inputs and not the others.
    sample = make_sample(tmp_path / "db", batches=60, keep=True)
    replaced: set[int] = set()
    for file in sample.path.glob("*.sst"):
        replaced.update(properties(file).origin.inputs)
    back = [name for name in sample.kept_tables if int(name[:6]) in replaced]
    assert back
    for name in back:
        path = sample.copy(tmp_path / name)
        assert not (path / name).exists()
        (path / name).write_bytes(sample.kept_tables[name])
        drop_manifest(path)
        assert repair(path).lost == []
        check_rows(path, sample.rows)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotADatabaseError):
        repair(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, int]]:
    kinds = ["flip", "flip", "flip", "cut", "no CURRENT", "no MANIFEST"]
    return [
        (draw(st.sampled_from(kinds)), draw(st.floats(0, 1)), draw(st.integers(0, 1 << 20)))
        for _ in range(draw(st.integers(1, 3)))
    ]


def apply(path: Path, damage: tuple[str, float, int]) -> None:
    kind, where, which = damage
    if kind.startswith("no "):
        for file in path.glob(f"{kind[3:]}*"):
            file.unlink()
        return
    # A log that is cut may have lost its end with all that proved it.
    tables, others = sorted(path.glob("*.sst")), sorted([*path.glob("*.wal"), *path.glob("M*")])
    files = tables if kind == "cut" else [*tables, *others]
    file = files[which % len(files)]
    size = file.stat().st_size
    if kind == "cut":
        file.write_bytes(file.read_bytes()[: int(where * size)])
    elif size:
        flip(file, min(int(where * size), size - 1), 1 << which % 8)


@settings(max_examples=60, deadline=None, database=None)
@given(damage=damages())
def test_random_damage_is_repaired_or_reported(
    sample: Sample, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[str, float, int]]
) -> None:
    path = sample.copy(tmp_path_factory.mktemp("random") / "db")
    for one in damage:
        apply(path, one)
    report = repair(path)
    assert not repair(path).is_needed
    with reading(path) as db:
        shown = db.rows()
        assert [db.get(key) for key in sorted(shown)[::5]] == [
            shown[key] for key in sorted(shown)[::5]
        ]
    if report.lost:
        assert all(value in sample.ever[key] for key, value in shown.items())
    else:
        assert shown == sample.rows
    shutil.rmtree(path)


def test_power_cut_at_any_call_of_a_repair_leaves_one_that_can_be_repaired(
    sample: Sample, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = sample.copy(root / "db")
    drop_manifest(path)
    fs = SimFileSystem(str(root))
    assert repair(path, fs=fs).lost == []
    assert fs.call_count > 20
    rng = random.Random(1)
    for index in range(0, fs.call_count + 1, 3):
        survival = rng.choice(list(Survival))
        target = tmp_path / f"{index}"
        fs.materialise(index, str(target), survival, random.Random(index))
        assert repair(target / "db").lost == [], (index, survival)
        with reading(target / "db") as db:
            assert db.rows() == sample.rows, (index, survival)
        shutil.rmtree(target)
