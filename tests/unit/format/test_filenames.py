"""File names: what is written is recognised, and nothing else is."""

from __future__ import annotations

import pytest

from ferrisdb.format.filenames import DIR, FileKind, FileName, format_name, parse_name

NAMES = [
    ("LOCK", FileKind.LOCK, 0),
    ("CURRENT", FileKind.CURRENT, 0),
    ("MANIFEST-000007", FileKind.MANIFEST, 7),
    ("000012.wal", FileKind.WAL, 12),
    ("000013.sst", FileKind.TABLE, 13),
    ("1234567.sst", FileKind.TABLE, 1_234_567),
    ("clients", FileKind.CLIENTS, 0),
    ("segments", FileKind.SEGMENTS, 0),
    ("lost", FileKind.LOST, 0),
    ("ferris.sock", FileKind.SOCKET, 0),
    ("users.toml", FileKind.USERS, 0),
]


@pytest.mark.parametrize(("name", "kind", "number"), NAMES)
def test_names_go_both_ways(name: str, kind: FileKind, number: int) -> None:
    assert format_name(kind, number) == name
    assert parse_name(name) == FileName(kind, number)
    assert parse_name(f"{name}.tmp") == FileName(FileKind.TEMPORARY, number)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "12.wal",
        "0000012.wal",
        "000000.wal",
        "000012",
        "000012.WAL",
        "MANIFEST-7",
        "MANIFEST-000007.sst",
        "99999999999999999999.sst",
        "9223372036854775808.sst",
        "٠٠٠٠١٢.wal",
        "000012.wal\n",
        "x.tmp",
        "000012.wal.tmp.tmp",
        "notes.txt",
        "current",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("kind", "number"),
    [(FileKind.WAL, 0), (FileKind.WAL, 1 << 63), (FileKind.LOCK, 1), (FileKind.TEMPORARY, 1)],
)
def test_impossible_names_are_refused(kind: FileKind, number: int) -> None:
    with pytest.raises(ValueError, match="number"):
        format_name(kind, number)


def test_paths_of_a_directory() -> None:
    directory = DIR("/db")
    assert directory.file(FileKind.WAL, 3) == "/db/000003.wal"
    assert directory.temporary(FileKind.TABLE, 3) == "/db/000003.sst.tmp"
    assert directory.temporary(FileKind.CURRENT) == "/db/CURRENT.tmp"
    assert directory.fixed(FileKind.CLIENTS) == "/db/clients"
