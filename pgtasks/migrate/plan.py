"""What an upgrade or downgrade would do, told before it does it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from pgtasks import connection, report
from pgtasks.connection import Connection
from pgtasks.errors import Refused
from pgtasks.migrate import state
from pgtasks.migrate.envpy import EnvPy
from pgtasks.migrate.losses import Loss, losses
from pgtasks.migrate.state import Revision, State
from pgtasks.target import Target


@dataclass(frozen=True)
class Step:
    """One revision to go up or down.

    `sql` is what its function would run, None where that cannot be told without running it (it
    reads the database, or is not written for Alembic's --sql mode). `losses` is what it drops.
    """

    revision: Revision
    sql: str | None = None
    losses: tuple[Loss, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        own = {"revision": self.revision.id, "message": self.revision.message}
        return {
            **own,
            "file": self.revision.file,
            "sql": self.sql,
            "losses": list(map(str, self.losses)),
        }


@dataclass(frozen=True)
class Plan:
    """The steps of one run. `direction` is up or down; `state` is what it starts from."""

    direction: str
    target: str
    state: State
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return what a person reads under --dry: each step, and the SQL it would run."""
        if not self.steps:
            return [f"nothing to do: {self.state.sentence()}"]
        lines: list[str] = []
        for step in self.steps:
            lines.append(f"-- {self.direction} {step.revision} ({step.revision.file})")
            lines += [f"-- {loss}" for loss in step.losses]
            lines.append(step.sql.strip() if step.sql else _without_sql(step.sql))
        return lines

    def announcement(self) -> list[str]:
        """Return what a person reads before anything is run."""
        lines: list[str] = []
        for step in self.steps:
            lines.append(f"{self.direction} {step.revision}")
            lines += [f"  {loss}" for loss in step.losses]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "direction": self.direction,
            "from": list(self.state.current),
            "steps": [step.as_json() for step in self.steps],
        }


def _without_sql(sql: str | None) -> str:
    if sql is None:
        return "-- what it runs cannot be told without running it"
    return "-- it does nothing"


def downward(to: str | None, steps: str | None) -> str:
    """Return how far down, in Alembic's words: one step where nothing is said.

    Everything at once is never the default: sqitch's was, and its users lost schemas by it.
    """
    if to is not None and steps is not None:
        raise Refused("--to and --steps both say how far, keep one")
    if to is not None:
        return to
    if steps is not None and not (steps.isdecimal() and int(steps) > 0):
        raise Refused(f"--steps {steps!r}, expected a number from 1")
    return f"-{int(steps or 1)}"


def make(envpy: EnvPy, direction: str, target: str, *, with_sql: bool) -> Plan:
    """Read the database's revision and return the way from there; nothing is run.

    `target` is Alembic's: a revision, `head`, `base`, `+1`, `-1`. Raises Refused where there is
    no way.
    """
    seen: list[tuple[tuple[str, ...], MigrationContext]] = []

    def look(heads: Any, context: MigrationContext) -> list[Any]:
        seen.append((tuple(heads), context))
        return []

    with (
        envpy.opened() as (config, directory),
        envpy.run(config, directory, look, dont_mutate=True) as run,
    ):
        current, context = seen[-1]
        found = state.compare(current, directory, envpy.scripts)
        made = []
        for move in moves(directory, direction, target, current, found):
            step = Step(
                state.revision(directory.get_revision(move.revision.revision), envpy.scripts)
            )
            if with_sql:
                step = replace(step, sql=_sql(run, context, move))
                lost = losses(step.sql, direction)
                step = replace(step, losses=_with_rows(lost, envpy.target))
            made.append(step)
        return Plan(direction, target, found, tuple(made))


def moves(
    directory: ScriptDirectory,
    direction: str,
    target: str,
    current: Sequence[str],
    found: State,
) -> list[Any]:
    """Return Alembic's own steps, raising Refused with a way out where there are none."""
    if found.unknown:
        unknown = ", ".join(found.unknown)
        raise Refused(
            f"the database is at {unknown}, which no file here has: "
            "are these files older than the database?"
        )
    find = directory._upgrade_revs if direction == "up" else directory._downgrade_revs
    try:
        # both are what `alembic upgrade` and `alembic downgrade` call
        return list(find(target, tuple(current)))  # type: ignore[arg-type]
    except CommandError as exc:
        words = " ".join(str(exc).split())
        raise Refused(f"no way {direction} to {target!r}: {words}; {found.sentence()}") from exc


def _sql(run: EnvironmentContext, context: MigrationContext, move: Any) -> str | None:
    """Return what a step would run, by Alembic's own --sql mode."""
    buffer = io.StringIO()
    options = {**context.opts, "as_sql": True, "output_buffer": buffer, "literal_binds": True}
    offline = MigrationContext.configure(dialect=context.dialect, opts=options)
    run.context_opts["as_sql"] = True  # a revision may ask context.is_offline_mode()
    try:
        with Operations.context(offline):
            move.migration_fn()
    except Exception:  # whatever a revision does that needs an answer from the database
        return None
    finally:
        run.context_opts["as_sql"] = False
    return buffer.getvalue()


def _with_rows(found: Sequence[Loss], target: Target) -> tuple[Loss, ...]:
    """Say of each table that goes how many rows go with it, as the server estimates them."""
    if not any(loss.table for loss in found):
        return tuple(found)
    session = connection.session(target, read_only=True, purpose="migrate", own_path=True)
    with session as conn:
        return tuple(replace(loss, rows=_rows(conn, loss.table)) for loss in found)


def _rows(conn: Connection, table: str) -> str:
    if not table:
        return ""
    # along the path that the revision itself finds the table by
    oid = connection.value(conn, "SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid", (table,))
    with connection.pinned(conn):
        estimate = connection.value(
            conn,
            "SELECT CASE WHEN pg_relation_size(oid) = 0 AND relkind = 'r' THEN 0"
            " ELSE reltuples::bigint END FROM pg_class WHERE oid = %s",
            (oid,),
        )
    if estimate is None or estimate < 0:  # -1: never analysed
        return "rows not counted"
    return "empty" if estimate == 0 else f"about {report.plural(estimate, 'row')}"
