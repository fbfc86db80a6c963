"""The rooms of the library: twelve names at its top, and in each an index of its modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pgtasks

ROOT = Path(pgtasks.__file__).parent
ROOMS = {
    *("backup", "cli", "database", "health", "host", "report"),
    *("schema", "server", "service", "settings"),
}
PACKAGES = sorted(path.parent for path in ROOT.rglob("__init__.py") if path.parent != ROOT)


def modules(folder: Path) -> set[str]:
    """Return the modules and packages in a package."""
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return names | {path.parent.name for path in folder.glob("*/__init__.py")}


def test_at_the_top_are_the_rooms_and_the_errors() -> None:
    assert modules(ROOT) - {"tasks"} == ROOMS | {"__main__", "errors"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_index_of_a_package_names_its_modules_once(package: Path) -> None:
    index = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    named = re.findall(r"^(\w+)(?: {2,}|/ +)\S", index, re.MULTILINE)
    assert sorted(named) == sorted(modules(package))
