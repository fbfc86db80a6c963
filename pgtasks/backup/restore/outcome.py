"""The result of a restore, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.restore.masked import Masked
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.prove import Proven
from pgtasks.database.aside import Aside
from pgtasks.database.forget import Trimmed
from pgtasks.database.swap import Swapped
from pgtasks.report import typed

_REACHED = "the backup's own values were in this server's files and WAL meanwhile"


def _beside(plan: RestorePlan) -> str:
    """Return what a person may do with a database that was restored beside the target."""
    drop = Aside(plan.into, plan.origin, None).drop
    shell = typed.task("db.shell")
    way = f"\\c in {shell} leads to the new one, {drop} drops it"
    return f"{plan.target.database!r} is as it was: {way}"


@dataclass(frozen=True)
class Restored:
    """The result of a restore; `way_back` says how grants that it has left out come back."""

    plan: RestorePlan
    proven: Proven
    swapped: Swapped
    trimmed: Trimmed
    disabled: tuple[str, ...]  # subscriptions, as pg_dump saves them
    seconds: float
    masked: Masked | None = None
    way_back: tuple[str, ...] = ()

    @property
    def without_grants(self) -> bool:
        """Whether the environment's database has not got the grants of the backup."""
        return (self.plan.no_owner or self.plan.no_acl) and not self.plan.into

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan = self.plan
        did = "given its name" if plan.into else "swapped"  # nothing makes room for a new database
        swapped = f"{self.proven.sentence()}, {did} in {report.duration(self.swapped.seconds)}"
        lines = [f"restored {plan.result.database!r} from {plan.origin}: {swapped}"]
        if plan.foreign:
            lines += [f"not proven: {line}" for line in self.proven.unproven]
            lines += [f"not applied: {line}" for line in self.proven.omitted]
        if self.masked:
            lines += [f"masked {line}; {_REACHED}" for line in self.masked.lines]
        lines += [f"left out, and missing there until made: {name}" for name in plan.missing]
        outside = [name for name in plan.left.names if name not in plan.missing]
        lines += [f"left out: {name}, which reaches out of the database" for name in outside]
        if plan.into:
            lines.append(_beside(plan))
        elif self.swapped.kept:
            undo = typed.task("db.undo")
            lines.append(f"the old one is kept as {self.swapped.kept!r}: {undo} takes it back")
        elif plan.replaced and not plan.replaces:
            lines.append("what it replaces was dropped during the load, there is nothing to undo")
        else:
            nothing = "there was no such database before, so "
            nothing += "this put nothing away" if self.trimmed.kept else "there is nothing to undo"
            lines.append(nothing)
        for name in self.disabled:
            way = "docs/restore.md says how it goes on"
            lines.append(f"subscription {name!r} is disabled, as pg_dump saves it: {way}")
        return [*lines, *self.way_back, *self.trimmed.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        arrived = self.masked.arrived if self.masked else None
        counted = self.proven.counted
        return {
            **self.plan.as_json(),
            "tables": counted.tables if counted else self.plan.backup.manifest.tables,
            "rows_restored": counted.rows if counted else self.plan.backup.manifest.rows,
            "proven": self.proven.comparison is not None,
            "sentence": self.proven.sentence(),
            "unproven": list(self.proven.unproven),
            "accepted": [str(each) for each in self.proven.accepted],
            "not_applied": list(self.proven.omitted),
            "owner": self.plan.facts.owner,
            "system": self.plan.system,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            **self.trimmed.as_json(),
            "disabled_subscriptions": list(self.disabled),
            "masked": list(self.masked.lines) if self.masked else [],
            "arrived": arrived.as_json() if arrived else None,
            "seconds": round(self.seconds, 3),
        }
