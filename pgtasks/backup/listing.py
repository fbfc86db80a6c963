"""The output of backup.list: the backups of an environment, here and on its host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks import report
from pgtasks.backup import standing
from pgtasks.backup.prune import hands
from pgtasks.backup.standing import Standing
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.views import age, as_json
from pgtasks.errors import PgtasksError
from pgtasks.report import terminal, typed

BOTH = "both"
_WIDE = 110  # columns of a terminal with room for two times
_DAY = len("2026-11-29")


@dataclass(frozen=True)
class StorePart:
    """The contents of one store, or the error that prevented reading it."""

    name: str
    contents: Contents = field(default_factory=Contents)
    fault: PgtasksError | None = None


@dataclass(frozen=True)
class StoredBackup:
    """A backup, and the same backup in other stores."""

    backup: Backup
    twins: Sequence[Backup] = ()

    @property
    def where(self) -> str:
        """Return the name of its store, or `both`."""
        return BOTH if self.twins else self.backup.store.name


@dataclass(frozen=True)
class BackupList:
    """The backups of one or more stores, newest first, and the unreadable ones.

    `chosen` is the database of the run, as `environment/database`. The table names the databases
    of the backups unless all are of that one.
    """

    parts: Sequence[StorePart]
    chosen: str = ""

    def lines(self) -> list[str]:
        """Return a table, a line for each unreadable or interrupted backup, and the standing."""
        placed, recover = self.placed(), typed.task("db.recover")
        lines = self._table(placed) if placed else ["no backups"]
        for part in self.parts:
            lines += [f"unreadable: {broken.error.message}" for broken in part.contents.broken]
            lines += [
                f"interrupted: {place}, the next backup there or {recover} completes or removes it"
                for place in part.contents.interrupted
            ]
            if dropped := hands.trash_line(part.contents.trash):
                where = f" ({part.name})" if len(self.parts) > 1 else ""
                lines.append(report.hanging("", f"{dropped}{where}"))
        how = self.standing()
        return [*lines, *([report.hanging("", how.line())] if how else [])]

    def standing(self) -> Standing | None:
        """Return the standing of the chosen database, None if no backup of it is listed."""
        backups = [each for part in self.parts for each in part.contents.backups]
        own = [each for each in backups if _of(each) == self.chosen]
        return standing.of(own) if own else None

    def summary(self) -> str:
        """Return one line: `3 backups, the newest 5 h old`."""
        placed = self.placed()
        number = sum(len(part.contents.broken) for part in self.parts)
        beside = f", {number} that cannot be read" if number else ""
        if not placed:
            return f"no backups{beside}"
        newest = report.age(min(age(each.backup) for each in placed))
        return f"{report.plural(len(placed), 'backup')}, the newest {newest} old{beside}"

    def check(self) -> None:
        """Raise the error of a store that could not be read."""
        for part in self.parts:
            if part.fault is not None:
                raise type(part.fault)(
                    f"only the backups of this machine are listed: {part.fault.message}",
                    hint=part.fault.hint,
                    details=self.as_json(),
                )

    def placed(self) -> list[StoredBackup]:
        """Return each backup once, also if several stores have it."""
        placed: dict[tuple[str, int], StoredBackup] = {}
        for number, part in enumerate(self.parts):
            for backup in part.contents.backups:
                first = placed.get((backup.id, 0))
                if number and first and _same(first.backup, backup):
                    placed[backup.id, 0] = replace(first, twins=(*first.twins, backup))
                else:
                    placed[backup.id, number] = StoredBackup(backup)
        return sorted(placed.values(), key=_when, reverse=True)

    def _table(self, placed: Sequence[StoredBackup]) -> list[str]:
        headings = ["backup", "age", "size", "tables", "rows", "revision", "intact", "proven"]
        if len(self.parts) > 1:
            headings.insert(1, "where")
        named = {_of(each.backup) for each in placed} != {self.chosen}
        if named:
            headings.insert(1, "of")
        rows = [self._row(each, named=named) for each in placed]
        whole, gives = ("backup", "intact", "proven"), ("revision", "tables", "rows", "note")
        headings.append("note")
        table = report.table(headings, rows, whole=whole, gives=gives)
        return table.splitlines()

    def _row(self, placed: StoredBackup, *, named: bool) -> list[Any]:
        backup = placed.backup
        made, checks = backup.manifest, backup.checks
        return [
            made.id,
            *([_of(backup)] if named else []),
            *([placed.where] if len(self.parts) > 1 else []),
            report.age(age(backup)),
            report.size(made.size),
            made.tables,
            made.shown_rows,
            made.revision or "-",
            "DAMAGED" if checks.damaged else _moment(checks.intact),
            "FAILED" if checks.failed else _moment(checks.proven),
            described(backup),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        broken = [broken for part in self.parts for broken in part.contents.broken]
        how = self.standing()
        return {
            "standing": how.as_json() if how else None,
            "backups": [_document(each) for each in self.placed()],
            "unreadable": [{"path": each.place, "error": each.error.message} for each in broken],
            "interrupted": [place for part in self.parts for place in part.contents.interrupted],
            "trash": [
                {"backup": each.id, "where": part.name, "dropped": each.dropped.isoformat()}
                for part in self.parts
                for each in part.contents.trash
                if not each.removing
            ],
        }


def _document(placed: StoredBackup) -> dict[str, Any]:
    elsewhere = {"there": placed.twins[0].folder} if placed.twins else {}
    return {**as_json(placed.backup), "where": placed.where, **elsewhere}


def _same(first: Backup, second: Backup) -> bool:
    damaged = first.checks.damaged or second.checks.damaged
    return not damaged and first.manifest == second.manifest


def _when(placed: StoredBackup) -> tuple[str, str]:
    return placed.backup.manifest.snapshot_time, placed.backup.id


def _moment(when: str | None) -> str:
    """Return a time, of which a narrow terminal has room for the day."""
    width = terminal.columns(sys.stdout)
    day = width is not None and width < _WIDE
    return (when[:_DAY] if day else when) if when else "-"


def _of(backup: Backup) -> str:
    return f"{backup.manifest.environment}/{backup.manifest.database}"


def described(backup: Backup) -> str:
    """Return the last column: what the backup lacks, then its note."""
    made = backup.manifest
    lacks = ["schema only"] if made.schema_only else []
    lacks += [f"without rows of {', '.join(made.excluded_data)}"] if made.excluded_data else []
    lacks += [] if made.with_proof else ["no proof"]
    said = [*lacks, *hands.note(backup)]
    return "; ".join([*said, *([made.note] if made.note else [])])
