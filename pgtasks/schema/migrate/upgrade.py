"""Bring a database to the head of its files: backup, revisions, triggers, statistics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.backup import first
from pgtasks.backup.store.base import Backup
from pgtasks.errors import PgtasksError, Refused
from pgtasks.report import Console, typed
from pgtasks.report.boundaries import boundary
from pgtasks.schema import step, trigger
from pgtasks.schema.migrate import touched, waiting
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.errors import LockTimeout
from pgtasks.schema.migrate.ledger import LOCK_TIMEOUT, Milliseconds
from pgtasks.schema.migrate.perform import Applied, Migrated, perform, status, with_sql
from pgtasks.schema.migrate.perform import plan as planned
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.step import Step, skipped
from pgtasks.server.identity import Identity
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

NOTE = "before migrate.up"
_UNITS: dict[str, Milliseconds] = {"ms": 1, "s": 1_000, "min": 60_000, "": 1_000}
_RETRIES = 3
_MOST_RETRIES = 100
_PAUSE = 1.0  # seconds before the second attempt, twice that before each further one
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class UpgradeOptions:
    """How to upgrade: the destination in Alembic's syntax, whether to back up first, the locks.

    `retries` is the number of further attempts after a statement did not get its lock.
    """

    to: str = "head"
    backup: bool = True
    lock_timeout: Milliseconds = LOCK_TIMEOUT
    retries: int = _RETRIES


def options(
    *, to: str, backup: bool, lock_timeout: str | None, retries: str | None
) -> UpgradeOptions:
    """Return the options of the flags, raising Refused for a value that cannot be meant."""
    return UpgradeOptions(to, backup, milliseconds(lock_timeout), _number(retries))


def milliseconds(text: str | None) -> Milliseconds:
    """Return a duration like 5s, 500ms or 1min; a bare number is in seconds, 0 has no limit."""
    if text is None:
        return LOCK_TIMEOUT
    match = re.fullmatch(r"([0-9]{1,6})(ms|s|min|)", text.strip())
    if match is None:
        raise Refused(f"--lock-timeout {text!r}, expected a duration like 5s, 500ms or 1min")
    return int(match[1]) * _UNITS[match[2]]


def _number(text: str | None) -> int:
    if text is None:
        return _RETRIES
    if not text.isascii() or not text.isdecimal() or int(text) > _MOST_RETRIES:
        raise Refused(f"--retries {text!r}, expected a number from 0 to {_MOST_RETRIES}")
    return int(text)


@dataclass(frozen=True)
class UpgradePlan:
    """The revisions to apply, and what comes before and after them.

    `triggers` says how the trigger files differ, empty if they agree with the database.
    """

    revisions: MigrationPlan
    backs_up: bool
    triggers: str = ""

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
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            **self.revisions.as_json(),
            "backs_up": self.backs_up,
            "triggers": self.triggers,
        }


@dataclass(frozen=True)
class Upgraded:
    """The result of an upgrade; the line of each step was printed when it ended."""

    migrated: Migrated
    steps: tuple[Step, ...] = ()
    backup: str = ""

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return self.migrated.lines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            **self.migrated.as_json(),
            "backup": self.backup or None,
            "steps": [each.as_json() for each in self.steps],
        }


class Upgrade:
    """An upgrade of one database: planned, agreed to by the caller, then performed."""

    def __init__(
        self,
        project: Project,
        scripts: Scripts,
        target: Target,
        identity: Identity,
        options: UpgradeOptions,
        *,
        console: Console,
    ) -> None:
        self.project, self.options, self.console = project, options, console
        self.scripts, self.target, self.identity = scripts, target, identity
        self.steps: list[Step] = []
        self.backup: Backup | None = None
        self._applied: list[Applied] = []
        self._statements: list[str] = []

    def plan(self, *, exact: bool = False, protection: str = "") -> UpgradePlan:
        """Return the plan; no code of the project runs, unless it is to be `exact`.

        `protection` is the reason why a backup is not optional, if it is not.
        """
        place = (self.scripts, self.target, self.identity)
        revisions = planned(*place, "up", self.options.to, exact=exact)
        backs_up = bool(revisions.steps) and not self.identity.empty
        if backs_up and not self.options.backup:
            if protection:
                raise Refused(f"--no-backup: {protection}, it is migrated after a backup alone")
            backs_up = False
        return UpgradePlan(revisions, backs_up, self._differing(revisions))

    def _differing(self, revisions: MigrationPlan) -> str:
        """Return how trigger files differ; they belong to the head of the revisions."""
        if not revisions.reaches_head:
            return ""
        files = trigger.read(self.project)
        verification = trigger.verify(files, self.target) if files else None
        return verification.sentence() if verification and verification.faults() else ""

    def perform(self, plan: UpgradePlan, lock: Lock, reached: Reached) -> Upgraded:
        """Run a plan, printing each step as it ends; the caller holds the lock."""
        began = time.monotonic()
        boundary("migrate.locked")
        try:
            self._run("backup", lambda: self._backup(plan, reached))
            boundary("migrate.backed-up")
            self._run("upgrade", lambda: self._upgrade(plan.revisions))
            boundary("migrate.upgraded")
            lock.check()
            self._run("triggers", lambda: self._triggers(plan.revisions))
            boundary("migrate.triggers")
            self._run("verify", lambda: self._verify(plan.revisions))
            boundary("migrate.verified")
            self._run("analyze", self._analyze)
        except PgtasksError as exc:
            self._explain(exc, plan.revisions)
            raise
        state = self._state
        before = plan.revisions.state.current
        seconds = time.monotonic() - began
        migrated = Migrated("up", before, state, tuple(self._applied), seconds)
        return Upgraded(migrated, tuple(self.steps), self.backup.id if self.backup else "")

    def _run(self, name: str, work: Callable[[], Step]) -> None:
        began = time.monotonic()
        done = replace(work(), name=name, seconds=time.monotonic() - began)
        self.console.say(done.line())
        self.steps.append(done)

    def _backup(self, plan: UpgradePlan, reached: Reached) -> Step:
        if not plan.backs_up:
            why = "no revision is pending" if not plan.revisions.steps else "--no-backup"
            return skipped("", "the database is empty" if self.identity.empty else why)
        note = f"{NOTE}: {_named(plan.revisions.state.current)} -> {_last(plan.revisions)}"
        folder = self.project.folder("backups")
        self.backup = first.taken(reached, folder, note=note, console=self.console)
        size = report.size(self.backup.manifest.size)
        return Step("", "done", f"{self.backup.id}, {size}", details={"id": self.backup.id})

    def _upgrade(self, revisions: MigrationPlan) -> Step:
        if not revisions.steps:
            return Step("", "unchanged", revisions.state.sentence())
        for attempt in range(self.options.retries + 1):
            try:
                return self._attempt(revisions)
            except LockTimeout as exc:
                if attempt == self.options.retries or exc.details.get("committed"):
                    raise
                revisions = self._again(exc, attempt)
        raise AssertionError("unreachable")

    def _attempt(self, revisions: MigrationPlan) -> Step:
        place = (self.scripts, self.target, self.identity)
        envpy = EnvPy(*place, lock_timeout=self.options.lock_timeout)
        done: list[Applied] = []
        with waiting.watching(self.target, envpy.pids) as holders:
            try:
                migrated = perform(*place, revisions, envpy=envpy, done=done)
            except LockTimeout as exc:
                kept = exc.details.get("applied", ())
                self._applied += [each for each in done if each.revision.id in kept]
                if holders.seen:
                    exc.message = f"{exc.message}; the lock is held by {holders}"
                raise
            finally:
                self._statements += envpy.ledger.sent
        self._applied += migrated.applied
        number = report.plural(len(self._applied), "revision")
        return Step("", "done", f"{number} applied; {migrated.state.sentence()}")

    def _again(self, exc: LockTimeout, attempt: int) -> MigrationPlan:
        """Say why an attempt failed, wait, and return the plan of what is still to do."""
        pause = min(_PAUSE * 2**attempt, _LONGEST_PAUSE)
        self.console.say(f"{exc.message}; again in {report.duration(pause)}")
        time.sleep(pause)
        place = (self.scripts, self.target, self.identity)
        return planned(*place, "up", self.options.to, exact=True)

    def _triggers(self, revisions: MigrationPlan) -> Step:
        if not revisions.reaches_head:
            return skipped("", "the files belong to the head of the revisions")
        return step.triggers(self.project, self.target)

    def _verify(self, revisions: MigrationPlan) -> Step:
        self._state = state = status(self.scripts, self.target, self.identity)
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

    def _analyze(self) -> Step:
        names = touched.tables(self._statements)
        tables = touched.analyze(self.target, names) if names else []
        if not tables:
            return skipped("", "no rows and no columns were changed")
        return Step("", "done", ", ".join(tables), details={"tables": tables})

    def _explain(self, exc: PgtasksError, revisions: MigrationPlan) -> None:
        """Add to an error what was applied, what was not, and the backup that belongs to it."""
        applied = [each.revision.id for each in self._applied]
        applied += [name for name in exc.details.get("applied", ()) if name not in applied]
        pending = [each.revision.id for each in revisions.steps if each.revision.id not in applied]
        lines = [exc.hint] if exc.hint else []
        if revisions.steps:
            lines.append(f"applied: {', '.join(applied) or 'none'}")
            lines.append(f"not applied: {', '.join(pending) or 'none'}")
        if self.backup:
            way = typed.task("db.restore", f"--backup {self.backup.id}")
            lines.append(f"the backup from before: {self.backup.id}, {way} brings it back")
        facts = {"applied": applied, "not_applied": pending}
        backup = {"backup": self.backup.id if self.backup else None}
        exc.hint, exc.details = "\n".join(lines), {**exc.details, **facts, **backup}


def _named(revisions: tuple[str, ...]) -> str:
    return ", ".join(revisions) or "no revision"


def _last(plan: MigrationPlan) -> str:
    return plan.steps[-1].revision.id
