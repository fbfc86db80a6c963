"""Upgrade and downgrade, over Alembic's API."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psycopg2
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from pgtasks import report
from pgtasks.errors import Failed, Interrupted, PgtasksError, Refused
from pgtasks.report import typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.schema.migrate import offline, prepared, state
from pgtasks.schema.migrate import plan as planning
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.errors import one_line
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision, State
from pgtasks.schema.trigger import sources
from pgtasks.schema.trigger.step import Step
from pgtasks.server import catalog, connection
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target

_SHOWN = 120  # characters of a statement that a hint shows


@dataclass(frozen=True)
class Applied:
    """A revision that was run; the time includes its commit, if it has its own."""

    revision: Revision
    seconds: float


@dataclass(frozen=True)
class Migrated:
    """The result of an upgrade or downgrade. `notes` says what the user should do next."""

    direction: str
    before: tuple[str, ...]
    state: State
    applied: tuple[Applied, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.applied:
            return [f"nothing to do: {self.state.sentence()}", *self.notes]
        lines = [
            f"{self.direction:4}  {report.duration(each.seconds):>7}  {each.revision}"
            for each in self.applied
        ]
        done = f"{state.counted(self.applied)} in {report.duration(self.seconds)}"
        return [*lines, f"{done}; {self.state.sentence()}", *self.notes]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "direction": self.direction,
            "from": list(self.before),
            "to": list(self.state.current),
            "state": self.state.word,
            "applied": [
                {
                    "revision": each.revision.id,
                    "message": each.revision.message,
                    "file": each.revision.file,
                    "seconds": round(each.seconds, 3),
                }
                for each in self.applied
            ],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def status(scripts: Scripts, target: Target, identity: Identity) -> State:
    """Return the state of the database, without changing it."""
    state = planning.where(EnvPy(scripts, target, identity, read_only=True))
    return replace(state, invalid_indexes=_invalid_indexes(target))


def _invalid_indexes(target: Target) -> tuple[str, ...]:
    with connection.session(target, read_only=True, purpose="migrate") as conn:
        return tuple(catalog.invalid_indexes(conn))


def plan(
    scripts: Scripts, target: Target, identity: Identity, direction: str, to: str, *, exact: bool
) -> MigrationPlan:
    """Return the plan of a run, without changing the database.

    With `exact`, env.py reports the current revision; without, no code of the project runs.
    """
    if not exact:
        return planning.make(scripts, target, direction, to)
    return planning.exact(EnvPy(scripts, target, identity, read_only=True), direction, to)


def with_sql(
    scripts: Scripts, target: Target, identity: Identity, made: MigrationPlan
) -> MigrationPlan:
    """Return a plan with its SQL, which the revisions print in Alembic's --sql mode."""
    return offline.with_sql(EnvPy(scripts, target, identity, read_only=True), made)


def perform(
    scripts: Scripts,
    target: Target,
    identity: Identity,
    made: MigrationPlan,
    *,
    envpy: EnvPy | None = None,
    done: list[Applied] | None = None,
) -> Migrated:
    """Run a plan, raising Refused if the database has changed since the plan was made.

    env.py decides whether revisions are committed one by one or together
    (`transaction_per_migration`). The caller holds the target's lock. `envpy` is what runs env.py,
    if the caller wants to know what it sent to the server, and `done` gets the revisions that ran,
    also if a later one fails.
    """
    done = [] if done is None else done
    run = _Perform(envpy or EnvPy(scripts, target, identity), made, done)
    if not made.steps:
        return nothing_to_do(made)
    began = time.monotonic()
    try:
        with telling(run.left):
            run.run()
    except Interrupted:
        raise
    except PgtasksError as exc:
        raise run.explained(exc) from exc
    run.warn()
    seconds = time.monotonic() - began
    after = status(scripts, target, identity)
    return Migrated(made.direction, made.state.current, after, tuple(run.done), seconds)


def nothing_to_do(made: MigrationPlan) -> Migrated:
    """Return the result of a plan without steps."""
    return Migrated(made.direction, made.state.current, made.state, (), 0.0)


class _Perform:
    """A run of a plan, with the revisions done and the statements of the current one committed."""

    def __init__(self, envpy: EnvPy, made: MigrationPlan, done: list[Applied]) -> None:
        self.envpy, self.made, self.done = envpy, made, done
        self._began = False
        self._triggers = Step(())

    def run(self) -> None:
        """Run env.py, and the plan's steps in it."""
        if project := self.envpy.scripts.project:
            self._triggers = Step(sources.read(project))
        try:
            with (
                self.envpy.opened() as (config, directory),
                self.envpy.run(config, directory, partial(self._work, directory)),
            ):
                pass
        finally:
            self._restore_triggers()

    def _restore_triggers(self) -> None:
        lost = ", ".join(self._triggers.lost)
        if not lost:
            return
        try:
            with self.envpy.connected() as connection:
                connection.exec_driver_sql(f"SET lock_timeout = {self.envpy.lock_timeout:d}")
                self._triggers.restore(connection)
        except (PgtasksError, SQLAlchemyError, psycopg2.Error) as exc:
            report.say(
                f"warning: the revision failed while {lost} was dropped: if it had committed that,"
                f" {typed.task('trigger.apply')} creates it again: {one_line(str(exc))}"
            )

    def _work(
        self, directory: ScriptDirectory, heads: Any, context: MigrationContext
    ) -> Iterator[Any]:
        made, ledger = self.made, self.envpy.ledger
        assert context.connection is not None
        planning.check_unmoved(heads, made.state.current)
        for move in planning.moves(directory, made.direction, made.target, heads, made.state):
            ledger.begin(move.revision.revision)
            self._began = True
            began = time.monotonic()
            move.migration_fn = self._triggers.around(
                move.migration_fn, context.connection, move.revision.revision
            )
            yield move
            boundary("migrate.revision")
            script = directory.get_revision(move.revision.revision)
            revision = state.revision(script, self.envpy.scripts)
            self.done.append(Applied(revision, time.monotonic() - began))

    def explained(self, exc: PgtasksError) -> PgtasksError:
        """Add the state of the database to an error."""
        committed = self._committed
        as_before = isinstance(exc, Refused) and not (committed or self._prepared.statements)
        if as_before or not self._began:
            return exc
        made, done = self.made, self.done
        failed = made.steps[len(done)].revision if len(done) < len(made.steps) else None
        described = f"revision {failed.id}" if failed else "the last commit"
        left, now, gids = self._left(committed)
        invalid = now.invalid_lines() if now else []
        lines = [exc.hint, *(f"stays: {each}" for each in committed), *invalid]
        for gid in gids:
            lines += [f"prepared: {each}" for each in _shown(self._prepared.statements[gid])]
            lines += prepared.ways(gid)
        details = {"committed": committed, "applied": self._applied(now), "prepared": list(gids)}
        kind = Failed if isinstance(exc, Refused) else type(exc)
        hint = "\n".join(lines).strip()
        return kind(f"{described} failed: {exc.message}; {left}", hint=hint, details=details)

    def warn(self) -> None:
        """Say what revisions that did not fail have left prepared."""
        for gid in self._prepared.left(self.envpy.target):
            report.say(f"warning: {prepared.words([gid])}")
            for line in prepared.ways(gid):
                report.say(f"  {line}")

    @property
    def _prepared(self) -> prepared.Prepared:
        return self.envpy.ledger.prepared

    @property
    def _committed(self) -> list[str]:
        return _shown(self.envpy.ledger.committed)

    def left(self) -> str:
        """Return the state of the database after a signal, in words."""
        return self._left(self._committed)[0]

    def _applied(self, now: State | None) -> list[str]:
        """Return the revisions of this run that the database has kept, as far as is known."""
        if now is None:
            return []
        pending, up = {revision.id for revision in now.pending}, self.made.direction == "up"
        steps = (step.revision.id for step in self.made.steps)
        return [name for name in steps if (name in pending) != up]

    def _left(self, committed: Sequence[str]) -> tuple[str, State | None, Sequence[str]]:
        """Return the state of the database after an error, in words and as it was read.

        The last ones are the identifiers of transactions that are left prepared.
        """
        try:
            now = status(self.envpy.scripts, self.envpy.target, self.envpy.identity)
            gids = self._prepared.left(self.envpy.target)
        except PgtasksError as unknown:
            return f"where that left the database is not known: {unknown.message}", None, ()
        at = f"the database is at {', '.join(now.current) or 'no revision'}"
        if committed:
            number = report.plural(len(committed), "statement")
            at = f"{number} of it had been committed and stay, {at}"
        if gids:
            at = f"{prepared.words(gids)}; {at}"
        elif not committed and now.current == self.made.state.current:
            at = f"its transaction was rolled back, {at} as before"
        return at, now, gids


def _shown(statements: Sequence[str]) -> list[str]:
    return [one_line(each)[:_SHOWN] for each in statements]
