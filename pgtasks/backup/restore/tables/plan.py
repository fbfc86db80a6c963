"""The plan of a restore of single tables: what is replaced, created, locked and lost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.restore.plan import Loss, RestorePlan
from pgtasks.backup.restore.tables.choice import Choice, name_of
from pgtasks.backup.restore.tables.standing import Standing
from pgtasks.report import typed
from pgtasks.server.proof import Proof
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class TablesPlan:
    """Everything that is known before anything is written.

    `base` is the plan of the side database; `made` are tables that do not exist; `role` is the role
    of the session that writes, empty for the connecting role, and `held` means that it needs a
    login of its own. `extra` are live partitions that the backup does not have.
    """

    base: RestorePlan
    choice: Choice
    standing: Standing
    made: tuple[Entry, ...]
    role: str
    held: bool
    losses: tuple[Loss, ...]
    extra: tuple[str, ...] = ()
    backs_up: bool = False
    notes: tuple[str, ...] = ()
    expected: Proof | None = None

    @property
    def target(self) -> Target:
        """Return the live database."""
        return self.base.target

    @property
    def purpose(self) -> str:
        """Return why a backup is taken before."""
        names = ", ".join(self.names)
        return f"before db.restore of {names} from {self.base.origin}"

    @property
    def names(self) -> list[str]:
        """Return the names of the tables without their partitions."""
        parents = {name_of(entry) for entry in self.choice.tables}
        return [
            qualified(*name_of(entry))
            for entry in self.choice.tables
            if (above := self.choice.parent(entry)) is None or name_of(above) not in parents
        ]

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        base = self.base
        manifest = base.backup.manifest
        return [
            f"backup   {manifest.id} of {manifest.environment}/{manifest.database},"
            f" taken {manifest.snapshot_time}",
            f"tools    pg_restore {base.tools}, {report.plural(base.jobs, 'job')}",
            f"build    {base.side!r}, with these tables alone; it is dropped afterwards",
            *self._tables(),
            *self._locks(),
            *self._undo(),
            *(f"note     {note}" for note in self.notes),
            *self._rows(),
        ]

    def _tables(self) -> Iterator[str]:
        made = {qualified(*name_of(entry)) for entry in self.made}
        for name in self.names:
            verb = "create  " if name in made else "replace "
            what = "" if name in made else "the rows of "
            yield f"{verb} {what}{name} in {self.target.database!r}, in one transaction"

    def _locks(self) -> Iterator[str]:
        if names := self.standing.beside():
            yield (
                f"lock     {', '.join(names)}, which {'refer' if names[1:] else 'refers'} to them:"
                " nobody reads or writes there until the rows are in"
            )

    def _undo(self) -> Iterator[str]:
        if self.backs_up:
            yield f"backup   {self.target}, before anything is built"
        elif self.standing.tables:
            yield "undo     there is none: --backup-first keeps the rows of now in a backup"

    def _rows(self) -> list[str]:
        cells = [
            (
                loss.table,
                "-" if loss.now is None else ("~" if loss.estimated else "") + f"{loss.now:,}",
                "not counted" if loss.backup is None else f"{loss.backup:,}",
            )
            for loss in self.losses
            if (loss.now, loss.backup) != (0, 0)
        ]
        headings = ("table", "rows now", "rows in the backup")
        return report.table(headings, cells, indent=2).splitlines() if cells else []

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "backup": self.base.backup.id,
            "origin": self.base.origin,
            "tools": str(self.base.tools),
            "side": self.base.side,
            "only_tables": self.names,
            "created": [qualified(*name_of(entry)) for entry in self.made],
            "locked": self.standing.beside(),
            "backup_first": self.backs_up,
            "notes": list(self.notes),
            "rows": [
                {"table": loss.table, "now": loss.now, "backup": loss.backup}
                for loss in self.losses
            ],
        }


def undone(plan: TablesPlan, backup: str) -> str:
    """Return the command that brings the rows of before back."""
    words = (f"--only-table {shlex.quote(name)}" for name in plan.names)
    return typed.task("db.restore", f"--backup {backup}", *words)
