"""The project that the task tree belongs to, and the task that runs, stored for the process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgtasks.settings.project import Project

_tasks_file: Path | None = None
_tree: Any = None
_libpq: Mapping[str, str] = {}
_task = ContextVar("task", default="")
_empty: list[tuple[str, str]] = []


def set_file(file: Path) -> None:
    """Set the file of the task tree; the project is its folder."""
    global _tasks_file
    _tasks_file = file


def tasks_file() -> Path | None:
    """Return the file of the task tree, None if no tree was assembled."""
    return _tasks_file


def set_tree(tree: Any) -> None:
    """Remember the task tree, so that one task can call another one."""
    global _tree
    _tree = tree


def tree() -> Any:
    """Return the task tree, None if none was assembled."""
    return _tree


def given_empty(task: str, argument: str) -> None:
    """Remember that an argument of a task (`--into`, `ID`) was typed with an empty value."""
    _empty.append((task, argument))


def empty_arguments(task: str) -> list[str]:
    """Return the arguments of a task that were typed with an empty value."""
    return [each for typed, each in _empty if typed == task or typed.endswith(f".{task}")]


@contextmanager
def running(task: str) -> Iterator[None]:
    """Set the full name of the task that runs in the block."""
    before = _task.set(task)
    try:
        yield
    finally:
        _task.reset(before)


def task() -> str:
    """Return the full name of the task that runs."""
    name = _task.get()
    if not name:
        raise TypeError("no task of the tree that pgtasks.namespace returns is running")
    return name


def project_of(c: Any) -> Project:
    """Return the project of a task's context, reading its settings again.

    This removes the PG* variables from the process; a project's own task that never calls it keeps
    them.
    """
    global _libpq
    from pgtasks.settings import libpq, project

    _libpq = {**_libpq, **libpq.detach_variables(os.environ)}
    runtime = getattr(c.config, "_runtime_path", None)
    root = _tasks_file.parent if _tasks_file else project.find_root(Path.cwd())
    return project.load(root, runtime=Path(runtime) if runtime else None, libpq=_libpq)
