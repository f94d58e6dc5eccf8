"""The builder refuses what a table can't hold, and hands the file large chunks in order."""

from __future__ import annotations

import pytest

from ferrisdb.errors import ClosedError, UsageError
from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.limits import MIB
from tests.support.tables import DELETE, PUT, ByteFile, Version, build


def builder(file: object | None = None, **options: int) -> TableBuilder:
    """Return a builder with a number, into memory unless told otherwise."""
    return TableBuilder(
        file or ByteFile(),  # type: ignore[arg-type]
        file_number=7,
        database_id=bytes(16),
        created_us=1,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((b"b", 5), (b"a", 9)),
        ((b"b", 5), (b"b", 5)),
        ((b"b", 5), (b"b", 6)),
        ((b"ab", 5), (b"a", 4)),
    ],
)
def test_entries_out_of_order_are_refused(
    before: tuple[bytes, int], after: tuple[bytes, int]
) -> None:
    one = builder()
    one.add(*before, PUT, 0, b"")
    with pytest.raises(UsageError):
        one.add(*after, PUT, 0, b"")
    one.add(b"z", 1, PUT, 0, b"")
    assert one.finish().entry_count == 2


@pytest.mark.parametrize(
    "entry",
    [
        (b"k" * 65_541, 1, PUT, 0, b""),
        (b"k", 1 << 56, PUT, 0, b""),
        (b"k", 1, PUT, 0, bytes(16 * MIB + 1)),
        (b"k", 1, DELETE, 0, b"value"),
        (b"k", 1, 3, 0, b""),
        (b"k", 1, 0, 0, b""),
    ],
)
def test_entries_over_the_limits_are_refused(entry: tuple[bytes, int, int, int, bytes]) -> None:
    one = builder()
    with pytest.raises(UsageError):
        one.add(*entry)
    with pytest.raises(UsageError):
        one.finish()


@pytest.mark.parametrize("bad", [(b"b", b"b", 1), (b"b", b"a", 1), (b"a", b"b", 0)])
def test_impossible_range_tombstones_are_refused(bad: tuple[bytes, bytes, int]) -> None:
    with pytest.raises(UsageError):
        builder().add_range_tombstone(*bad)


def test_range_tombstones_below_the_floor_have_no_place_at_the_bottom() -> None:
    one = builder(gc_floor=10, bottom=True)
    with pytest.raises(UsageError):
        one.add_range_tombstone(b"a", b"b", 10)
    one.add_range_tombstone(b"a", b"b", 11)


def test_shadowed_versions_have_no_place_at_the_bottom() -> None:
    one = builder(gc_floor=10, bottom=True)
    one.add(b"a", 12, PUT, 0, b"")
    one.add(b"a", 10, PUT, 0, b"")
    with pytest.raises(UsageError):
        one.add(b"a", 9, PUT, 0, b"")


def test_a_finished_builder_is_done() -> None:
    one = builder()
    one.add(b"a", 1, PUT, 0, b"")
    one.finish()
    for call in (
        lambda: one.add(b"b", 1, PUT, 0, b""),
        lambda: one.add_range_tombstone(b"a", b"b", 1),
        one.finish,
    ):
        with pytest.raises(ClosedError):
            call()


def test_a_builder_whose_file_failed_is_dead() -> None:
    class FullFile:
        def append(self, chunk: memoryview) -> None:
            raise OSError("no space")

    one = builder(FullFile())
    with pytest.raises(OSError, match="no space"):
        for i in range(100):
            one.add(b"%d" % (100 + i), 1, PUT, 0, bytes(100_000))
    with pytest.raises(ClosedError):
        one.finish()


def test_the_file_gets_chunks_of_a_huge_page() -> None:
    file = ByteFile()
    one = builder(file)
    for i in range(60):
        one.add(b"%d" % (100 + i), 1, PUT, 0, bytes(100_000))
    one.add(b"2", 1, PUT, 0, bytes(16 * MIB))
    properties = one.finish()
    assert file.chunk_bytes_max == 2 * MIB
    assert len(file.written) == properties.file_bytes


def test_the_same_entries_make_the_same_bytes() -> None:
    versions = [Version(b"%d" % i, 1, PUT, 0, b"v" * i) for i in range(100, 200)]
    assert build(versions) == build(versions)


def test_an_unbounded_range_tombstone_does_not_lower_the_smallest_key() -> None:
    _, properties = build([Version(b"m", 1, PUT, 0, b"")], [(b"p", b"", 2)])
    assert (properties.smallest_key, properties.largest_key) == (b"m", b"p")
    assert properties.unbounded
