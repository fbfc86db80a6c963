"""Take revisions back: backup, downgrade, statistics; name the backup that has what is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.views import age
from pgtasks.report import typed
from pgtasks.schema import trigger
from pgtasks.schema.migrate.perform import plan as planned
from pgtasks.schema.migrate.perform import status, with_sql
from pgtasks.schema.migrate.pipeline import Moved, Pipeline
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server.identity import Identity
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class DowngradePlan:
    """The revisions to take back.

    `earlier` is the newest backup of the database at the revision to which the run leads, None if
    there is none. It is named, and never restored.
    """

    revisions: MigrationPlan
    backs_up: bool
    earlier: Backup | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.revisions.is_empty

    def announcement(self) -> list[str]:
        """Return the lines that are printed before a run."""
        return [*self.revisions.announcement(), *self._around()]

    def lines(self) -> list[str]:
        """Return the lines for --dry."""
        sign = "-- " if self.revisions.with_sql else ""
        return [*self.revisions.lines(), *(f"{sign}{line}" for line in self._around())]

    def with_sql(self, scripts: Scripts, target: Target, identity: Identity) -> DowngradePlan:
        """Return the plan with its SQL, which the revisions print in Alembic's --sql mode."""
        return replace(self, revisions=with_sql(scripts, target, identity, self.revisions))

    def _around(self) -> list[str]:
        if self.is_empty:
            return []
        backup = ["backup: before the first downgrade"] if self.backs_up else []
        return [*backup, *self._offer()]

    def _offer(self) -> list[str]:
        """Return the line about the backup that has what a downgrade cannot bring back."""
        at = ", ".join(self.revisions.after) or "no revision"
        if self.earlier is None:
            return []
        way = typed.task("db.restore", f"--backup {self.earlier.id}")
        return [
            f"instead: the database at {at} as it was {report.age(age(self.earlier))} ago, "
            f"without the rows written since: {way}"
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        earlier = self.earlier
        known = {"id": earlier.id, "age_seconds": round(age(earlier))} if earlier else None
        return {**self.revisions.as_json(), "backs_up": self.backs_up, "earlier_backup": known}


class Downgrade(Pipeline):
    """A downgrade of one database."""

    def plan(self, *, exact: bool = False, protection: str = "") -> DowngradePlan:
        """Return the plan; no code of the project runs, unless it is to be `exact`."""
        revisions = planned(*self.place, "down", self.options.to, exact=exact)
        earlier = self._earlier(revisions) if revisions.steps else None
        return DowngradePlan(revisions, self.backs_up(revisions, protection), earlier)

    def _earlier(self, revisions: MigrationPlan) -> Backup | None:
        """Return the newest whole backup on this machine of the database at the destination."""
        contents = LocalStore(self.project.folder("backups")).list()
        own = contents.of(self.target.environment, self.target.database)
        at = ",".join(revisions.after)
        fitting = (each for each in own if at and each.manifest.revision == at)
        return next((each for each in fitting if not each.manifest.schema_only), None)

    def perform(self, plan: DowngradePlan, lock: Lock, reached: Reached) -> Moved:
        """Run a plan, printing each step as it ends; the caller holds the lock."""
        revisions = plan.revisions
        began = time.monotonic()
        with self.explaining(revisions):
            self.run("backup", lambda: self.back_up("migrate.down", revisions, reached))
            self.run("downgrade", lambda: self.move(revisions))
            lock.check()
            self.run("analyze", self.analyze)
        # the files belong to the head of the revisions
        notes = trigger.differences(self.project, self.target)
        return self.result(revisions, status(*self.place), began, notes)
