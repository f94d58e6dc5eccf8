"""Goal: the house's rules hold by themselves. Method: read every source file, run none.

The rules: layers, sizes, documented modules, names that only `seams.py` may use, and the parts
that must accompany a package or a compiled module. A breach names the file and the remedy.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.environment import project
from tests.support import tidy

ROOT = Path(__file__).resolve().parents[2]
PYTHON = tidy.python_files(ROOT)
CYTHON = tidy.cython_files(ROOT)
PACKAGE = [path for path in PYTHON if path.relative_to(ROOT).parts[0] == "ferrisdb"]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PACKAGE, *CYTHON], ids=_name)
def test_imports_point_downward(path: Path) -> None:
    importer = tidy.module_name(ROOT, path)
    breaches = [
        f"line {line}: {importer} may not import {imported}"
        for line, imported in tidy.imports(path)
        if not tidy.may_import(importer, imported)
    ]
    assert not breaches


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_linked_packages_are_imported_by_one_name(path: Path) -> None:
    # Another name would load a second copy of every class.
    bare = [f"line {line}: {name}" for line, name in tidy.bare_imports(path)]
    assert not bare, "import it from ferrisdb"


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=_name)
def test_files_stay_small(path: Path) -> None:
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count < tidy.MODULE_LINES_MAX, f"{count} lines: split it"
    if count > tidy.MODULE_LINES_WITH_REASON:
        reason = tidy.docstring(path)
        assert "because" in reason, f"{count} lines: the docstring must say 'Long because ...'"


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=_name)
def test_functions_fit_a_screen(path: Path) -> None:
    long = [f"{f} has {n} lines" for f, n in tidy.functions(path) if n > tidy.FUNCTION_LINES_MAX]
    assert not long


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=_name)
def test_lines_are_short_and_clean(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"line {n}" for n, line in enumerate(lines, 1) if len(line) > tidy.LINE_CHARS_MAX]
    assert not [f"line {n}" for n, line in enumerate(lines, 1) if tidy.UNFINISHED.search(line)]


@pytest.mark.parametrize("path", [*PYTHON, *CYTHON], ids=_name)
def test_modules_say_what_they_are(path: Path) -> None:
    if path.stem == "__init__" and not path.read_text(encoding="utf-8").strip():
        return  # an empty package marker
    assert tidy.docstring(path).strip(), "no docstring"


@pytest.mark.parametrize("path", PACKAGE, ids=_name)
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        # The docstring is the implementation's.
        and not any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
    ]
    assert not bare


@pytest.mark.parametrize("path", PACKAGE, ids=_name)
def test_only_seams_reaches_the_world(path: Path) -> None:
    used = {name for name in tidy.banned_uses(path) if not tidy.allowed(_name(path), name)}
    assert not used, "use ferrisdb/seams.py, or add the exception with its reason to support/tidy"


def test_every_package_folder_is_packed() -> None:
    listed = set(project()["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in PACKAGE
        if path.name == "__init__.py"
    }
    assert listed == found


def test_compiled_modules_are_listed_and_have_stubs() -> None:
    extensions = {
        extension["name"]: extension for extension in project()["tool"]["setuptools"]["ext-modules"]
    }
    found = {tidy.module_name(ROOT, path) for path in CYTHON if path.suffix == ".pyx"}
    assert set(extensions) == found
    for name, extension in extensions.items():
        assert (ROOT / (name.replace(".", "/") + ".pyi")).exists(), f"{name} has no stub"
        assert "ferrisdb/kernel/cpu.h" in extension["depends"], f"{name}: list cpu.h in depends"


def test_every_folder_with_python_is_checked_by_mypy() -> None:
    checked = set(project()["tool"]["mypy"]["files"])
    assert {path.relative_to(ROOT).parts[0] for path in PYTHON} == checked
