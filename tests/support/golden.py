"""Compare bytes with golden files: hex dumps, one line per 16 bytes, `#` begins a comment."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"


def dump(content: bytes) -> str:
    """Return the content as the lines of a golden file; a run of equal lines is one `*`."""
    lines: list[str] = []
    before = b""
    for at in range(0, len(content), 16):
        row = content[at : at + 16]
        if row == before and at + 16 < len(content):
            if lines[-1] != "*":
                lines.append("*")
            continue
        lines.append(f"{at:06x}  {row.hex(' ')}")
        before = row
    return "\n".join([*lines, f"{len(content):06x}"]) + "\n"


def golden_text(name: str) -> str:
    """Return a golden file without its comments."""
    lines = (GOLDEN / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))
