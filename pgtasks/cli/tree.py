"""The task tree: the built-in collections, overridden by a project's own files in `tasks/`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from invoke import Collection, Exit, Task

from pgtasks.cli import completion, context, early, edge, group, mistyped, parsing
from pgtasks.errors import PgtasksError
from pgtasks.host import child
from pgtasks.report import commandline, typed

FIRST = "help"  # the task for `inv` without one


def namespace(file: str | Path) -> Any:
    """Return the task tree for the project whose tasks.py is `file`.

    tasks.py needs only `ns = pgtasks.namespace(__file__)`. Each file in the project's `tasks/` is a
    collection; if both have a task of the same name, the project's own is used.
    """
    path = Path(file).resolve()
    root = path.parent
    context.set_file(path)
    typed.set_tree(path)
    builtin = _builtin_folder()
    try:
        child.take_over()
        _check_runtime_file(root)
        own = _own_folder(root)
    except PgtasksError as exc:
        raise edge.exit_of(exc, json=commandline.wants_json(sys.argv)) from None
    parsing.keep_names()
    tree = _Tree()
    taken: dict[str, str] = {}
    for path in _files(builtin):
        _add(tree, path, builtin, taken, own=False)
    for path in _files(own) if own != builtin else ():
        _add_own(tree, path, own, taken)
    if FIRST in tree.tasks and tree.default is None:
        tree.default = FIRST
    context.set_tree(tree)
    mistyped.teach()
    completion.teach()
    parsing.share()
    if is_inv():
        edge.pass_over_closed_pipes()
        parsing.of_typed()
        early.watch()
    return tree


class _Tree(Collection):  # type: ignore[misc]
    """The task tree; a default task that tasks.py names replaces `help`."""

    def _check_default_collision(self, name: str) -> None:
        if self.default != FIRST:
            super()._check_default_collision(name)


class _Group(Collection):  # type: ignore[misc]
    """A collection of the tree. Invoke copies all of them for each run, and changes none."""

    def __deepcopy__(self, memo: object) -> _Group:
        return self


def is_inv() -> bool:
    """Return whether this process is `inv`, not an application that loads the tree."""
    return Path(sys.argv[0]).stem in ("inv", "invoke")


def _add_own(tree: Any, path: Path, folder: Path, taken: dict[str, str]) -> None:
    """Add one of the project's own files; if it cannot be loaded, print why and skip it."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results, and for TAB
            _add(tree, path, folder, taken, own=True)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        from pgtasks import report

        line = next(
            (
                f":{frame.lineno}"
                for frame in reversed(traceback.extract_tb(exc.__traceback__))
                if frame.filename == str(path)
            ),
            f":{exc.lineno}" if isinstance(exc, SyntaxError) else "",
        )
        words = " ".join(str(exc).split())
        report.say(
            f"warning: {folder.name}/{path.name}{line}: {type(exc).__name__}: {words}: "
            "its tasks are left out"
        )


def _builtin_folder() -> Path:
    """Return the folder of the built-in collections, in the wheel or beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "tasks"
    return inside if inside.is_dir() else package.parent / "tasks"


def _check_runtime_file(root: Path) -> None:
    from pgtasks.settings import project

    if not is_inv():
        return
    chosen = commandline.runtime_file(sys.argv[1:], os.environ)
    if chosen:
        project.read_runtime(Path(chosen), root)


def _own_folder(root: Path) -> Path:
    from pgtasks.settings import project

    return project.load(root).folder("tasks").resolve()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _add(tree: Any, path: Path, folder: Path, taken: dict[str, str], *, own: bool) -> None:
    """Add the tasks of one file as a collection; a task with the file's name goes to the root."""
    module = _loaded(path, folder, own=own)
    name = path.stem.replace("_", "-") if own else path.stem
    tasks = {task.name or key: task for key, task in vars(module).items() if isinstance(task, Task)}
    alone = list(tasks) == [path.stem]
    home = tree if alone or not tasks else _collection(tree, name)
    for task_name, task in tasks.items():
        full = task_name if alone else f"{name}.{task_name}"
        if full in taken and own:
            _say_replaced(task, home, task_name)
        taken[full] = str(path)
        shown = tree.transform(full)
        _wrap(task, shown)
        group.register(shown, task.body)
        default = bool(task.is_default) or task_name == path.stem
        home.add_task(task, name=task_name, default=default and not alone)


def _collection(tree: Any, name: str) -> Any:
    if name not in tree.collections:
        tree.add_collection(_Group(name))
    return tree.collections[name]


def _say_replaced(task: Any, home: Any, name: str) -> None:
    """Make `inv --list` show that a project's own task replaces a built-in one."""
    home.tasks.pop(home.transform(name), None)
    doc = (task.body.__doc__ or "").strip()
    first, newline, rest = doc.partition("\n")
    own = f"{first} (this project's own){newline}{rest}"
    task.__doc__ = own if doc else "This project's own."


def _wrap(task: Any, name: str) -> None:
    if not hasattr(task.body, "__pgtasks__"):
        task.body = edge.guarded(task.body, name)


def _loaded(path: Path, folder: Path, *, own: bool) -> ModuleType:
    """Load one file as a module, so that its folder need not be a package."""
    name = f"{'tasks' if own else edge.BUILTIN}.{path.stem}"
    if own and str(folder) not in sys.path:
        sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(name.replace(".", "_", 1), path)
    if spec is None or spec.loader is None:
        raise Exit(f"error: {path} cannot be loaded", code=3)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
