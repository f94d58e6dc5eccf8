"""Build tables from lists, and say what a list of versions means: the model of tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ferrisdb.kernel.builder import TableBuilder
from ferrisdb.kernel.properties import NO_ORIGIN, TableOrigin, TableProperties
from ferrisdb.kernel.table import Table

PUT, DELETE, PUT_EXPIRING = 1, 2, 4
LATEST = (1 << 56) - 1
DATABASE_ID = bytes(range(16))
CREATED_US = 1_700_000_000_000_000

Range = tuple[bytes, bytes, int]


class Version(NamedTuple):
    """One version of one key, as a source shows it."""

    key: bytes
    seq: int
    kind: int
    expires_us: int
    value: bytes


class ByteFile:
    """A file in memory, as a builder writes it."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.chunk_bytes_max = 0

    def append(self, chunk: memoryview) -> None:
        """Keep a copy of the chunk."""
        self.chunk_bytes_max = max(self.chunk_bytes_max, len(chunk))
        self.written += chunk


def in_order(versions: Iterable[Version]) -> list[Version]:
    """Sort versions by key ascending, sequence descending."""
    return sorted(versions, key=lambda v: (v.key, -v.seq))


def build(
    versions: Iterable[Version],
    ranges: Iterable[Range] = (),
    *,
    file_number: int = 7,
    gc_floor: int = 0,
    block_bytes: int = 4096,
    bottom: bool = False,
    origin: TableOrigin = NO_ORIGIN,
    filtered: bool = False,
) -> tuple[bytes, TableProperties]:
    """Return a table's bytes and what the builder says of it."""
    file = ByteFile()
    builder = TableBuilder(
        file,
        file_number=file_number,
        database_id=DATABASE_ID,
        created_us=CREATED_US,
        gc_floor=gc_floor,
        block_bytes=block_bytes,
        bottom=bottom,
        origin=origin,
        filtered=filtered,
    )
    for version in versions:
        builder.add(*version)
    for one in ranges:
        builder.add_range_tombstone(*one)
    properties = builder.finish()
    return bytes(file.written), properties


def write(path: Path, stored: bytes) -> Table:
    """Write a table's bytes to a file and open it."""
    path.write_bytes(stored)
    return Table(path)


def newest(versions: Iterable[Version], snapshot_seq: int) -> dict[bytes, Version]:
    """Return each key's newest version at or below the snapshot, tombstones included."""
    found: dict[bytes, Version] = {}
    for version in versions:
        held = found.get(version.key)
        if version.seq <= snapshot_seq and (held is None or held.seq < version.seq):
            found[version.key] = version
    return dict(sorted(found.items()))


def seen_above(versions: list[Version], floor: int) -> list[Version]:
    """Leave out the versions that a newer one at or below the floor shadows."""
    return [
        v for v in versions if not any(o.key == v.key and v.seq < o.seq <= floor for o in versions)
    ]


def covering(ranges: Iterable[Range], key: bytes, snapshot_seq: int) -> int:
    """Return the newest sequence at or below the snapshot of a range over the key, or 0."""
    seqs = [
        seq
        for start, end, seq in ranges
        if seq <= snapshot_seq and start <= key and (not end or key < end)
    ]
    return max(seqs, default=0)


def live(
    versions: Iterable[Version], ranges: list[Range], snapshot_seq: int, now_us: int
) -> dict[bytes, bytes]:
    """Return what a reader sees: key to value, in order."""
    return {
        key: v.value
        for key, v in newest(versions, snapshot_seq).items()
        if v.kind != DELETE
        and not (v.expires_us and v.expires_us <= now_us)
        and covering(ranges, key, snapshot_seq) <= v.seq
    }
