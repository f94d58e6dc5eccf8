"""Goal: what scan prints is what import reads. Method: random bytes there and back, bad lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrisdb.cli import text

RAW = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode))


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
@given(key=RAW, value=RAW)
def test_row_comes_back_byte_for_byte(form: str, key: bytes, value: bytes) -> None:
    line = text.FORMATTERS[form](key, value)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    body = line.removesuffix(b"\n")
    assert not body.endswith(b"\r")
    assert text.PARSERS[form](body) == (key, value)


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (rb"plain", b"plain"),
        (rb"a\tb\nc\rd\\e", b"a\tb\nc\rd\\e"),
        (rb"\x00\xfF", b"\x00\xff"),
        (rb"\\x41", rb"\x41"),
        ("é".encode(), "é".encode()),
    ],
)
def test_escapes_are_read(raw: bytes, meant: bytes) -> None:
    assert text.unescape(raw) == meant


@pytest.mark.parametrize("raw", [rb"\q", rb"\x4", rb"\xzz", b"end\\", b"\\\n"])
def test_unknown_escape_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="unknown escape"):
        text.unescape(raw)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "no tab"),
        (b"key only", "no tab"),
        (b"a\tb\tc", "more than one tab"),
        (b"a\\q\tb", "unknown escape"),
    ],
)
def test_bad_tsv_line_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        text.parse_tsv(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"key": "a"}', "either 'value' or 'value_b64'"),
        (b'{"key": "a", "key_b64": "YQ==", "value": ""}', "either 'key'"),
        (b'{"key": 1, "value": ""}', "the key is not a string"),
        (b'{"key": "a", "value": null}', "the value is not a string"),
        (b'{"key": "a", "value": "", "ttl": 1}', "unknown member 'ttl'"),
        (b'{"key_b64": "?", "value": ""}', "'key_b64' is not Base64"),
        (rb'{"key": "\ud800", "value": ""}', "half of a surrogate pair"),
    ],
)
def test_bad_json_line_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        text.parse_jsonl(line)


def test_arguments_are_taken_as_they_are_unless_escapes_are_asked_for() -> None:
    assert text.from_argument(r"a\tb", escape=False) == rb"a\tb"
    assert text.from_argument(r"a\tb", escape=True) == b"a\tb"
    assert text.from_argument("\udcff", escape=False) == b"\xff"


def test_keys_print_alone() -> None:
    assert text.format_tsv(b"a\tb", None) == b"a\\tb\n"
    assert text.format_jsonl(b"\xff", None) == b'{"key_b64": "/w=="}\n'
    assert text.format_hex(b"\x00a", None) == b"0061\n"
    assert text.format_hex(b"\x00", b"v") == b"00\t76\n"
