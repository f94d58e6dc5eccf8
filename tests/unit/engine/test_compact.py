"""Compaction: what a snapshot at or above the floor sees stays. Method: Hypothesis against lists.

A history is dealt over level 0 and two levels as flushes and compactions would have left it (what
is higher is newer), compacted by the real code, and read back at every snapshot that may exist.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrisdb.engine.compact import CompactSettings, clip_ranges, compact_tables, file_count_max
from ferrisdb.engine.flush import table_meta
from ferrisdb.engine.pick import Compaction
from ferrisdb.engine.version import Version as Tables
from ferrisdb.errors import StorageError
from ferrisdb.format.edit import TableMeta, VersionEdit
from ferrisdb.format.filenames import DIR
from ferrisdb.kernel.merge import Cursor
from ferrisdb.kernel.table import Table
from ferrisdb.seams import RealFileSystem
from tests.support.tables import (
    CREATED_US,
    DATABASE_ID,
    DELETE,
    LATEST,
    PUT,
    PUT_EXPIRING,
    Range,
    Version,
    build,
    in_order,
    live,
)

KEYS = [b"%c" % (97 + n) for n in range(8)]
NOW_US = 1000


def place(
    path: Path, number: int, level: int, versions: list[Version], ranges: list[Range]
) -> TableMeta:
    stored, properties = build(in_order(versions), ranges, file_number=number, block_bytes=64)
    (path / f"{number:06}.sst").write_bytes(stored)
    return table_meta(properties, level=level)


def compact(
    path: Path,
    compaction: Compaction,
    *,
    floor: int = 0,
    expired_us: int = 0,
    table_bytes: int = 1 << 20,
    fs: RealFileSystem | None = None,
    on_chunk: object = None,
) -> list[TableMeta]:
    wanted = CompactSettings(DATABASE_ID, CREATED_US, floor, expired_us, 64, table_bytes)
    return list(
        compact_tables(
            compaction,
            fs or RealFileSystem(),
            DIR(str(path)),
            wanted,
            file_numbers=range(100, 100 + file_count_max(compaction, table_bytes)),
            on_chunk=on_chunk or (lambda _: None),  # type: ignore[arg-type]
        )
    )


def contents(path: Path, metas: list[TableMeta]) -> tuple[list[Version], list[Range]]:
    """Return what the outputs hold; proves each table, its meta, and that they don't overlap."""
    Tables().apply(VersionEdit(added=tuple(metas)))
    versions: list[Version] = []
    ranges: list[Range] = []
    for meta in metas:
        table = Table(path / f"{meta.number:06}.sst", file_number=meta.number)
        table.verify()
        quarter_us = meta.quarter_expires_us
        assert quarter_us >= table.properties.expires_us_min or not quarter_us
        assert table_meta(table.properties, level=meta.level, quarter_expires_us=quarter_us) == meta
        cursor = Cursor(table.source(LATEST, all_versions=True))
        cursor.seek_first()
        while (entry := cursor.entry()) is not None:
            versions.append(Version(*entry))
            cursor.step()
        ranges += table.range_tombstones().ranges()
        table.close()
    return versions, ranges


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Version | None, Range | None]]:
    operations: list[tuple[Version | None, Range | None]] = []
    for seq in range(1, draw(st.integers(2, 24)) + 1):
        key = draw(st.sampled_from(KEYS))
        kind = draw(st.sampled_from([PUT, PUT, PUT, DELETE, PUT_EXPIRING, 3]))
        if kind == 3:
            end = draw(st.sampled_from([b"", *KEYS[1:], b"z"]))
            start = min(key, end) if end else key
            if end and start >= end:
                start = b"a"
            operations.append((None, (start, end, seq)))
        else:
            expires = draw(st.sampled_from([500, 5000])) if kind == PUT_EXPIRING else 0
            value = b"" if kind == DELETE else b"v%d" % seq
            operations.append((Version(key, seq, kind, expires, value), None))
    return operations


@given(
    history=histories(),
    cuts=st.tuples(st.integers(0, 24), st.integers(0, 24)),
    floor=st.integers(0, 26),
    bottom=st.booleans(),
    splits=st.sets(st.sampled_from(KEYS), max_size=3),
    tiny=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_every_snapshot_sees_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[Version | None, Range | None]],
    cuts: tuple[int, int],
    floor: int,
    bottom: bool,
    splits: set[bytes],
    tiny: bool,
) -> None:
    path = tmp_path_factory.mktemp("tables")
    low, high = sorted(cuts)
    metas = []
    for number, level, part in (
        (9, 0, history[high:]),
        (8, 0, history[low:high]),
        (7, 1, history[:low]),
    ):
        if part:
            versions = [v for v, _ in part if v is not None]
            ranges = [r for _, r in part if r is not None]
            metas.append(place(path, number, level, versions, ranges))
    # What lies below, unless this is the bottom: older than everything.
    below = [] if bottom else [Version(key, 0, PUT, 0, b"old") for key in KEYS]
    outputs = compact(
        path,
        Compaction(tuple(metas), 1, bottom, tuple(sorted(splits))),
        floor=floor,
        expired_us=NOW_US,
        table_bytes=100 if tiny else 1 << 20,
    )
    versions, ranges = contents(path, outputs)
    all_versions = below + [v for v, _ in history if v is not None]
    all_ranges = [r for _, r in history if r is not None]
    for snapshot in range(min(floor, len(history)), len(history) + 1):
        assert live(below + versions, ranges, snapshot, NOW_US) == live(
            all_versions, all_ranges, snapshot, NOW_US
        )
    if bottom and floor >= len(history):
        # Nobody looks back: one entry for each key that lives, and nothing else.
        assert ranges == []
        assert {v.key: v.value for v in versions} == live(all_versions, all_ranges, LATEST, NOW_US)
        assert len({v.key for v in versions}) == len(versions)


def test_outputs_end_at_splits_and_at_their_size(tmp_path: Path) -> None:
    rows = [Version(b"%04d" % n, n + 1, PUT, 0, b"x" * 50) for n in range(100)]
    meta = place(tmp_path, 7, 1, rows, [(b"0010", b"0090", 500)])
    by_key = compact(tmp_path, Compaction((meta,), 2, False, (b"0020", b"0050")))
    assert [(m.smallest, m.largest) for m in by_key] == [
        (b"0000", b"0020"),
        (b"0020", b"0050"),
        (b"0050", b"0099"),
    ]
    by_size = compact(tmp_path, Compaction((meta,), 2, False), table_bytes=1000)
    assert 3 < len(by_size) <= file_count_max(Compaction((meta,), 2, False), 1000)
    assert sum(m.entry_count for m in by_size) == 100


def test_nothing_left_makes_no_table(tmp_path: Path) -> None:
    meta = place(tmp_path, 7, 0, [Version(b"k", 1, PUT, 0, b"v")], [(b"", b"", 2)])
    assert compact(tmp_path, Compaction((meta,), 6, True), floor=2) == []
    assert os.listdir(tmp_path) == ["000007.sst"]


@pytest.mark.parametrize("at", range(8))
def test_giving_up_leaves_no_file(tmp_path: Path, at: int) -> None:
    rows = [Version(b"%04d" % n, n + 1, PUT, 0, b"x" * 50) for n in range(100)]
    meta = place(tmp_path, 7, 0, rows, [])
    calls = 0

    def on_chunk(_: int) -> None:
        nonlocal calls
        if calls == at:
            raise KeyboardInterrupt
        calls += 1

    with pytest.raises(KeyboardInterrupt):
        compact(tmp_path, Compaction((meta,), 6, True), table_bytes=2000, on_chunk=on_chunk)
    assert os.listdir(tmp_path) == ["000007.sst"]


@pytest.mark.parametrize("call", ["create", "rename", "sync_dir"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_failing_call_leaves_no_file(tmp_path: Path, call: str, at: int) -> None:
    rows = [Version(b"%04d" % n, n + 1, PUT, 0, b"x" * 50) for n in range(100)]
    meta = place(tmp_path, 7, 0, rows, [])

    class Failing(RealFileSystem):
        left = at if call != "sync_dir" else 0

        def _fail(self, name: str) -> None:
            if name == call:
                if Failing.left == 0:
                    raise StorageError(errno.EIO, "planted")
                Failing.left -= 1

        def create(self, path: str):  # type: ignore[no-untyped-def]
            self._fail("create")
            return super().create(path)

        def rename(self, source: str, target: str) -> None:
            self._fail("rename")
            super().rename(source, target)

        def sync_dir(self, path: str) -> None:
            self._fail("sync_dir")
            super().sync_dir(path)

    with pytest.raises(StorageError):
        compact(tmp_path, Compaction((meta,), 6, True), table_bytes=2000, fs=Failing())
    assert os.listdir(tmp_path) == ["000007.sst"]


@pytest.mark.parametrize(
    ("low", "high", "clipped"),
    [
        (b"", None, [(b"c", b"m", 5), (b"k", b"", 7)]),
        (b"", b"c", []),
        (b"", b"d", [(b"c", b"d", 5)]),
        (b"e", b"l", [(b"e", b"l", 5), (b"k", b"l", 7)]),
        (b"m", None, [(b"m", b"", 7)]),
    ],
)
def test_ranges_are_cut_to_the_output(low: bytes, high: bytes | None, clipped: list[Range]) -> None:
    assert clip_ranges([(b"c", b"m", 5), (b"k", b"", 7)], low, high) == clipped
