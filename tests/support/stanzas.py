"""Real text to import: the package index of the system, one key a package.

A row's value begins with the round that wrote it, 8 digits and a space; the import is round 0.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

STAMP_BYTES = 9
_INDEXES = ("/var/lib/dpkg/available", "/var/lib/dpkg/status")


def stamp(round_number: int) -> bytes:
    """Return what a row of a round begins with."""
    return b"%08d " % round_number


def real_text() -> tuple[str, dict[bytes, bytes]]:
    """Return where the text is from, and its stanzas by package, version and architecture."""
    command = shutil.which("apt-cache")
    if command is not None:
        done = subprocess.run([command, "dumpavail"], capture_output=True)
        if stanzas := _stanzas(done.stdout):
            return "apt-cache dumpavail", stanzas
    for path in map(Path, _INDEXES):
        if path.exists() and (stanzas := _stanzas(path.read_bytes())):
            return str(path), stanzas
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    return f"the files of {library}", {bytes(path): path.read_bytes() for path in files}


def _stanzas(text: bytes) -> dict[bytes, bytes]:
    found = {}
    for stanza in text.split(b"\n\n"):
        lines = stanza.strip(b"\n").split(b"\n")
        fields = dict(line.split(b": ", 1) for line in lines if b": " in line)
        name = [fields.get(field, b"") for field in (b"Package", b"Version", b"Architecture")]
        if name[0]:
            found[b" ".join(name)] = stanza
    return found


def write_rows(path: Path, stanzas: dict[bytes, bytes]) -> None:
    """Write the rows of round 0 as `ferrisdb import` takes them."""
    with path.open("w", encoding="utf-8") as file:
        for key, stanza in stanzas.items():
            row = _member("key", key) | _member("value", stamp(0) + stanza)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[tuple[bytes, bytes]]:
    """Read them again, without the stamp and in the order of their keys."""
    with path.open("rb") as file:
        rows = [json.loads(line) for line in file]
    return sorted((_bytes(row, "key"), _bytes(row, "value")[STAMP_BYTES:]) for row in rows)


def _member(name: str, content: bytes) -> dict[str, str]:
    import base64

    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(content).decode()}


def _bytes(row: dict[str, str], name: str) -> bytes:
    import base64

    if name in row:
        return row[name].encode()
    return base64.b64decode(row[f"{name}_b64"])
