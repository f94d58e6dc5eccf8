"""Read rows from a file line by line, and know for each where it stands.

Memory is bounded: a line longer than the longest possible row is refused without being held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from ferrisdb import limits
from ferrisdb.cli.text import Parser

LINE_BYTES_MAX: Final = 6 * (limits.KEY_BYTES_MAX + limits.VALUE_BYTES_MAX) + 64
"""Longest line that can hold a row: JSON takes up to six bytes for one, and some for names."""


@dataclass(frozen=True, slots=True)
class Row:
    """A key and a value, and the number of the line that they were read from."""

    line: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that can't be read, by its number, and why."""

    line: int
    reason: str


def read_rows(file: BinaryIO, parse: Parser, from_line: int) -> Iterator[Row | BadLine]:
    """Yield each line's row, or why it is none, from line `from_line` (counted from 1).

    The lines before it are counted and not looked at.
    """
    number = 0
    while line := file.readline(LINE_BYTES_MAX):
        number += 1
        whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
        if not whole:
            _skip_rest(file)
        if number < from_line:
            continue
        if not whole:
            yield BadLine(number, f"{LINE_BYTES_MAX} bytes or longer")
            continue
        yield _read_row(number, line.removesuffix(b"\n").removesuffix(b"\r"), parse)


def _read_row(number: int, line: bytes, parse: Parser) -> Row | BadLine:
    try:
        key, value = parse(line)
    except ValueError as error:
        return BadLine(number, str(error))
    if len(key) > limits.KEY_BYTES_MAX:
        return BadLine(number, f"key of {len(key)} bytes; at most {limits.KEY_BYTES_MAX}")
    if len(value) > limits.VALUE_BYTES_MAX:
        return BadLine(number, f"value of {len(value)} bytes; at most {limits.VALUE_BYTES_MAX}")
    return Row(number, key, value)


def _skip_rest(file: BinaryIO) -> None:
    while rest := file.readline(1 << 20):
        if rest.endswith(b"\n"):
            return
