"""Bring an environment up from whatever is there: database, migrations, triggers, seeds, check.

Run again, it finds everything done. A part that the project does not have is skipped, and said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.database import create
from pgtasks.report import Say
from pgtasks.schema import migrate, seed, trigger
from pgtasks.server import catalog, connection, embedded, reach, rowcount
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Identity
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_NAMED = 5  # tables that a line names


@dataclass(frozen=True)
class Step:
    """What became of one part: done, unchanged, skipped, or planned under --dry."""

    name: str
    result: str
    text: str
    seconds: float = 0.0
    details: Any = None

    def line(self) -> str:
        """Return what a person reads."""
        took = report.duration(self.seconds) if self.result in ("done", "unchanged") else "-"
        return f"{self.name:10}  {self.result:9}  {took:>7}  {self.text}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "step": self.name,
            "result": self.result,
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "details": self.details,
        }


@dataclass(frozen=True)
class Outcome:
    """What a setup did; each step's line was said when it ended."""

    target: Target
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        took = report.duration(sum(step.seconds for step in self.steps))
        if any(step.result == "planned" for step in self.steps):
            return ["nothing was done, this is the plan"]
        return [f"{self.target.environment} is ready: {self.target} ({took})"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "environment": self.target.environment,
            "database": self.target.database,
            "steps": [step.as_json() for step in self.steps],
        }


@dataclass(frozen=True)
class Setup:
    """All that a setup needs to know, settled before anything is written.

    `unseen` is a database on a server that does not run, which a plan does not start.
    """

    project: Project
    target: Target
    identity: Identity | None
    seeds: seed.Plan | None
    unseen: bool = False

    def perform(self, lock: Lock, server: Step, *, say: Say) -> Outcome:
        """Take the steps in order, saying each as it ends; a step that fails ends the setup."""
        done = [server]
        parts = (self._database, self._migrations, self._triggers, self._seeds, self._check)
        for part in parts:
            began = time.monotonic()
            step = replace(part(lock), seconds=time.monotonic() - began)
            say(step.line())
            done.append(step)
        return Outcome(self.target, tuple(done))

    def plan(self, server: Step, *, say: Say) -> Outcome:
        """Return what would be done; the database is only read."""
        steps = tuple(self._planned())
        for step in steps:
            say(step.line())
        return Outcome(self.target, (server, *steps))

    def _database(self, lock: Lock) -> Step:
        created = create.create(lock)
        if created.created and self.target.embedded:
            for name in create.namesakes(lock.connection, self.target):
                report.say(
                    f"note: this server has {name!r} too, stamped {self.target.environment!r}: if "
                    f"that is the one you mean (a renamed folder?), say database: {name}"
                )
        result = "done" if created.changes else "unchanged"
        return Step("database", result, created.lines()[0], details=created.as_json())

    def _migrations(self, lock: Lock) -> Step:
        scripts = migrate.find(self.project)
        if scripts is None:
            return _skipped("migrations", _no_migrations(self.project))
        identity = reach.present(reach.identify(self.target), self.target)
        plan = migrate.plan(scripts, self.target, identity, "up", "head", exact=True)
        outcome = migrate.perform(scripts, self.target, identity, plan)
        result = "done" if outcome.applied else "unchanged"
        text = outcome.state.sentence()
        if outcome.applied:
            text = f"{report.plural(len(outcome.applied), 'revision')} applied; {text}"
        return Step("migrations", result, text, details=outcome.as_json())

    def _triggers(self, lock: Lock) -> Step:
        files = trigger.read(self.project)
        if not files:
            return _skipped("triggers", _no_triggers(self.project))
        found = trigger.verify(files, self.target)
        if not found.faults() and not found.unknown:
            # CREATE TRIGGER would lock tables that are in use, for nothing
            return Step("triggers", "unchanged", found.sentence())
        applied = trigger.apply(files, self.target)
        for warning in applied.warnings:
            report.say(f"warning: {warning}")
        result = "done" if applied.changes else "unchanged"
        return Step("triggers", result, applied.sentence())

    def _seeds(self, lock: Lock) -> Step:
        if self.seeds is None:
            return _skipped("seeds", f"environment {self.target.environment!r} names none")
        outcome = self.seeds.load(self.target, say=lambda line: None)
        changed = [loaded for loaded in outcome.sets if loaded.changed]
        text = "; ".join(loaded.lines()[-1] for loaded in outcome.sets)
        result = "done" if changed else "unchanged"
        return Step("seeds", result, text, details=outcome.as_json())

    def _check(self, lock: Lock) -> Step:
        files = trigger.read(self.project)
        said = []
        if files:
            found = trigger.verify(files, self.target)
            found.check()
            said.append(f"triggers {found.sentence()}")
        counted = count(self.target)
        said.append(str(counted))
        return Step("check", "done", "; ".join(said), details=asdict(counted))

    def _planned(self) -> Iterator[Step]:
        created = create.left_to_do(self.target, self.identity)
        text = replace(created, dry=True).lines()[0]
        yield Step("database", "planned", f"{text}, unless it is there" if self.unseen else text)
        scripts = migrate.find(self.project)
        if scripts is None:
            yield _skipped("migrations", _no_migrations(self.project))
        elif self.unseen:
            yield Step("migrations", "planned", "those that the database lacks")
        elif self.identity is None:
            yield Step("migrations", "planned", "all, on the new database")
        else:
            state = migrate.status(scripts, self.target, self.identity)
            yield Step("migrations", "planned", state.sentence())
        files = trigger.read(self.project)
        if files:
            yield Step("triggers", "planned", report.plural(len(files), "file"))
        else:
            yield _skipped("triggers", _no_triggers(self.project))
        if self.seeds is None:
            yield _skipped("seeds", f"environment {self.target.environment!r} names none")
        else:
            yield Step("seeds", "planned", "; ".join(self.seeds.lines()))


def server(reached: Callable[[], Target]) -> tuple[Step, Target]:
    """Reach the server, which starts an embedded one, and return the first step."""
    began = time.monotonic()
    target = reached()
    place = target.at(target.maintenance)
    with connection.session(place, read_only=True, purpose="setup") as conn:
        version = connection.value(conn, "SHOW server_version")
    kind = "embedded, " if target.embedded else ""
    over = f" on {target.ssh}" if target.ssh else ""
    text = f"{kind}PostgreSQL {version} at {target.host}:{target.port}{over}"
    return Step("server", "done", text, time.monotonic() - began), target


def asleep(project: Project, target: Target) -> Step | None:
    """Return the step of an embedded server that does not run; it is not started."""
    if not target.embedded:
        return None
    found = embedded.status(project.root, major=target.major)
    if found is None:
        return Step("server", "planned", "would make and start the embedded server")
    if found.pid is None:
        text = f"would start the embedded server, PostgreSQL {found.major}"
        return Step("server", "planned", text)
    return None


def prepare(
    project: Project,
    target: Target,
    identity: Identity | None,
    *,
    scale: str,
    protection: str,
    unseen: bool = False,
) -> Setup:
    """Settle what a setup will do, raising Refused for seeds that may not go there."""
    seeds = None
    if target.seeds:
        seeds = seed.plan(project, target, (), scale=scale, protection=protection)
    return Setup(project, target, identity, seeds, unseen)


@dataclass(frozen=True)
class Count:
    """How many rows there are in how many tables; those of `uncounted` ones are not among them."""

    tables: int
    rows: int
    uncounted: tuple[str, ...] = ()

    def __str__(self) -> str:
        counted = f"{report.plural(self.rows, 'row')} in {report.plural(self.tables, 'table')}"
        if not self.uncounted:
            return counted
        names = ", ".join(self.uncounted[:_NAMED])
        more = f" and {len(self.uncounted) - _NAMED} more" if len(self.uncounted) > _NAMED else ""
        return (
            f"{counted}, without those of {names}{more}: this role may not read all of it, or an "
            "index or a policy of another role's would run"
        )


def count(target: Target) -> Count:
    """Count the rows of a user's own tables, running nothing that another role wrote."""
    with connection.session(target, read_only=True, purpose="count") as conn:
        found = {
            str(table): rowcount.counted(conn, table) for table in catalog.relations(conn, "r")
        }
    uncounted = tuple(name for name, rows in found.items() if rows is None)
    return Count(len(found), sum(rows or 0 for rows in found.values()), uncounted)


def _skipped(name: str, why: str) -> Step:
    return Step(name, "skipped", why)


def _no_migrations(project: Project) -> str:
    return f"no alembic.ini and no {project.folder('migrations').name}/env.py"


def _no_triggers(project: Project) -> str:
    folder = project.folder("sql").name
    return f"no *.sql in {folder}/functions and {folder}/triggers"
