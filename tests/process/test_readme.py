"""Goal: README's quick start works as printed. Method: take its lines, run them, compare output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.service import ROOT, environment, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(kind: str, part: str) -> str:
    """Return the first code block of a kind behind a heading."""
    match = re.search(rf"```{kind}\n(.*?)```", README.split(part, 1)[1], re.DOTALL)
    assert match is not None
    return match.group(1)


def _shell_environment(bin_dir: Path) -> dict[str, str]:
    """Put a `ferrisdb` that runs this tree in front of PATH, as an activated .venv would."""
    bin_dir.mkdir()
    script = bin_dir / "ferrisdb"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ferrisdb.cli "$@"\n')
    script.chmod(0o755)
    variables = environment()
    return {**variables, "PATH": os.pathsep.join([str(bin_dir), variables["PATH"]])}


def test_quick_start_prints_what_readme_says(tmp_path: Path) -> None:
    shell = _shell_environment(tmp_path / "bin")
    lines = re.split(r"^\$ ", _block("console", "## Quick start"), flags=re.M)[1:]
    assert lines.pop(0) == ". .venv/bin/activate\n"
    with serving(tmp_path / "data"):
        for line in lines:
            typed, _, expected = line.partition("\n")
            done = subprocess.run(
                ["bash", "-c", typed], cwd=tmp_path, env=shell, capture_output=True, text=True
            )
            assert (done.returncode, done.stderr) == (0, ""), typed
            assert done.stdout == expected, typed
        code = _block("python", "## Quick start")
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=shell, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "b'red' [(b'fruit/fig', b'purple')]\n"
