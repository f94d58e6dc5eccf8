r"""Turn bytes into text and back: arguments of a command, lines of an imported or scanned file.

Escapes, the same in a TSV file and in an argument under `--escape`:

    \t tab    \n newline    \r carriage return    \\ backslash    \xNN the byte NN (hexadecimal)

A backslash before anything else is an error: what was meant can't be known.

TSV:   key, tab, value, newline. Exactly one tab; bytes are taken as they are, so any encoding
       passes. A carriage return before the newline belongs to the line's end.
JSONL: one object a line with `key` or `key_b64` and `value` or `value_b64`: text as UTF-8, or
       Base64 for bytes that are no UTF-8. No other member.
HEX:   key, tab, value in hexadecimal; for scans only.

What `scan` prints in TSV or JSONL is what `import` reads: every row comes back byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_MEANT = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\"}
_MUST_ESCAPE = re.compile(rb"[\t\n\r\\]")
_ESCAPED = {b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r", b"\\": b"\\\\"}


def from_argument(text: str, escape: bool) -> bytes:
    """Return the bytes that an argument of the command line stands for.

    Raises:  ValueError, for an unknown escape.
    """
    raw = text.encode("utf-8", "surrogateescape")
    return unescape(raw) if escape else raw


def unescape(raw: bytes) -> bytes:
    """Replace escapes by what they stand for.

    Raises:  ValueError, for an unknown escape.
    """
    return _ESCAPE.sub(_meaning, raw) if b"\\" in raw else raw


def escape(raw: bytes) -> bytes:
    """Escape what would end a TSV field or line."""
    return _MUST_ESCAPE.sub(lambda match: _ESCAPED[match.group()], raw)


def parse_tsv(line: bytes) -> tuple[bytes, bytes]:
    """Read key and value from one line without its end.

    Raises:  ValueError, with what is wrong with the line.
    """
    fields = line.split(b"\t")
    if len(fields) == 1:
        raise ValueError("no tab between key and value")
    if len(fields) > 2:
        raise ValueError(r"more than one tab; write a tab inside a value as \t")
    return unescape(fields[0]), unescape(fields[1])


def parse_jsonl(line: bytes) -> tuple[bytes, bytes]:
    """Read key and value from one JSON object.

    Raises:  ValueError, with what is wrong with the line.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    unknown = set(row) - {"key", "key_b64", "value", "value_b64"}
    if unknown:
        raise ValueError(f"unknown member {min(unknown)!r}")
    return _member(row, "key"), _member(row, "value")


def format_tsv(key: bytes, value: bytes | None) -> bytes:
    """Return a row as a TSV line; without a value, the key alone."""
    tail = b"" if value is None else b"\t" + escape(value)
    return escape(key) + tail + b"\n"


def format_jsonl(key: bytes, value: bytes | None) -> bytes:
    """Return a row as a line of JSON; without a value, the key alone."""
    row = _as_member("key", key) | ({} if value is None else _as_member("value", value))
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def format_hex(key: bytes, value: bytes | None) -> bytes:
    """Return a row in hexadecimal; without a value, the key alone."""
    tail = "" if value is None else "\t" + value.hex()
    return f"{key.hex()}{tail}\n".encode()


Parser = Callable[[bytes], tuple[bytes, bytes]]
Formatter = Callable[[bytes, "bytes | None"], bytes]

PARSERS: dict[str, Parser] = {"tsv": parse_tsv, "jsonl": parse_jsonl}
FORMATTERS: dict[str, Formatter] = {
    "tsv": format_tsv,
    "jsonl": format_jsonl,
    "hex": format_hex,
}


def _meaning(match: re.Match[bytes]) -> bytes:
    code, letter = match.groups()
    if code is not None:
        return bytes([int(code, 16)])
    if letter not in _MEANT:
        shown = match.group().decode("utf-8", "replace")
        raise ValueError(rf"unknown escape {shown}; there are \t \n \r \\ \xNN")
    return _MEANT[letter]


def _member(row: dict[str, Any], name: str) -> bytes:
    coded = f"{name}_b64"
    if (name in row) == (coded in row):
        raise ValueError(f"either {name!r} or {coded!r} must be there")
    text = row.get(name, row.get(coded))
    if not isinstance(text, str):
        raise ValueError(f"the {name} is not a string")
    try:
        return text.encode() if name in row else base64.b64decode(text, validate=True)
    except UnicodeEncodeError:
        raise ValueError(f"the {name} holds half of a surrogate pair; use {coded!r}") from None
    except (binascii.Error, ValueError):
        raise ValueError(f"{coded!r} is not Base64") from None


def _as_member(name: str, raw: bytes) -> dict[str, str]:
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(raw).decode()}
