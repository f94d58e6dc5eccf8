"""Version page codec. Method: round trips by Hypothesis; every byte flipped, every length cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrisdb.errors import ProtocolError
from ferrisdb.limits import SEQNO_MAX, STORED_KEY_BYTES_MAX
from ferrisdb.shm.version_page import MemtableRef, TableRef, VersionPage, decode, encode

U64 = st.integers(0, 2**64 - 1)
KEYS = st.binary(max_size=20)


def _table(
    number: int, size: int, level: int, seqs: list[int], low: bytes, high: bytes, unbounded: bool
) -> TableRef:
    return TableRef(number, size, level, min(seqs), max(seqs), low, high, unbounded)


SEQS = st.lists(st.integers(0, SEQNO_MAX), min_size=2, max_size=2)
TABLES = st.builds(_table, U64, U64, st.integers(0, 63), SEQS, KEYS, KEYS, st.booleans())
PAGES = st.builds(
    VersionPage,
    U64,
    U64,
    st.lists(st.builds(MemtableRef, U64, U64, U64), max_size=4).map(tuple),
    st.lists(TABLES, max_size=6).map(tuple),
)
PAGE = VersionPage(
    9,
    3,
    (MemtableRef(12, 1 << 20, 500), MemtableRef(8, 1 << 20, 1)),
    (
        TableRef(7, 4096, 0, 1, 400, b"\0a", b"\0z"),
        TableRef(5, 9999, 6, 0, SEQNO_MAX, b"", b"\xff" * STORED_KEY_BYTES_MAX),
    ),
)


@settings(max_examples=50, deadline=None)
@given(PAGES)
def test_decoding_gives_back_what_was_encoded(page: VersionPage) -> None:
    encoded = encode(page)
    assert decode(encoded) == page
    assert decode(memoryview(encoded + bytes(4096))) == page


def test_the_longest_keys_fit() -> None:
    assert decode(encode(PAGE)) == PAGE


def test_every_flipped_byte_is_noticed() -> None:
    encoded = encode(VersionPage(9, 3, PAGE.memtables, PAGE.tables[:1]))
    for at in range(len(encoded)):
        flipped = encoded[:at] + bytes([encoded[at] ^ 4]) + encoded[at + 1 :]
        with pytest.raises(ProtocolError):
            decode(flipped)


def test_every_cut_is_noticed() -> None:
    encoded = encode(VersionPage(9, 3, PAGE.memtables, PAGE.tables[:1]))
    for length in range(len(encoded)):
        with pytest.raises(ProtocolError):
            decode(encoded[:length])


@pytest.mark.parametrize(
    "table",
    [
        TableRef(1, 1, 64, 0, 0, b"", b""),
        TableRef(1, 1, 0, 2, 1, b"", b""),
        TableRef(1, 1, 0, 0, SEQNO_MAX + 1, b"", b""),
        TableRef(1, 1, 0, 0, 0, b"", bytes(STORED_KEY_BYTES_MAX + 1)),
    ],
)
def test_impossible_tables_are_not_encoded(table: TableRef) -> None:
    with pytest.raises(ValueError, match="table 1"):
        encode(VersionPage(1, 1, (), (table,)))
