"""Count instructions with valgrind's callgrind: between marks, by the object they belong to.

A mark is a call of a function of libc that the program makes nowhere else; callgrind writes what
it has counted to a file of its own whenever that function is entered. Nothing of valgrind has to be
compiled in.

The format: a line `ob=` names the object that the costs behind it belong to, `calls=` says that
the next line is the cost of what was called, which is counted where it is spent.

Source: the Callgrind Format Specification, valgrind 3.19.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 1200
_NAMED = re.compile(r"c?ob=\((\d+)\)(?: (.+))?")


class CallgrindError(Exception):
    """The program could not be counted; the text says what to do."""


def missing() -> str | None:
    """Return what has to be installed before anything can be counted, None if nothing has."""
    if sys.platform != "linux":
        return "valgrind counts on Linux only"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: on Debian, apt-get install valgrind"
    return None


def counted(arguments: list[str], folder: str, mark: str) -> list[Counter[str]]:
    """Run a program of this interpreter; return what was counted between its marks, by object.

    Shape:   arguments, those of python; folder, an empty one; mark, the name of a function.
    Returns: for n marks n + 1 counters: before the first, between two, behind the last. The
             objects are paths.
    Raises:  CallgrindError.
    """
    why = missing()
    if why:
        raise CallgrindError(why)
    out = os.path.join(folder, "callgrind.out")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    command += [f"--dump-before={mark}", sys.executable, *arguments]
    # The places of keys in Python's dictionaries are the same in every run.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise CallgrindError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    parts = [by_object(path) for path in _parts(out)]
    if not parts:
        raise CallgrindError(f"valgrind has written nothing to {out}:\n{done.stderr[-4000:]}")
    return parts


def _parts(out: str) -> Iterable[Path]:
    # What follows the last mark is in the file without a number.
    number = 1
    while (path := Path(f"{out}.{number}")).exists():
        yield path
        number += 1
    if Path(out).exists():
        yield Path(out)


def by_object(path: Path) -> Counter[str]:
    """Return the instructions of one file of callgrind, by object.

    Raises:  CallgrindError, it says another total than its lines add up to.
    """
    names: dict[str, str] = {}
    found: Counter[str] = Counter()
    current, is_callee, total = "", False, None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if named := _NAMED.match(line):
                number, name = named.groups()
                names.setdefault(number, name or "")
                if line.startswith("ob="):
                    current = names[number]
            elif line.startswith("calls="):
                is_callee = True
            elif line.startswith("totals:"):
                total = int(line.split()[1])
            elif line[0].isdigit() or line[0] in "+-*":
                if not is_callee:
                    found[current] += int(line.split()[1])
                is_callee = False
    if total != found.total():
        raise CallgrindError(f"{path} adds up to {found.total()} and says {total}")
    return found
