"""Goal: importing the package is cheap and safe. Method: fresh interpreters, module lists."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ferrisdb

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {"click", "dill", "lmdb", "multiprocess", "posix_ipc", "psutil", "rocksdict", "tqdm"}
"""Imported where they are used: a web worker that only reads must not pay for the command line."""


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )


def test_import_leaves_heavy_dependencies_alone() -> None:
    done = _python("import sys, ferrisdb; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("name", ["shm", "workers"])
def test_linked_package_refuses_its_bare_name(name: str) -> None:
    done = _python(f"import {name}")
    assert done.returncode == 1
    assert f"import this package as ferrisdb.{name}" in done.stderr


def test_version_is_the_one_of_pyproject() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert ferrisdb.__version__ == settings["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", ferrisdb.__version__)
