"""The result of a restore in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.restore.inplace.plan import InPlacePlan
from pgtasks.backup.restore.inplace.write import Written
from pgtasks.report import typed
from pgtasks.server.proof.difference import Difference


@dataclass(frozen=True)
class RestoredInPlace:
    """A database whose content is that of a backup; `before` is the ID of the backup taken before.

    `unproven` are lines on what was not compared, `way_back` on how grants that were left out come
    back.
    """

    plan: InPlacePlan
    written: Written
    before: str
    accepted: tuple[Difference, ...]
    unproven: tuple[str, ...]
    seconds: float
    way_back: tuple[str, ...] = ()

    @property
    def without_grants(self) -> bool:
        """Whether the database has not got the grants of the backup."""
        return self.plan.base.no_owner or self.plan.base.no_acl

    @property
    def sentence(self) -> str:
        """Return what was compared: `17 of 17 tables identical, 812,004 rows`."""
        comparison = self.written.comparison
        if comparison is None:
            return "not proven: the backup was taken without a proof"
        number = report.plural(len(self.accepted), "difference")
        return f"{comparison}{f', {number} accepted' if self.accepted else ''}"

    def lines(self) -> list[str]:
        """Return what a person reads."""
        base, name = self.plan.base, self.plan.target.database
        took, locked = map(report.duration, (self.seconds, self.written.locked))
        lines = [
            f"restored {name!r} from {base.origin} in place: {self.sentence}, in {took}; who read "
            f"or wrote there waited up to {locked}"
        ]
        lines += [f"left out, and missing there until made: {name}" for name in base.missing]
        lines += [f"put back: {each}, which the load had changed" for each in self.written.changed]
        if self.before:
            back = typed.task("db.restore", f"--backup {self.before}", "--in-place")
            lines.append(
                "what was there is in a backup, but for what was written after it was taken: "
                f"{back}"
            )
        else:
            lines.append("what was there is gone, there is nothing to undo")
        return [*lines, *self.way_back]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        manifest = self.plan.base.backup.manifest
        return {
            **self.plan.as_json(),
            "tables": manifest.tables,
            "rows_restored": manifest.rows,
            "proven": self.written.comparison is not None,
            "sentence": self.sentence,
            "unproven": list(self.unproven),
            "accepted": [str(each) for each in self.accepted],
            "backup_before": self.before or None,
            "locked_seconds": round(self.written.locked, 3),
            "seconds": round(self.seconds, 3),
        }
