"""Goal: each line is a row or a named fault. Method: small files in memory."""

from __future__ import annotations

import io

import pytest

from ferrisdb import limits
from ferrisdb.cli import lines
from ferrisdb.cli.lines import BadLine, Row, read_rows
from ferrisdb.cli.text import parse_tsv


def _read(content: bytes, from_line: int = 1) -> list[Row | BadLine]:
    return list(read_rows(io.BytesIO(content), parse_tsv, from_line))


def test_lines_are_counted_from_one() -> None:
    assert _read(b"a\t1\nbad\nb\t2\n") == [
        Row(1, b"a", b"1"),
        BadLine(2, "no tab between key and value"),
        Row(3, b"b", b"2"),
    ]


def test_last_line_needs_no_end() -> None:
    assert _read(b"a\t1") == [Row(1, b"a", b"1")]
    assert _read(b"") == []


def test_carriage_return_before_the_end_belongs_to_it() -> None:
    assert _read(b"a\t1\r\nb\t2\\r\n") == [Row(1, b"a", b"1"), Row(2, b"b", b"2\r")]


def test_lines_before_the_first_wanted_are_not_judged() -> None:
    assert _read(b"bad\nworse\na\t1\n", from_line=3) == [Row(3, b"a", b"1")]
    assert _read(b"a\t1\n", from_line=9) == []


def test_rows_over_the_limits_are_bad_lines() -> None:
    (key,) = _read(b"k" * (limits.KEY_BYTES_MAX + 1) + b"\t\n")
    (value,) = _read(b"k\t" + b"v" * (limits.VALUE_BYTES_MAX + 1) + b"\n")
    assert isinstance(key, BadLine) and "at most 65535" in key.reason
    assert isinstance(value, BadLine) and "at most 16777216" in value.reason


@pytest.mark.parametrize("tail", [b"", b"\n", b"x\n", b"x" * 100 + b"\n"])
def test_endless_line_is_refused_without_being_held(
    tail: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 8)
    found = _read(b"k\t345678" + tail + (b"b\t2\n" if tail else b""))
    assert found[0] == BadLine(1, "8 bytes or longer")
    if tail:
        assert found[1:] == [Row(2, b"b", b"2")]
