"""Goal: what pip installs works without the tree. Method: sdist, then wheel, then import.

One module is compiled from the sdist, the one that needs most of the others' declarations, and
without optimisation. The others are those that the other tests run on, put where setuptools takes
them for its own: to compile all again takes a minute, and would show nothing that they don't.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from scripts.environment import project

ROOT = Path(__file__).resolve().parents[2]
MODULES = [extension["name"] for extension in project()["tool"]["setuptools"]["ext-modules"]]
COMPILED = "ferrisdb.kernel.server"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def _run(*command: str, cwd: Path, **added: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= added
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _sources(folder: Path) -> set[str]:
    """Return what the kernel is compiled from."""
    kernel = folder / "ferrisdb" / "kernel"
    return {path.name for path in kernel.iterdir() if path.suffix in (".pyx", ".pxd", ".h")}


def _put_built(unpacked: Path) -> None:
    """Have setuptools find every module translated and compiled, but COMPILED."""
    built = unpacked / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    (built / "ferrisdb/kernel").mkdir(parents=True)
    for name in MODULES:
        if name != COMPILED:
            file = name.replace(".", "/")
            # With the time of now, in this order: each newer than what it was made from.
            shutil.copyfile(ROOT / f"{file}.c", unpacked / f"{file}.c")
            shutil.copyfile(ROOT / f"{file}{SUFFIX}", built / f"{file}{SUFFIX}")


def _quick_compiler(folder: Path) -> str:
    # The last of several -O counts, and the extensions' own comes behind CFLAGS.
    script = folder / "cc"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    script.write_text(f'#!/bin/sh\nexec {compiler} "$@" -O0 -g0\n')
    script.chmod(0o755)
    return str(script)


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
    assert _sources(unpacked) == _sources(ROOT)
    _put_built(unpacked)
    wheel_words = (*setup, "bdist_wheel", "-d", str(tmp_path / "wheel"))
    _run(*wheel_words, cwd=unpacked, CC=_quick_compiler(tmp_path))
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    target = tmp_path / "installed"
    shutil.unpack_archive(wheel, target, "zip")
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert not {name for name in names if name.endswith((".pyx", ".c"))}
    assert "ferrisdb/py.typed" in names and "ferrisdb/shm/__init__.py" in names
    for module in MODULES:
        assert {f"{module.replace('.', '/')}{end}" for end in (".pyi", SUFFIX)} <= names
    objects = [path.stem for path in (unpacked / "build").rglob("*.o")]
    assert objects == [COMPILED.rpartition(".")[2]], "one module is compiled, and no other"
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import {', '.join(MODULES)}; "
    where = _run("-c", code + "import ferrisdb; print(ferrisdb.__file__)", cwd=tmp_path)
    assert where.startswith(str(target))
