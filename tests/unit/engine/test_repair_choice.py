"""Which tables count without a MANIFEST, and where they may stand. Method: surveys made by hand."""

from __future__ import annotations

from ferrisdb.engine.flush import table_meta
from ferrisdb.engine.repair_choice import choose, place
from ferrisdb.engine.survey import ManifestFinding, Survey, TableFinding, WalFinding
from ferrisdb.errors import CorruptionError
from ferrisdb.format import wal
from ferrisdb.format.edit import TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR
from ferrisdb.kernel.properties import TableOrigin
from tests.support.tables import DATABASE_ID, PUT, Version, build

BAD = CorruptionError("db/file", 0, "right", "wrong")


def survey(tables: dict[int, TableOrigin], *, wals: tuple[int, ...] = ()) -> Survey:
    found = Survey(DIR("db"), database_id=DATABASE_ID)
    for number, origin in tables.items():
        versions = [Version(b"\0k", number, PUT, 0, b"v")]
        properties = build(versions, file_number=number, origin=origin)[1]
        finding = TableFinding(number, f"{number:06d}.sst", f"db/{number:06d}.sst")
        finding.properties, finding.meta = properties, table_meta(properties, level=0)
        found.tables[number] = finding
    head = wal.encode_file_header(
        file_number=1, database_id=DATABASE_ID, created_us=1, salt=1, base_seq=1, generation=1
    )
    for number in wals:
        found.wals[number] = WalFinding(
            number,
            f"{number:06d}.wal",
            f"db/{number:06d}.wal",
            header=wal.decode_file_header(head, "db/w"),
        )
    return found


def chosen(found: Survey) -> tuple[list[int], list[int]]:
    choice = choose(found)
    return [table.number for table in choice.tables], choice.wal_numbers


def test_what_a_table_calls_retired_is_gone() -> None:
    assert chosen(survey({3: TableOrigin(), 9: TableOrigin(retired=(3,))})) == ([9], [])


def test_inputs_that_are_not_all_there_were_replaced() -> None:
    found = {3: TableOrigin(), 9: TableOrigin(inputs=(3, 4))}
    assert chosen(survey(found)) == ([9], [])


def test_inputs_that_are_all_there_stand_for_their_outputs() -> None:
    found = {3: TableOrigin(), 4: TableOrigin(), 9: TableOrigin(inputs=(3, 4))}
    assert chosen(survey(found)) == ([3, 4], [])


def test_an_output_that_a_later_table_was_made_of_was_installed() -> None:
    found = {
        3: TableOrigin(),
        4: TableOrigin(),
        9: TableOrigin(inputs=(3, 4)),
        10: TableOrigin(inputs=(3, 4)),
        12: TableOrigin(inputs=(9, 11)),
    }
    assert chosen(survey(found)) == ([10, 12], [])


def test_an_edit_proves_what_was_installed_and_what_was_removed() -> None:
    found = survey({3: TableOrigin(), 4: TableOrigin(), 9: TableOrigin(inputs=(3, 4))})
    manifest = ManifestFinding(1, "MANIFEST-000001", "db/MANIFEST-000001")
    meta = found.tables[9].meta
    assert meta is not None
    manifest.edits = [VersionEdit(added=(meta,)), VersionEdit(added=(meta,), removed=((0, 9),))]
    found.manifests[1] = manifest
    assert chosen(found) == ([9], [])  # the second edit moved it


def test_damaged_inputs_stay_beside_outputs_that_were_perhaps_not_installed() -> None:
    found = survey({3: TableOrigin(), 4: TableOrigin(), 9: TableOrigin(inputs=(3, 4))})
    found.tables[3].error = BAD
    assert chosen(found) == ([3, 4, 9], [])


def test_what_an_unfinished_repair_wrote_goes() -> None:
    found = survey({3: TableOrigin(), 9: TableOrigin(inputs=(3,), is_repair=True)})
    found.tables[3].error = BAD
    assert chosen(found) == ([3], [])


def test_a_flushed_table_stands_for_its_log_and_a_damaged_one_does_not() -> None:
    tables = {9: TableOrigin(inputs=(5,)), 12: TableOrigin(inputs=(8,), log_number=8)}
    found = survey(tables, wals=(5, 8, 10))
    assert chosen(found) == ([9, 12], [10])
    found.tables[9].error = BAD
    assert chosen(found) == ([12], [5, 10])


def meta(number: int, keys: bytes, first: int, last: int) -> TableMeta:
    return TableMeta(0, number, 100, 1, keys[:1], keys[1:], first, last)


def test_newer_tables_stand_above_older_ones_and_the_others_low() -> None:
    units = place([meta(1, b"am", 1, 9), meta(2, b"nz", 1, 9), meta(3, b"gp", 10, 20)])
    assert {unit.tables[0].number: unit.level for unit in units} == {1: 6, 2: 6, 3: 5}


def test_more_layers_than_levels_end_in_level_0() -> None:
    units = place([meta(n, b"az", 10 * n, 10 * n + 9) for n in range(1, 10)])
    assert [unit.level for unit in units] == [6, 5, 4, 3, 2, 1, 0, 0, 0]


def test_tables_whose_sequences_interleave_are_merged_with_all_that_follows_from_it() -> None:
    # 1 and 2 interleave; what they become interleaves with 3, which neither of them does.
    units = place([meta(1, b"ad", 1, 4), meta(2, b"cf", 3, 9), meta(3, b"ab", 6, 8)])
    assert sorted(table.number for table in units[0].tables) == [1, 2, 3]
    assert len(units) == 1
