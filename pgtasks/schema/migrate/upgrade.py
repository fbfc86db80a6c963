"""Bring a database to the head of its files: backup, revisions, triggers, roles, statistics."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.report.boundaries import boundary
from pgtasks.schema import privileges, step, trigger
from pgtasks.schema.migrate.perform import plan as planned
from pgtasks.schema.migrate.perform import status, with_sql
from pgtasks.schema.migrate.pipeline import Moved, Pipeline
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.step import Step, skipped
from pgtasks.server.identity import Identity
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class UpgradePlan:
    """The revisions to apply, and what comes before and after them.

    `triggers` says how the trigger files differ, empty if they agree with the database; `roles` is
    the number of files of roles, which run after revisions that reach the head.
    """

    revisions: MigrationPlan
    backs_up: bool
    triggers: str = ""
    roles: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the database has all revisions and triggers already."""
        return not (self.revisions.steps or self.triggers)

    def announcement(self) -> list[str]:
        """Return the lines that are printed before a run."""
        return [*self.revisions.announcement(), *self._around()]

    def lines(self) -> list[str]:
        """Return the lines for --dry."""
        if self.is_empty:
            return self.revisions.lines()
        revisions = self.revisions.lines() if self.revisions.steps else []
        sign = "-- " if self.revisions.with_sql else ""
        return [*revisions, *(f"{sign}{line}" for line in self._around())]

    def with_sql(self, scripts: Scripts, target: Target, identity: Identity) -> UpgradePlan:
        """Return the plan with its SQL, which the revisions print in Alembic's --sql mode."""
        return replace(self, revisions=with_sql(scripts, target, identity, self.revisions))

    def _around(self) -> list[str]:
        return [
            *(["backup: before the first revision"] if self.backs_up else []),
            *([f"triggers: {self.triggers}"] if self.triggers else []),
            *([f"roles: {report.plural(self.roles, 'file')}"] if self.roles else []),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            **self.revisions.as_json(),
            "backs_up": self.backs_up,
            "triggers": self.triggers,
            "roles": self.roles,
        }


class Upgrade(Pipeline):
    """An upgrade of one database."""

    def plan(self, *, exact: bool = False, protection: str = "") -> UpgradePlan:
        """Return the plan; no code of the project runs, unless it is to be `exact`.

        `protection` is the reason why a backup is not optional, if it is not.
        """
        revisions = planned(*self.place, "up", self.options.to, exact=exact)
        backs_up = self.backs_up(revisions, protection)
        roles = len(privileges.read(self.project)) if revisions.reaches_head else 0
        return UpgradePlan(revisions, backs_up, self._differing(revisions), roles)

    def _differing(self, revisions: MigrationPlan) -> str:
        """Return how trigger files differ; they belong to the head of the revisions."""
        if not revisions.reaches_head:
            return ""
        files = trigger.read(self.project)
        verification = trigger.verify(files, self.target) if files else None
        return verification.sentence() if verification and verification.faults() else ""

    def perform(self, plan: UpgradePlan, lock: Lock, reached: Reached) -> Moved:
        """Run a plan, printing each step as it ends; the caller holds the lock."""
        revisions = plan.revisions
        began = time.monotonic()
        boundary("migrate.locked")
        with self.explaining(revisions):
            self.run("backup", lambda: self.back_up("migrate.up", revisions, reached))
            boundary("migrate.backed-up")
            self.run("upgrade", lambda: self.move(revisions))
            boundary("migrate.upgraded")
            lock.check()
            self.run("triggers", lambda: self._triggers(revisions))
            boundary("migrate.triggers")
            self.run("roles", lambda: self._roles(revisions))
            self.run("verify", lambda: self._verify(revisions))
            boundary("migrate.verified")
            self.run("analyze", self.analyze)
            self.run("schema", lambda: self._schema(revisions, reached))
        return self.result(revisions, self._state, began)

    def _triggers(self, revisions: MigrationPlan) -> Step:
        if not revisions.reaches_head:
            return skipped("", "the files belong to the head of the revisions")
        return step.triggers(self.project, self.target)

    def _roles(self, revisions: MigrationPlan) -> Step:
        if not revisions.reaches_head:
            return skipped("", "the files belong to the head of the revisions")
        return step.roles(self.project, self.target)

    def _verify(self, revisions: MigrationPlan) -> Step:
        self._state = state = status(*self.place)
        parts = [state.sentence()]
        for line in state.invalid_lines():
            self.console.say(f"warning: {line}")
        if revisions.reaches_head:
            state.check()
            if files := trigger.read(self.project):
                verification = trigger.verify(files, self.target)
                verification.check()
                parts.append(f"triggers {verification.sentence()}")
        return Step("", "done", "; ".join(parts))

    def _schema(self, revisions: MigrationPlan, reached: Reached) -> Step:
        """Write the schema file if the project has one, or compare it for a protected target."""
        from pgtasks.schema import file as schema  # as in Pipeline.back_up

        path = schema.place(self.project, None)
        if not path.is_file():
            return skipped("", f"the project has no {path.name}")
        if not revisions.reaches_head:
            return skipped("", "the file belongs to the head of the revisions")
        made = schema.compared(self.project, path, self.target, reached.host)
        if made.is_foreign:
            return skipped("", f"{made.name} {schema.NOT_OURS}")
        if self.target.protected and made.changed:
            # what differs there is for a person to look at, and no change of this checkout
            self.console.say(f"warning: {made.sentence()}")
            return Step("", "unchanged", made.sentence())
        written = schema.write(made)
        return Step("", "done" if written.written else "unchanged", written.lines()[0])
