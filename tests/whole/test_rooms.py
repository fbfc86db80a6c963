"""The rooms of the library: few names at its top, and in each an index of its modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgtasks
from pgtasks import errors

ROOT = Path(pgtasks.__file__).parent
ROOMS = {
    *("backup", "cli", "copy", "database", "health", "host", "report"),
    *("schema", "server", "service", "settings", "verify"),
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


def exceptions() -> Iterator[type[BaseException]]:
    """Yield every exception class that a module of the library defines."""
    for found in pkgutil.walk_packages(pgtasks.__path__, "pgtasks."):
        if not found.name.startswith(("pgtasks.__main__", "pgtasks.tasks")):
            module = importlib.import_module(found.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if issubclass(kind, BaseException) and kind.__module__ == found.name:
                    yield kind


def depth(kind: type[BaseException]) -> int:
    """Return how many classes of ours stand above an exception."""
    return sum(each.__module__.startswith("pgtasks.") for each in kind.__mro__[1:])


def test_the_tree_of_errors_shows_all_of_them() -> None:
    tree = re.findall(
        r"^((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+) +(?:(\d+)|([\w.]+):) ", errors.__doc__ or "", re.M
    )
    shown = {
        (name, len(branch) // 4, f"pgtasks.{module or 'errors'}", int(code or 0))
        for branch, name, code, module in tree
    }
    assert len(shown) == len(tree)
    assert shown == {
        (
            kind.__name__,
            depth(kind),
            kind.__module__,
            getattr(kind, "exit_code", 0) if kind.__module__ == errors.__name__ else 0,
        )
        for kind in exceptions()
    }
