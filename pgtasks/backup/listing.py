"""The list of an environment's backups, here and on its host, as people and programs read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.views import HERE, age, as_json, where
from pgtasks.errors import PgtasksError
from pgtasks.report import typed

BOTH = "both"


@dataclass(frozen=True)
class There:
    """What lies on a database host, or the `fault` for which that is not known."""

    host: str
    backups: Sequence[Backup] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    leftovers: Sequence[str] = ()
    fault: PgtasksError | None = None


@dataclass(frozen=True)
class Placed:
    """A backup and where it lies; `twin` is the same one on the host."""

    backup: Backup
    where: str
    twin: Backup | None = None


@dataclass(frozen=True)
class Listing:
    """Backups, newest first, and folders that look like one and cannot be read.

    `there` is what lies on the database host, None for a target that has none.
    """

    backups: Sequence[Backup]
    unreadable: Sequence[tuple[Path, str]]
    leftovers: Sequence[Path]
    there: There | None = None

    def lines(self) -> list[str]:
        """Return a table, and a line for each thing that is not as it should be."""
        placed, recover = self.placed(), typed.task("db.recover")
        lines = self._table(placed) if placed else ["no backups"]
        lines += [f"unreadable: {why}" for _, why in self.unreadable]
        lines += [
            f"interrupted: {path.name}, the next backup or {recover} finishes or removes it"
            for path in self.leftovers
        ]
        if self.there is None:
            return lines
        lines += [f"unreadable: {why}" for _, why in self.there.unreadable]
        return lines + [
            f"interrupted: {path}, the next backup there or {recover} removes it"
            for path in self.there.leftovers
        ]

    def summary(self) -> str:
        """Return what one line says: `3 backups, the newest 5 h old`."""
        placed = self.placed()
        number = len(self.unreadable) + len(self.there.unreadable if self.there else ())
        beside = f", {number} that cannot be read" if number else ""
        if not placed:
            return f"no backups{beside}"
        newest = report.age(min(age(one.backup) for one in placed))
        return f"{report.plural(len(placed), 'backup')}, the newest {newest} old{beside}"

    def check(self) -> None:
        """Raise why the host was not asked, if so."""
        if self.there is None or self.there.fault is None:
            return
        fault = self.there.fault
        raise type(fault)(
            f"the backups of this machine alone are listed: {fault.message}",
            hint=fault.hint,
            details=self.as_json(),
        )

    def placed(self) -> list[Placed]:
        """Return each backup with where it lies; the same one in both places comes once."""
        if self.there is None:
            return [Placed(backup, HERE) for backup in self.backups]
        there = {backup.id: backup for backup in self.there.backups}
        placed = []
        for backup in self.backups:
            twin = there.get(backup.id)
            if twin is not None and _same(backup, twin):
                placed.append(Placed(backup, BOTH, there.pop(backup.id)))
            else:
                placed.append(Placed(backup, HERE))
        placed += [Placed(backup, where(backup)) for backup in there.values()]
        return sorted(placed, key=_when, reverse=True)

    def _table(self, placed: Sequence[Placed]) -> list[str]:
        headings = ["backup", "age", "size", "tables", "rows", "revision", "intact", "proven"]
        if self.there is not None:
            headings.insert(1, "where")
        several = len({_of(one.backup) for one in placed}) > 1
        if several:
            headings.insert(1, "of")
        rows = [self._row(one, several=several) for one in placed]
        whole, gives = ("backup", "intact", "proven"), ("note", "revision", "tables", "rows")
        return report.table([*headings, "note"], rows, whole=whole, gives=gives).splitlines()

    def _row(self, placed: Placed, *, several: bool) -> list[Any]:
        backup = placed.backup
        made, checks = backup.manifest, backup.checks
        return [
            made.id,
            *([_of(backup)] if several else []),
            *([placed.where] if self.there is not None else []),
            report.age(age(backup)),
            report.size(made.size),
            made.tables,
            made.rows,
            made.revision or "-",
            "DAMAGED" if checks.damaged else checks.intact or "-",
            checks.proven or "-",
            _note(backup),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        there = self.there or There("")
        unreadable = (*self.unreadable, *there.unreadable)
        return {
            "backups": [_document(one) for one in self.placed()],
            "unreadable": [{"path": str(path), "error": error} for path, error in unreadable],
            "interrupted": [str(path) for path in (*self.leftovers, *there.leftovers)],
        }


def _document(placed: Placed) -> dict[str, Any]:
    there = {"there": placed.twin.folder} if placed.twin else {}
    return {**as_json(placed.backup), "where": placed.where, **there}


def _same(here: Backup, there: Backup) -> bool:
    damaged = here.checks.damaged or there.checks.damaged
    return not damaged and here.manifest == there.manifest


def _when(placed: Placed) -> tuple[str, str]:
    return placed.backup.manifest.snapshot_time, placed.backup.id


def _of(backup: Backup) -> str:
    return f"{backup.manifest.environment}/{backup.manifest.database}"


def _note(backup: Backup) -> str:
    """Return what a person should know at a glance: what it lacks, then the note."""
    made = backup.manifest
    lacks = ["schema only"] if made.schema_only else []
    lacks += [f"without rows of {', '.join(made.excluded_data)}"] if made.excluded_data else []
    lacks += [] if made.with_proof else ["no proof"]
    return "; ".join([*lacks, *([made.note] if made.note else [])])
