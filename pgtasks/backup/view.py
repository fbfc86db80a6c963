"""Backups as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.store import Backup


def age(backup: Backup, now: datetime | None = None) -> float:
    """Return the seconds since the backup's snapshot."""
    taken = datetime.fromisoformat(backup.manifest.snapshot_time.replace("Z", "+00:00"))
    return max(0.0, ((now or datetime.now(timezone.utc)) - taken).total_seconds())


def as_json(backup: Backup) -> dict[str, Any]:
    """Return what is known of a backup without its list of files."""
    document = backup.manifest.as_json()
    checks = backup.checks
    return {
        **document,
        "files": len(document["files"]),
        "path": str(backup.path),
        "size": backup.manifest.size,
        "complete": backup.manifest.complete,
        "age_seconds": round(age(backup)),
        "intact": checks.intact,
        "damaged": checks.damaged,
        "proven": checks.proven,
    }


@dataclass(frozen=True)
class Made:
    """A backup that was just made."""

    backup: Backup

    def lines(self) -> list[str]:
        """Return what a person reads."""
        made = self.backup.manifest
        rows = "no proof" if made.rows is None else report.plural(made.rows, "row")
        content = f"{report.plural(made.tables, 'table')}, {rows}"
        lines = [
            f"backup {made.id} of {made.environment}/{made.database}: {content}, "
            f"{report.size(made.size)} in {report.duration(made.seconds)}",
            f"{self.backup.path}",
        ]
        proof = self.backup.proof()
        unproven = proof.unproven if proof else ()
        return lines + [f"not proven: {item.object}: {item.reason}" for item in unproven]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        proof = self.backup.proof()
        unproven = [[item.object, item.reason] for item in proof.unproven] if proof else []
        return {**as_json(self.backup), "unproven": unproven}


@dataclass(frozen=True)
class Shown:
    """One backup, with all that its manifest says."""

    backup: Backup

    def lines(self) -> list[str]:
        """Return what a person reads, one line per fact."""
        made, checks = self.backup.manifest, self.backup.checks
        rows = "not counted" if made.rows is None else report.count(made.rows)
        facts: list[tuple[str, str]] = [
            ("backup", made.id),
            ("of", f"{made.environment}/{made.database}, server {made.system}"),
            ("taken", f"{made.snapshot_time}, {report.age(age(self.backup))} ago"),
            ("by", f"{made.made_by}, in {report.duration(made.seconds)}"),
            ("server", made.server),
            ("pg_dump", ".".join(map(str, made.dump_tool))),
            ("format", f"{made.layout}, {made.compression}"),
            ("tables", report.count(made.tables)),
            ("rows", rows),
            ("revision", made.revision or "-"),
            ("database", report.size(made.database_bytes)),
            ("size", f"{report.size(made.size)}, {report.plural(len(made.files), 'file')}"),
            ("proof", "yes" if made.with_proof else "no"),
            ("intact", checks.intact or "not verified: inv backup.verify"),
            ("proven", checks.proven or "not restored and compared yet"),
            ("path", str(self.backup.path)),
        ]
        if checks.damaged:
            facts.append(("damaged", f"{checks.damaged}: {checks.damage}"))
        if made.note:
            facts.append(("note", made.note))
        if made.schema_only:
            facts.append(("lacks", "all rows (--schema-only)"))
        facts += [("lacks", f"rows of {pattern}") for pattern in made.excluded_data]
        facts += [("warning", warning) for warning in made.warnings]
        return [f"{name:<9} {text}" for name, text in facts]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, each file with its size and checksum."""
        return {**as_json(self.backup), "files": self.backup.manifest.as_json()["files"]}


@dataclass(frozen=True)
class Listing:
    """Backups, newest first, and folders that look like one and cannot be read."""

    backups: Sequence[Backup]
    unreadable: Sequence[tuple[Path, str]]
    leftovers: Sequence[Path]

    def lines(self) -> list[str]:
        """Return a table, and a line for each thing that is not as it should be."""
        lines = self._table() if self.backups else ["no backups"]
        lines += [f"unreadable: {why}" for _, why in self.unreadable]
        return lines + [
            f"interrupted: {path.name}, the next backup or inv db.recover removes it"
            for path in self.leftovers
        ]

    def summary(self) -> str:
        """Return what one line says: `3 backups, the newest 5 h old`."""
        if not self.backups:
            return "no backups"
        newest = report.age(min(map(age, self.backups)))
        return f"{report.plural(len(self.backups), 'backup')}, the newest {newest} old"

    def _table(self) -> list[str]:
        headings = ["backup", "age", "size", "tables", "rows", "revision", "intact", "proven"]
        several = len({_of(backup) for backup in self.backups}) > 1
        if several:
            headings.insert(1, "of")
        rows = [self._row(backup, several=several) for backup in self.backups]
        return report.table([*headings, "note"], rows).splitlines()

    def _row(self, backup: Backup, *, several: bool) -> list[Any]:
        made, checks = backup.manifest, backup.checks
        of = [_of(backup)] if several else []
        return [
            made.id,
            *of,
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
        return {
            "backups": [as_json(backup) for backup in self.backups],
            "unreadable": [{"path": str(path), "error": error} for path, error in self.unreadable],
            "interrupted": [str(path) for path in self.leftovers],
        }


def _of(backup: Backup) -> str:
    return f"{backup.manifest.environment}/{backup.manifest.database}"


def _note(backup: Backup) -> str:
    """Return what a person should know at a glance: what it lacks, then the note."""
    made = backup.manifest
    lacks = ["schema only"] if made.schema_only else []
    lacks += [f"without rows of {', '.join(made.excluded_data)}"] if made.excluded_data else []
    lacks += [] if made.with_proof else ["no proof"]
    return "; ".join([*lacks, *([made.note] if made.note else [])])


@dataclass(frozen=True)
class Planned:
    """What a backup would do."""

    steps: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return list(self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"plan": list(self.steps)}
