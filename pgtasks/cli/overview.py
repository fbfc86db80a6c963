"""The output of `inv` without a task: the environment, and the tasks to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.report import typed

# the command and its purpose: a line of 80 columns each
FIRST = (
    ("setup", "set up server, migrations, triggers, seeds"),
    ("db.check", "check server, role, stamp, leftovers"),
    ("db.backup", "back up the database, with a proof of its content"),
    ("backup.list", "list the backups"),
    ("db.restore --dry", "show what a restore would do, and do nothing"),
    ("db.copy SOURCE TARGET", "copy a database over that of another environment"),
    ("db.undo", "take the last restore or copy back"),
    ("db.shell", "open psql on the database"),
    ("migrate.up", "apply the pending migrations"),
    ("env.list", "list all environments; any task takes --env NAME"),
    ("env.use NAME", "choose the environment of this checkout"),
)


_OF_ALL = ("db.copy", "env.list", "env.use")  # tasks that name their environments, or have none


def _typed(words: str) -> str:
    task, *flags = words.split(" ")
    return typed.inv(task, *flags) if task in _OF_ALL else typed.task(task, *flags)


@dataclass(frozen=True)
class Overview:
    """The environment and the first tasks; `environments` are all known ones."""

    environment: str
    reason: str
    target: str
    environments: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        commands = [(_typed(words), about) for words, about in FIRST]
        all_tasks, flags = typed.inv("--list"), typed.inv("--help", "db.restore")
        width = max(len(command) for command, _ in commands)
        return [
            f"environment {self.environment} ({self.reason})",
            f"known: {', '.join(self.environments)}",
            "",
            *(f"  {command.ljust(width)}  {about}" for command, about in commands),
            "",
            f"{all_tasks} shows all tasks, {flags} the flags of one",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.environment,
            "reason": self.reason,
            "target": self.target,
            "environments": list(self.environments),
            "tasks": [{"task": words.split()[0], "about": about} for words, about in FIRST],
        }
