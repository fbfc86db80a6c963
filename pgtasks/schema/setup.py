"""Set up an environment: database, migrations, triggers, roles, seeds, check.

A second run changes nothing. A part that the project lacks is skipped, with a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.cli.run import Run
from pgtasks.database import create
from pgtasks.report import Say, typed
from pgtasks.report.interruption import telling
from pgtasks.schema import migrate, privileges, seed, trigger
from pgtasks.schema.step import Step, no_roles, no_triggers, roles, skipped, triggers
from pgtasks.server import catalog, connection, embedded, reach, rowcount
from pgtasks.server.identity import Identity, present
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_NAMED = 5  # tables that a line names


@dataclass(frozen=True)
class SetUp:
    """The result of a setup; the line of each step was printed when it ended."""

    target: Target
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        duration = report.duration(sum(step.seconds for step in self.steps))
        if any(step.result == "planned" for step in self.steps):
            return ["nothing was done, this is the plan"]
        return [f"{self.target.environment} is ready: {self.target} ({duration})"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "environment": self.target.environment,
            "database": self.target.database,
            "steps": [step.as_json() for step in self.steps],
        }


@dataclass(frozen=True)
class Setup:
    """Everything that a setup needs, collected before it writes anything.

    `unseen` is true if the server of the database does not run, because a plan does not start it.
    """

    project: Project
    target: Target
    identity: Identity | None
    seeds: seed.SeedPlan | None
    unseen: bool = False

    def perform(self, lock: Lock, server: Step, *, say: Say) -> SetUp:
        """Run the steps in order, printing each as it ends; the first failure ends the setup."""
        steps = [server]
        with telling(lambda: _left(steps), adds=True):
            for part in (self._database, *self._filling):
                steps.append(_timed(part, lock, say))
        return SetUp(self.target, tuple(steps))

    def fill(self, lock: Lock, *, say: Say) -> list[Step]:
        """Run the steps that fill an existing database, printing each as it ends."""
        return [_timed(part, lock, say) for part in self._filling]

    @property
    def _filling(self) -> tuple[Callable[[Lock], Step], ...]:
        return self._migrations, self._triggers, self._roles, self._seeds, self._check

    def plan(self, server: Step, *, say: Say) -> SetUp:
        """Return the planned steps, without changing the database."""
        steps = tuple(self._planned())
        for step in steps:
            say(step.line())
        return SetUp(self.target, (server, *steps))

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
            return skipped("migrations", _no_migrations(self.project))
        identity = present(reach.identify(self.target), self.target)
        plan = migrate.plan(scripts, self.target, identity, "up", "head", exact=True)
        outcome = migrate.perform(scripts, self.target, identity, plan)
        result = "done" if outcome.applied else "unchanged"
        text = outcome.state.sentence()
        if outcome.applied:
            text = f"{report.plural(len(outcome.applied), 'revision')} applied; {text}"
        return Step("migrations", result, text, details=outcome.as_json())

    def _triggers(self, lock: Lock) -> Step:
        return triggers(self.project, self.target)

    def _roles(self, lock: Lock) -> Step:
        return roles(self.project, self.target)

    def _seeds(self, lock: Lock) -> Step:
        if self.seeds is None:
            return skipped("seeds", f"environment {self.target.environment!r} names none")
        outcome = self.seeds.load(self.target, say=lambda line: None)
        changed = [loaded for loaded in outcome.sets if loaded.changed]
        text = "; ".join(loaded.lines()[-1] for loaded in outcome.sets)
        result = "done" if changed else "unchanged"
        return Step("seeds", result, text, details=outcome.as_json())

    def _no_seeds(self) -> str:
        if self.target.seeds:
            return "left out"
        return f"environment {self.target.environment!r} names none"

    def _check(self, lock: Lock) -> Step:
        files = trigger.read(self.project)
        parts = []
        if files:
            verification = trigger.verify(files, self.target)
            verification.check()
            parts.append(f"triggers {verification.sentence()}")
        counted = count(self.target)
        parts.append(str(counted))
        return Step("check", "done", "; ".join(parts), details=asdict(counted))

    def _planned(self) -> Iterator[Step]:
        created = create.left_to_do(self.target, self.identity)
        text = replace(created, dry=True).lines()[0]
        yield Step("database", "planned", f"{text}, unless it is there" if self.unseen else text)
        scripts = migrate.find(self.project)
        if scripts is None:
            yield skipped("migrations", _no_migrations(self.project))
        elif self.unseen:
            yield Step("migrations", "planned", "those that the database lacks")
        elif self.identity is None:
            yield Step("migrations", "planned", "all, on the new database")
        else:
            state = migrate.status(scripts, self.target, self.identity)
            yield Step("migrations", "planned", state.sentence())
        yield from self._other_files()

    def files(self) -> Iterator[Step]:
        """Yield the steps that fill a new database, as a plan."""
        if migrate.find(self.project) is None:
            yield skipped("migrations", _no_migrations(self.project))
        else:
            yield Step("migrations", "planned", "all")
        yield from self._other_files()

    def _other_files(self) -> Iterator[Step]:
        files = trigger.read(self.project)
        if files:
            yield Step("triggers", "planned", report.plural(len(files), "file"))
        else:
            yield skipped("triggers", no_triggers(self.project))
        if granting := privileges.read(self.project):
            yield Step("roles", "planned", report.plural(len(granting), "file"))
        else:
            yield skipped("roles", no_roles(self.project, self.target))
        if self.seeds is None:
            yield skipped("seeds", f"environment {self.target.environment!r} names none")
        else:
            yield Step("seeds", "planned", "; ".join(self.seeds.lines()))


def set_up(r: Run, *, scale: str, confirm: str | None) -> None:
    """Perform the task `setup` in its run, from the server to the seeds."""
    sleeping = asleep(r.project, r.target) if r.dry else None
    step = sleeping or server(r.reached)
    r.say(step.line())
    if not sleeping:
        r.look(missing=True)
    made = prepare(
        *(r.project, r.target, r.identity),
        scale=scale,
        protection=r.protection,
        unseen=sleeping is not None,
    )
    if sleeping:
        r.finish(made.plan(step, say=r.say))
        return
    with r.writing(confirm=confirm, missing=True) as lock:
        r.finish(made.perform(lock, step, say=r.say) if lock else made.plan(step, say=r.say))


def _left(steps: Sequence[Step]) -> str:
    """Return what an interrupted setup had done."""
    done = ", ".join(each.name for each in steps if each.result in ("done", "unchanged"))
    return f"steps that are done: {done}; {typed.task('setup')} goes on from there"


def _timed(part: Callable[[Lock], Step], lock: Lock, say: Say) -> Step:
    began = time.monotonic()
    step = replace(part(lock), seconds=time.monotonic() - began)
    say(step.line())
    return step


def server(reached: Callable[[], Reached]) -> Step:
    """Connect to the server, starting an embedded one, and return the first step."""
    began = time.monotonic()
    target = reached().target
    place = target.at(target.maintenance)
    with connection.session(place, read_only=True, purpose="setup") as conn:
        version = connection.value(conn, "SHOW server_version", into=str)
    kind = "embedded, " if target.embedded else ""
    over = f" on {target.ssh}" if target.ssh else ""
    text = f"{kind}PostgreSQL {version} at {target.host}:{target.port}{over}"
    return Step("server", "done", text, time.monotonic() - began)


def asleep(project: Project, target: Target) -> Step | None:
    """Return the step for an embedded server that does not run, without starting it."""
    if not target.embedded:
        return None
    server = embedded.status(project.root, major=target.major)
    if server is None:
        return Step("server", "planned", "would make and start the embedded server")
    if server.pid is None:
        text = f"would start the embedded server, PostgreSQL {server.major}"
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
    """Prepare a setup, raising Refused for seeds that may not be loaded there."""
    seeds = None
    if target.seeds:
        seeds = seed.plan(project, target, (), scale=scale, protection=protection)
    return Setup(project, target, identity, seeds, unseen)


@dataclass(frozen=True)
class Count:
    """The number of tables and of their rows, without the rows of `uncounted` tables."""

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
    """Count the rows of all user tables without running code of other roles."""
    with connection.session(target, read_only=True, purpose="count") as conn:
        counts = {
            str(table): rowcount.counted(conn, table) for table in catalog.relations(conn, "r")
        }
    uncounted = tuple(name for name, rows in counts.items() if rows is None)
    return Count(len(counts), sum(rows or 0 for rows in counts.values()), uncounted)


def _no_migrations(project: Project) -> str:
    return f"no alembic.ini and no {project.folder('migrations').name}/env.py"
