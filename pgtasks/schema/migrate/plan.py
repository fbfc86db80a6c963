"""What an upgrade or downgrade would do, told before it does it.

A plan is made from the files' identifiers, the version table and the source of what a downgrade
drops: importing a revision file runs what stands outside its functions, as every tool of Alembic's
does, and that is all of the project's code that runs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.schema.migrate import source, state
from pgtasks.schema.migrate.envpy import EnvPy, bare
from pgtasks.schema.migrate.losses import Loss
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision, State
from pgtasks.server import connection, versiontable
from pgtasks.server.connection import Connection
from pgtasks.server.versiontable import VersionTable
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Step:
    """One revision to go up or down.

    `losses` is what its source says that it drops. `sql` is there where it was asked for: what its
    function would run, None where that cannot be told without running it (it reads the database,
    or is not written for Alembic's --sql mode).
    """

    revision: Revision
    losses: tuple[Loss, ...] = ()
    sql: str | None = None

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
    """The steps of one run. `direction` is up or down; `state` is what it starts from.

    `certain` says whether the version table could be told without asking env.py; `with_sql`
    whether the steps hold their SQL.
    """

    direction: str
    target: str
    state: State
    steps: tuple[Step, ...]
    certain: bool = True
    with_sql: bool = False

    @property
    def loses_rows(self) -> bool:
        """Whether rows lose something by it, as far as that can be told."""
        return any(loss.of_rows for step in self.steps for loss in step.losses)

    def lines(self) -> list[str]:
        """Return what a person reads under --dry: each step, and its SQL if that was asked for."""
        if not self.steps:
            return [f"nothing to do: {self.state.sentence()}"]
        return [line for step in self.steps for line in self._lines(step)]

    def _lines(self, step: Step) -> list[str]:
        sign = "-- " if self.with_sql else ""
        lines = [f"{sign}{self.direction} {step.revision} ({step.revision.file})"]
        lines += [f"{sign or '  '}{loss}" for loss in step.losses]
        if self.with_sql:
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


def make(scripts: Scripts, target: Target, direction: str, to: str) -> Plan:
    """Read the database's revision and return the way from there; no code of the project runs.

    `to` is Alembic's: a revision, `head`, `base`, `+1`, `-1`. Raises Refused where there is no way.
    """
    with bare(scripts) as (_, directory):
        with connection.session(target, read_only=True, purpose="migrate") as conn:
            tables = versiontable.read(conn)
        current = versiontable.revisions(_of_these_files(tables, directory))
        made = _planned(directory, scripts, target, direction, to, current)
        return replace(made, certain=len(tables) <= 1)


def _of_these_files(
    tables: Sequence[VersionTable], directory: ScriptDirectory
) -> list[VersionTable]:
    """Return the version tables whose revisions the files know; all where they know none."""
    files = {script.revision for script in directory.walk_revisions()}
    return [table for table in tables if files & set(table.revisions)] or list(tables)


def exact(envpy: EnvPy, direction: str, to: str) -> Plan:
    """Return the way from where Alembic's own context says that the database is.

    env.py is run, and no function of a revision.
    """
    with envpy.opened() as (config, directory), _looking(envpy, config, directory) as look:
        found = _planned(directory, envpy.scripts, envpy.target, direction, to, look.current)
        return replace(found, certain=True)


def where(envpy: EnvPy) -> State:
    """Return where Alembic's own context says that the database stands."""
    with envpy.opened() as (config, directory), _looking(envpy, config, directory) as look:
        return state.compare(look.current, directory, envpy.scripts)


def with_sql(envpy: EnvPy, made: Plan) -> Plan:
    """Return a plan with the SQL of its steps: their functions run in Alembic's --sql mode."""
    with envpy.opened() as (config, directory), _looking(envpy, config, directory) as look:
        way = moves(directory, made.direction, made.target, look.current, made.state)
        sqls = {move.revision.revision: _sql(look.run, look.context, move) for move in way}
    steps = (replace(step, sql=sqls.get(step.revision.id)) for step in made.steps)
    return replace(made, steps=tuple(steps), with_sql=True)


@dataclass(frozen=True)
class _Look:
    """What env.py told Alembic: the database's revisions, and the contexts that it made."""

    current: tuple[str, ...]
    context: MigrationContext
    run: EnvironmentContext


@contextlib.contextmanager
def _looking(envpy: EnvPy, config: Config, directory: ScriptDirectory) -> Iterator[_Look]:
    seen: list[tuple[tuple[str, ...], MigrationContext]] = []

    def look(heads: Any, context: MigrationContext) -> list[Any]:
        seen.append((tuple(heads), context))
        return []

    with envpy.run(config, directory, look, dont_mutate=True) as run:
        yield _Look(*seen[-1], run)


def _planned(
    directory: ScriptDirectory,
    scripts: Scripts,
    target: Target,
    direction: str,
    to: str,
    current: Sequence[str],
) -> Plan:
    found = state.compare(current, directory, scripts)
    steps = tuple(
        _step(directory, scripts, target, move.revision.revision, direction)
        for move in moves(directory, direction, to, current, found)
    )
    return Plan(direction, to, found, steps)


def _step(
    directory: ScriptDirectory, scripts: Scripts, target: Target, name: str, direction: str
) -> Step:
    script = directory.get_revision(name)
    lost = source.read(Path(script.path), f"{direction}grade")
    return Step(state.revision(script, scripts), _with_rows(lost, target))


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
