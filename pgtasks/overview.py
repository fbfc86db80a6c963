"""What `inv` alone says: where one is, and the tasks to begin with. Nothing is reached for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# as people type them, and what they are for: a line of 80 columns each
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


@dataclass(frozen=True)
class Overview:
    """Where one is, and what there is to do; `environments` are all that are known."""

    environment: str
    reason: str
    target: str
    environments: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        width = max(len(words) for words, _ in FIRST)
        return [
            f"environment {self.environment} ({self.reason})",
            f"known: {', '.join(self.environments)}",
            "",
            *(f"  inv {words.ljust(width)}  {about}" for words, about in FIRST),
            "",
            "inv --list shows all tasks, inv --help db.restore the flags of one",
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
