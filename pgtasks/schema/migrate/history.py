"""List the revisions of the files, and which of them a database has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from alembic.script import Script
from alembic.util import to_tuple

from pgtasks import report
from pgtasks.schema.migrate import state
from pgtasks.schema.migrate.envpy import bare
from pgtasks.schema.migrate.plan import recorded
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision, State
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Entry:
    """A revision of the files.

    `below` are those that it follows, `labels` the names of its branch. `applied` is None if the
    files do not know the database's revision.
    """

    revision: Revision
    below: tuple[str, ...]
    labels: tuple[str, ...]
    applied: bool | None
    current: bool
    head: bool

    def row(self) -> tuple[str, ...]:
        """Return the cells of its line."""
        marks = [
            *(["current"] if self.current else []),
            *(["head"] if self.head else []),
            *([f"joins {', '.join(self.below)}"] if len(self.below) > 1 else []),
            *(f"branch {label}" for label in self.labels),
        ]
        words = {True: "applied", False: "pending", None: "not known"}
        return words[self.applied], self.revision.id, self.revision.message, ", ".join(marks)

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            **asdict(self.revision),
            "below": list(self.below),
            "labels": list(self.labels),
            "applied": self.applied,
            "current": self.current,
            "head": self.head,
        }


@dataclass(frozen=True)
class History:
    """The revisions, the newest first, and the state of the database."""

    state: State
    entries: tuple[Entry, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        rows = [entry.row() for entry in self.entries]
        headings = ("database", "revision", "message", "note")
        table = report.table(headings, rows, whole=("revision",)).splitlines() if rows else []
        return [*table, self.state.sentence()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "state": self.state.word,
            "current": list(self.state.current),
            "unknown": list(self.state.unknown),
            "revisions": [entry.as_json() for entry in self.entries],
        }


def history(scripts: Scripts, target: Target) -> History:
    """Return the revisions; the version table is read, and env.py does not run."""
    with bare(scripts) as (_, directory):
        current = recorded(target, directory)
        position = state.compare(current, directory, scripts)
        pending = {revision.id for revision in position.pending}
        strange = bool(position.unknown) and not set(current) - set(position.unknown)
        entries = tuple(
            _entry(script, scripts, position, None if strange else script.revision not in pending)
            for script in directory.walk_revisions()
        )
        return History(position, entries)


def _entry(script: Script, scripts: Scripts, position: State, applied: bool | None) -> Entry:
    return Entry(
        state.revision(script, scripts),
        to_tuple(script.down_revision, default=()),
        tuple(sorted(script.branch_labels)),
        applied,
        script.revision in position.current,
        script.is_head,
    )
