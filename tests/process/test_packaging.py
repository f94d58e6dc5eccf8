"""Goal: what pip installs works without the tree. Method: sdist, then wheel, then import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.environment import project

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_wheel_holds_everything_and_no_sources(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    # As git would hand it out: nothing built, links kept.
    made = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "*.c", ".*_cache", "data")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=made)
    setup = ["-c", "from setuptools import setup; setup()", "--quiet"]
    _run(*setup, "sdist", "-d", str(tmp_path / "sdist"), cwd=tree)
    (sdist,) = (tmp_path / "sdist").glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    _run(*setup, "bdist_wheel", "-d", str(tmp_path / "wheel"), cwd=unpacked)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    target = tmp_path / "installed"
    shutil.unpack_archive(wheel, target, "zip")
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".pyx", ".c"))}
    assert "ferrisdb/py.typed" in names and "ferrisdb/shm/__init__.py" in names
    modules = [e["name"] for e in project()["tool"]["setuptools"]["ext-modules"]]
    for module in modules:
        assert module.replace(".", "/") + ".pyi" in names
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import {', '.join(modules)}; "
    where = _run("-c", code + "import ferrisdb; print(ferrisdb.__file__)", cwd=tmp_path)
    assert where.startswith(str(target))
