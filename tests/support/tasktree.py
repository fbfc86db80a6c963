"""The built-in tasks by full name."""

from __future__ import annotations

from invoke import Collection, Task
from paths import ROOT

import pgtasks


def tree() -> dict[str, Task]:
    """Return the built-in tasks by full name."""
    found: dict[str, Task] = {}

    def walk(collection: Collection, prefix: str) -> None:
        for name, task in collection.tasks.items():
            found[prefix + name] = task
        for name, inner in collection.collections.items():
            walk(inner, f"{prefix}{name}.")

    walk(pgtasks.namespace(ROOT / "tasks.py"), "")
    return found


TASKS = tree()
