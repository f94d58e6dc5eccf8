"""docs/formats.md shows bytes that are so."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.golden import golden_text

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"


def test_every_hex_line_of_the_document_is_in_the_golden_file() -> None:
    shown = re.findall(r"^[0-9a-f]{6}  .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) == 20
    assert set(shown) <= set(golden_text("wal.hex").splitlines())


def test_every_file_that_the_document_names_is_there() -> None:
    named = re.findall(r"`((?:ferrisdb|tests)/[\w/]+\.\w+)`", DOCUMENT.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (DOCUMENT.parents[1] / name).exists()] == []
