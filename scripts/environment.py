"""Answer the shell scripts' questions about pyproject.toml and the kernel's build.

    environment.py fingerprint EXTRA...   what an installed environment depends on, as one hash
    environment.py requirements EXTRA...  what build, package and extras need, a line each
    environment.py stale                  why the kernel must be built again; nothing if it needn't
    environment.py modules                the compiled modules, a line each
    environment.py build                  builds them in place, as many at a time as there are cores

Runs on a bare Python 3.11: it is asked before anything is installed, but for the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def project() -> dict[str, Any]:
    """Return pyproject.toml as a dictionary."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(extras: list[str]) -> list[str]:
    """Return requirement lines of the build, the package and the named extras."""
    settings = project()
    lines = [*settings["build-system"]["requires"], *settings["project"]["dependencies"]]
    for extra in extras:
        lines += settings["project"]["optional-dependencies"][extra]
    return lines


def fingerprint(extras: list[str]) -> str:
    """Hash what pip acts upon; the list of compiled modules is left out, as they build in place."""
    settings = project()
    parts = [settings["project"], requirements(extras), settings["tool"]["setuptools"]["packages"]]
    parts.append(sys.version_info[:3])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _cimported(source: Path, seen: set[Path]) -> set[Path]:
    """Add to `seen` the declaration files that a Cython source depends on, and theirs in turn."""
    text = source.read_text(encoding="utf-8")
    names = re.findall(r"^\s*cimport\s+(ferrisdb[\w.]*)", text, re.M)
    for package, members in re.findall(r"^\s*from\s+(ferrisdb[\w.]*)\s+cimport\s+(.+)", text, re.M):
        names += [package, *(f"{package}.{name}" for name in re.findall(r"\w+", members))]
    found = [ROOT / (name.replace(".", "/") + ".pxd") for name in names]
    for path in [source.with_suffix(".pxd"), *found]:
        if path not in seen and path.exists():
            seen.add(path)
            _cimported(path, seen)
    return seen


def stale() -> Iterator[str]:
    """Yield, for each compiled module that is missing or older than a source, why it is stale."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for extension in project()["tool"]["setuptools"]["ext-modules"]:
        built = ROOT / (extension["name"].replace(".", "/") + suffix)
        if not built.exists():
            yield f"{extension['name']} is not built"
            continue
        sources = [ROOT / name for name in extension["sources"]]
        inputs = set(sources) | {ROOT / name for name in extension.get("depends", [])}
        for source in sources:
            _cimported(source, inputs)
        newer = sorted(p for p in inputs if p.stat().st_mtime_ns > built.stat().st_mtime_ns)
        if newer:
            yield f"{newer[0].relative_to(ROOT)} is newer than {built.relative_to(ROOT)}"


def _build_one(name: str) -> str:
    """Do for one module what `setup() build_ext --inplace` does for all; return what failed."""
    from setuptools import Distribution
    from setuptools.errors import BaseError

    distribution = Distribution()
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_ext")
    command.inplace = True
    command.ensure_finalized()
    command.extensions = [one for one in command.extensions if one.name == name]
    if "CFLAGS" not in os.environ:
        # Debug information takes a fifth of the time. CFLAGS would take the place of what Python
        # is compiled with, -fwrapv among it.
        command.extensions[0].extra_compile_args.append("-g0")
    try:
        command.run()
    except BaseError as error:
        return f"{name}: {error}"
    return ""


def build() -> list[str]:
    """Build the kernel in place; return what failed.

    A process a module: Cython holds the interpreter's lock for half of the time, so the threads of
    `build_ext --parallel` gain less, and it makes no promise to them.
    """
    os.chdir(ROOT)
    extensions = project()["tool"]["setuptools"]["ext-modules"]
    # The long ones first, or one of them is worked at alone at the end.
    names = sorted((e["name"] for e in extensions), key=_source_bytes, reverse=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [failure for failure in pool.map(_build_one, names) if failure]


def _source_bytes(name: str) -> int:
    return (ROOT / (name.replace(".", "/") + ".pyx")).stat().st_size


def main(arguments: list[str]) -> int:
    """Carry out one question; the answer goes to standard output."""
    match arguments:
        case ["fingerprint", *extras]:
            answer = [fingerprint(extras)]
        case ["requirements", *extras]:
            answer = requirements(extras)
        case ["stale"]:
            answer = list(stale())
        case ["modules"]:
            answer = [e["name"] for e in project()["tool"]["setuptools"]["ext-modules"]]
        case ["build"]:
            answer = build()
        case _:
            sys.stderr.write(__doc__ or "")
            return 64
    sys.stdout.write("".join(line + "\n" for line in answer))
    return 70 if arguments == ["build"] and answer else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
