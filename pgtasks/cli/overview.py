"""The output of `inv` without a task: the environment, and the tasks to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.report import typed

# the command and its purpose: a line of 80 columns each
FIRST = (
    ("setup", "server, migrations, triggers, seeds: what is missing"),
    ("db.check", "server, role, stamp, leftovers: is all as it should be?"),
    ("db.backup", "one snapshot, with the proof of its content"),
    ("backup.list", "the backups there are"),
    ("db.restore --dry", "what a restore would do; then without --dry"),
    ("db.undo", "back to what was there before the last restore"),
    ("db.shell", "psql, led to the database"),
    ("migrate.up", "what the database lacks of the migration files"),
    ("env.list", "all environments; any task takes --env NAME"),
    ("env.use NAME", "the environment for this checkout from now on"),
)


_OF_ALL = ("env.list", "env.use")  # tasks without an environment


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
