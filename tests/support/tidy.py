"""Read sources for the tidy tests: who imports whom, how long, which names.

`shm/`, `workers/` and `bench/` are read under `ferrisdb/`, where links of these names lead to them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES_WITH_REASON = 500
MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
LINE_CHARS_MAX = 100
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")

LAYERS = {
    **dict.fromkeys(["errors", "limits", "options", "keys", "seams", "exit_codes"], 0),
    "kernel": 1,
    "format": 2,
    "shm": 2,
    "engine": 3,
    "workers": 5,
    "cli": 5,
    "bench": 6,
}
LAYER_OF_THE_HANDLE = 4
"""database, snapshot, resp ...: whatever LAYERS does not name."""

UPWARD_ALLOWED = {
    ("ferrisdb.cli.serve", "ferrisdb.workers"): "`ferrisdb serve` becomes the coordinator",
    ("ferrisdb.cli.bench", "ferrisdb.bench"): "`ferrisdb bench` is the harness's command",
}

BANNED_MODULES = {"time", "random"}
BANNED_CALLS = {
    "open",
    "print",
    "os.open",
    "os.urandom",
    "os.fsync",
    "os.fdatasync",
    "os.rename",
    "os.replace",
    "threading.Thread",
}
ALLOWED = {
    "ferrisdb/seams.py": ({"*"}, "it is the door"),
    "ferrisdb/checkpoint.py": ({"time.*"}, "keeps its caller's time-out"),
    "ferrisdb/cli/app.py": ({"os.open"}, "points a broken standard output at /dev/null"),
    "ferrisdb/attached.py": ({"time.*", "os.urandom"}, "waits; nothing durable"),
    "ferrisdb/backoff.py": ({"time.*", "random.*"}, "waits; nothing durable"),
    "ferrisdb/database.py": ({"time.*"}, "waits; nothing durable"),
    "ferrisdb/transact.py": ({"time.*"}, "keeps its caller's time-out"),
    "ferrisdb/scan.py": ({"time.*"}, "waits for the order, at most its time-out"),
    "ferrisdb/service.py": ({"time.*", "os.open", "open"}, "waits for a service, reads its log"),
    "ferrisdb/verification.py": ({"time.*"}, "waits between two looks"),
    "ferrisdb/statistics.py": ({"time.*"}, "shows how old a pin is"),
    "ferrisdb/resp/threads.py": ({"threading.Thread"}, "keeps slow work off the loop"),
    "ferrisdb/workers/children.py": ({"threading.Thread"}, "listens to a child"),
    "ferrisdb/workers/listeners.py": (
        {"time.*", "os.open", "os.rename"},
        "sockets are not durable; waits for a port",
    ),
    "ferrisdb/workers/readers.py": ({"threading.Thread"}, "the hub of the reader workers"),
    "ferrisdb/workers/reader.py": ({"threading.Thread"}, "listens to the hub"),
    "ferrisdb/workers/log_sync.py": ({"threading.Thread"}, "syncs behind the commits"),
    "ferrisdb/workers/publisher.py": ({"os.open"}, "punches a table that is unlinked"),
    "ferrisdb/bench/": ({"*"}, "a program of its own, which measures the package as people use it"),
    "ferrisdb/shm/": ({"os.open", "open", "os.urandom"}, "segments and locks are not durable"),
}


def python_files(root: Path) -> list[Path]:
    """Return every Python file of the tree, the linked packages under their import path."""
    found: list[Path] = []
    linked = ("ferrisdb/shm", "ferrisdb/workers", "ferrisdb/bench")
    for top in ("ferrisdb", *linked, "tests", "scripts"):
        found += [p for p in (root / top).rglob("*.py") if p not in found]
    return sorted(set(found))


def cython_files(root: Path) -> list[Path]:
    """Return every .pyx and .pxd of the tree."""
    tops = ("ferrisdb", "ferrisdb/shm", "ferrisdb/workers")
    return sorted({p for top in tops for p in (root / top).rglob("*.p[yx][xd]")})


def module_name(root: Path, path: Path) -> str:
    """Return the import name of a source file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import or cimport of ours in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for line, row in enumerate(text.splitlines(), 1):
            match = re.match(
                r"\s*(?:from\s+(ferrisdb[\w.]*)\s+c?import\s+(\w+)|"
                r"c?import\s+(ferrisdb[\w.]*))",
                row,
            )
            if match:
                package, member, whole = match.groups()
                yield line, whole or f"{package}.{member}"
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "ferrisdb")


def bare_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of each import of a linked package without `ferrisdb.` before it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        linked = [name for name in names if name.split(".")[0] in ("bench", "shm", "workers")]
        yield from ((node.lineno, name) for name in linked)


def may_import(importer: str, imported: str) -> bool:
    """Tell whether the layers allow the import; both are full dotted names."""
    if importer == "ferrisdb":
        return True  # the root only re-exports
    if importer.startswith("ferrisdb.bench") and imported == "ferrisdb":
        return True  # it measures what people import
    _, *rest = imported.split(".")
    if not rest or rest[0][0].isupper() or rest[0] in ("open", "__version__"):
        return rest == ["__version__"]  # nothing inside imports from the package root
    mine, other = importer.split(".")[1], rest[0]
    if mine == other:
        return True
    if any(importer == a and imported.startswith(b) for a, b in UPWARD_ALLOWED):
        return True
    low, high = (LAYERS.get(name, LAYER_OF_THE_HANDLE) for name in (other, mine))
    if low == high:
        return low in (0, LAYER_OF_THE_HANDLE)
    return low < high


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length in lines of each function in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
        return
    lines = text.splitlines()
    for first, line in enumerate(lines):
        match = re.match(r"(\s*)(?:def|cdef|cpdef)\s(?!class\s)[^=]*?(\w+)\s*\(", line)
        if match is None:
            continue
        last, inside = first, line.rstrip().endswith(":")
        for n in range(first + 1, len(lines)):
            indent = len(lines[n]) - len(lines[n].lstrip())
            if lines[n].strip() and indent <= len(match.group(1)) and inside:
                break
            inside = inside or lines[n].rstrip().endswith(":")
            last = n if lines[n].strip() else last
            if not inside and lines[n].rstrip().endswith(")"):
                break  # a declaration without a body
        yield match.group(2), last - first + 1


def docstring(path: Path) -> str:
    """Return the text at the head of a file that says what it is; a .pxd has comments there."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    body = re.sub(r"\A(# cython:.*\n)+", "", text)
    comment = re.match(r"(?:#.*\n)+", body)
    quoted = re.match(r'\s*"""(.*?)"""', body, re.S)
    return quoted.group(1) if quoted else comment.group(0) if comment else ""


def banned_uses(path: Path) -> set[str]:
    """Return the names a file uses that only seams.py may."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in BANNED_CALLS or node.value.id in BANNED_MODULES:
                found.add(name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in BANNED_CALLS:
                found.add(node.func.id)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & BANNED_CALLS
            if node.module in BANNED_MODULES:
                found |= names
    return found


def allowed(file: str, name: str) -> bool:
    """Tell whether a file may use a banned name all the same."""
    names = [names for prefix, (names, _) in ALLOWED.items() if file.startswith(prefix)]
    whole = f"{name.split('.', maxsplit=1)[0]}.*"
    return any(not group.isdisjoint({"*", name, whole}) for group in names)
