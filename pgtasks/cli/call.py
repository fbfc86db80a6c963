"""Call a task of the tree from another task."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from invoke import Task

from pgtasks.cli import context
from pgtasks.errors import Refused


def call(name: str, c: Any, **flags: Any) -> None:
    """Run a task by its full name: `pgtasks.call("db.backup", c, note="before deploy")`.

    `c` is the context of the calling task. Flags have their long names, with `_` for `-`; those
    that are not given have their defaults. The task prints, asks and writes to the journal as from
    the command line. Raises what the task raises, a class of pgtasks.errors, and Refused for an
    unknown task or flag.
    """
    task = _task(name)
    body = inspect.unwrap(task.body, stop=lambda each: not hasattr(each, "__pgtasks__"))
    parameters = {each.strip("_"): each for each in [*inspect.signature(body).parameters][1:]}
    unknown = sorted(flags.keys() - parameters.keys())
    if unknown:
        known = ", ".join(sorted(parameters)) or "none"
        raise Refused(f"task {name!r} has no flag {unknown[0]!r}, it has: {known}")
    lists: dict[str, Any] = {each: [] for each in task.iterable}
    with context.running(getattr(task.body, "__pgtasks__", name)):
        body(c, **lists | {parameters[flag]: value for flag, value in flags.items()})


def _task(name: str) -> Task:
    tree = context.tree()
    names = list(tree.task_names) if tree else []
    try:
        return tree[name]
    except (KeyError, TypeError, ValueError):  # unknown, no tree, a collection
        near = difflib.get_close_matches(name, names, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise Refused(f"unknown task {name!r}{hint}") from None
