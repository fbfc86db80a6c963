"""The output of db.backup and backup.show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pgtasks import report
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.prune import hands, rules
from pgtasks.backup.store.backup import Backup
from pgtasks.host import journal
from pgtasks.report import typed


def age(backup: Backup, now: datetime | None = None) -> float:
    """Return the seconds since the backup's snapshot."""
    return max(0.0, ((now or journal.clock()) - backup.manifest.taken).total_seconds())


def is_future(backup: Backup) -> bool:
    """Return whether a backup is dated in the future: the clock was wrong then, or is now."""
    return backup.manifest.taken > journal.clock() + rules.SKEW


def as_json(backup: Backup) -> dict[str, Any]:
    """Return the facts about a backup as plain data, without its list of files."""
    document = replace(backup.manifest, files={}).as_json()
    checks = backup.checks
    return {
        **document,
        "obstacles": list(backup.manifest.obstacles),
        "uncounted": backup.manifest.uncounted,
        "files": len(backup.manifest.files),
        "path": backup.folder,
        "where": backup.store.name,
        "size": backup.manifest.size,
        "complete": backup.manifest.complete,
        "age_seconds": round(age(backup)),
        "intact": checks.intact,
        "damaged": checks.damaged,
        "proven": checks.proven,
        "proven_by": checks.proven_by,
        "drilled": checks.drilled,
        "recovery_seconds": checks.recovery,
        "failed": checks.failed,
        "failure": checks.failure,
        **hands.retention_as_json(backup),
    }


@dataclass(frozen=True)
class BackupMade:
    """The result of db.backup."""

    backup: Backup

    def lines(self) -> list[str]:
        """Return what a person reads."""
        made = self.backup.manifest
        content = f"{report.plural(made.tables, 'table')}, {made.counted(otherwise='no proof')}"
        lines = [
            f"backup {made.id} of {made.environment}/{made.database}: {content}, "
            f"{report.size(made.size)} in {report.duration(made.seconds)}",
            self.backup.place,
        ]
        proof = self.backup.proof()
        unproven = proof.unproven if proof else ()
        lines += [f"not proven: {item.object}: {item.reason}" for item in unproven]
        return lines + [f"would stop a restore: {obstacle}" for obstacle in made.obstacles]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        proof = self.backup.proof()
        unproven = [[item.object, item.reason] for item in proof.unproven] if proof else []
        known = {"manifest_sha256": self.backup.fingerprint}
        return {**as_json(self.backup), **known, "unproven": unproven}


@dataclass(frozen=True)
class BackupShown:
    """The result of backup.show."""

    backup: Backup

    def lines(self) -> list[str]:
        """Return what a person reads, one line per fact."""
        made, checks = self.backup.manifest, self.backup.checks
        rows = "not counted" if made.rows is None else report.count(made.rows)
        if made.uncounted:
            rows += f" ({report.plural(made.uncounted, 'table')} not counted)"
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
            ("intact", checks.intact or f"not verified: {typed.task('backup.verify')}"),
            ("proven", _proven(checks)),
            ("path", self.backup.place),
        ]
        if checks.drilled:
            took = report.duration(checks.recovery or 0)
            facts.append(("drilled", f"{checks.drilled}, passed: the restore took {took}"))
        if checks.failed:
            facts.append(("failed", f"the drill of {checks.failed}: {checks.failure}"))
        if checks.damaged:
            facts.append(("damaged", f"{checks.damaged}: {checks.damage}"))
        facts += hands.facts(self.backup)
        if made.note:
            facts.append(("note", made.note))
        if made.schema_only:
            facts.append(("lacks", "all rows (--schema-only)"))
        facts += [("lacks", f"rows of {pattern}") for pattern in made.excluded_data]
        facts += [("warning", warning) for warning in made.warnings]
        facts += [("obstacle", obstacle) for obstacle in made.obstacles]
        return [report.hanging(f"{name:<9} ", text) for name, text in facts]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, each file with its size and checksum."""
        return {**as_json(self.backup), "files": self.backup.manifest.as_json()["files"]}


_UNPROVEN = "not restored and compared yet"


def _proven(checks: Checks) -> str:
    if not checks.proven:
        return f"no: the drill of {checks.failed} failed" if checks.failed else _UNPROVEN
    return f"{checks.proven} by {checks.proven_by}" if checks.proven_by else checks.proven


@dataclass(frozen=True)
class BackupPlan:
    """The plan of db.backup."""

    steps: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return list(self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"plan": list(self.steps)}
