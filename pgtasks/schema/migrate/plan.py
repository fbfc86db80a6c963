"""Plan an upgrade or downgrade.

A plan uses the identifiers of the files, the version table, and the source of the functions. The
only code of the project that runs is the code outside the functions of a revision file, when the
file is imported, as in every tool that uses Alembic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError, to_tuple

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.report import typed
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
class MigrationStep:
    """One revision of an upgrade or downgrade.

    `losses` are the objects that it drops, by its source. `sql` is set if it was asked for: the
    statements of its function, None if only a run can tell them (the function reads the database,
    or does not support Alembic's --sql mode).
    """

    revision: Revision
    losses: tuple[Loss, ...] = ()
    sql: str | None = None

    @property
    def loses_rows(self) -> bool:
        """Whether rows lose data, as far as the source and the SQL show it."""
        return any(loss.of_rows for loss in self.losses)

    def loss_lines(self) -> list[str]:
        """Return a line for each object that is dropped, marked where rows lose data."""
        return [f"loses data: {loss}" if loss.of_rows else str(loss) for loss in self.losses]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        own = {"revision": self.revision.id, "message": self.revision.message}
        return {
            **own,
            "file": self.revision.file,
            "sql": self.sql,
            "losses": list(map(str, self.losses)),
            "loses_rows": self.loses_rows,
        }


@dataclass(frozen=True)
class MigrationPlan:
    """The steps of one run. `direction` is up or down; `state` is the state before the run.

    `after` are the revisions of the database after the run.

    `certain` says whether the version table is known without env.py, `with_sql` whether the steps
    contain their SQL.
    """

    direction: str
    target: str
    state: State
    steps: tuple[MigrationStep, ...]
    after: tuple[str, ...] = ()
    certain: bool = True
    with_sql: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps

    @property
    def loses_rows(self) -> bool:
        """Whether rows lose data, as far as the source and the SQL show it."""
        return any(step.loses_rows for step in self.steps)

    @property
    def reaches_head(self) -> bool:
        """Whether the database has all revisions of the files after an upgrade."""
        steps = {step.revision.id for step in self.steps}
        return not self.state.unknown and all(each.id in steps for each in self.state.pending)

    def label(self, task: str) -> str:
        """Return the note of the backup that a task takes before the run."""
        before, after = (
            ", ".join(each) or "no revision" for each in (self.state.current, self.after)
        )
        return f"before {task}: {before} -> {after}"

    def lines(self) -> list[str]:
        """Return the lines for --dry: each step, and its SQL if that was asked for."""
        if not self.steps:
            return [f"nothing to do: {self.state.sentence()}"]
        return [line for step in self.steps for line in self._lines(step)]

    def _lines(self, step: MigrationStep) -> list[str]:
        sign = "-- " if self.with_sql else ""
        lines = [f"{sign}{self.direction} {step.revision} ({step.revision.file})"]
        lines += [f"{sign or '  '}{line}" for line in step.loss_lines()]
        if self.with_sql:
            lines.append(step.sql.strip() if step.sql else _without_sql(step.sql))
        return lines

    def announcement(self) -> list[str]:
        """Return the lines that are printed before a run."""
        lines: list[str] = []
        for step in self.steps:
            lines.append(f"{self.direction} {step.revision}")
            lines += [f"  {line}" for line in step.loss_lines()]
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
    """Return the destination of a downgrade in Alembic's syntax, one step by default.

    Reverting everything is never the default: it was in sqitch, and users lost schemas.
    """
    if to is not None and steps is not None:
        raise Refused("--to and --steps both say how far, keep one")
    if to is not None:
        return to
    if steps is not None and not (steps.isdecimal() and int(steps) > 0):
        raise Refused(f"--steps {steps!r}, expected a number from 1")
    return f"-{int(steps or 1)}"


def make(scripts: Scripts, target: Target, direction: str, to: str) -> MigrationPlan:
    """Read the revision of the database and return the plan; no code of the project runs.

    `to` has Alembic's syntax: a revision, `head`, `base`, `+1`, `-1`. Raises Refused if there is
    no path to it.
    """
    with bare(scripts) as (_, directory):
        tables = _tables(target)
        current = versiontable.revisions(_of_these_files(tables, directory))
        made = _planned(directory, scripts, target, direction, to, current)
        return replace(made, certain=len(tables) <= 1)


def recorded(target: Target, directory: ScriptDirectory) -> tuple[str, ...]:
    """Return the revisions in the version table; no code of the project runs."""
    return versiontable.revisions(_of_these_files(_tables(target), directory))


def _tables(target: Target) -> list[VersionTable]:
    with connection.session(target, read_only=True, purpose="migrate") as conn:
        return versiontable.read(conn)


def _of_these_files(
    tables: Sequence[VersionTable], directory: ScriptDirectory
) -> list[VersionTable]:
    """Return the version tables with revisions of these files, or all tables if there is none."""
    files = {script.revision for script in directory.walk_revisions()}
    return [table for table in tables if files & set(table.revisions)] or list(tables)


def exact(envpy: EnvPy, direction: str, to: str) -> MigrationPlan:
    """Return the plan from the revision that Alembic's own context reports.

    env.py runs, but no function of a revision does.
    """
    with envpy.opened() as (config, directory), looking(envpy, config, directory) as look:
        plan = _planned(directory, envpy.scripts, envpy.target, direction, to, look.current)
        return replace(plan, certain=True)


def where(envpy: EnvPy) -> State:
    """Return the state that Alembic's own context reports."""
    with envpy.opened() as (config, directory), looking(envpy, config, directory) as look:
        return state.compare(look.current, directory, envpy.scripts)


@dataclass(frozen=True)
class Look:
    """The revisions that env.py reported to Alembic, and the contexts that it created."""

    current: tuple[str, ...]
    context: MigrationContext
    run: EnvironmentContext


@contextlib.contextmanager
def looking(envpy: EnvPy, config: Config, directory: ScriptDirectory) -> Iterator[Look]:
    """Run env.py for the length of a block, and no function of a revision."""
    seen: list[tuple[tuple[str, ...], MigrationContext]] = []

    def look(heads: Any, context: MigrationContext) -> list[Any]:
        seen.append((tuple(heads), context))
        return []

    with envpy.run(config, directory, look, dont_mutate=True) as run:
        yield Look(*seen[-1], run)


def _planned(
    directory: ScriptDirectory,
    scripts: Scripts,
    target: Target,
    direction: str,
    to: str,
    current: Sequence[str],
) -> MigrationPlan:
    position = state.compare(current, directory, scripts)
    steps = tuple(
        _step(directory, scripts, target, move.revision.revision, direction)
        for move in moves(directory, direction, to, current, position)
    )
    after = _after(directory, direction, position, [step.revision.id for step in steps])
    return MigrationPlan(direction, to, position, steps, after)


def _after(
    directory: ScriptDirectory, direction: str, position: State, steps: Sequence[str]
) -> tuple[str, ...]:
    """Return the revisions at which a run ends: those that no other one follows."""
    pending = {revision.id for revision in position.pending}
    absent = pending - set(steps) if direction == "up" else pending | set(steps)
    scripts = [each for each in directory.walk_revisions() if each.revision not in absent]
    below = {name for script in scripts for name in to_tuple(script.down_revision, default=())}
    return tuple(sorted(script.revision for script in scripts if script.revision not in below))


def _step(
    directory: ScriptDirectory, scripts: Scripts, target: Target, name: str, direction: str
) -> MigrationStep:
    script = directory.get_revision(name)
    lost = source.read(Path(script.path), f"{direction}grade")
    return MigrationStep(state.revision(script, scripts), _with_rows(lost, target))


def moves(
    directory: ScriptDirectory,
    direction: str,
    target: str,
    current: Sequence[str],
    position: State,
) -> list[Any]:
    """Return Alembic's own steps, raising Refused with a way out if there are none."""
    if position.unknown:
        unknown = ", ".join(position.unknown)
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
        ways = f": {state.several_heads()}" if "ultiple head" in words else ""
        if direction == "down" and not position.current:
            words = "no revision is applied"
        elif "didn't produce" in words:  # a number of steps, which Alembic writes as -5
            done = "applied" if direction == "down" else "pending"
            words = f"fewer revisions than that are {done}"
        elif "Ambiguous walk" in words:
            words = "a merge has two ways down"
            ways = f": --to REVISION chooses one ({typed.task('migrate.history')} lists them)"
        raise Refused(
            f"no way {direction} to {target!r}: {words}; {position.sentence()}{ways}"
        ) from exc


def check_unmoved(heads: Sequence[str], before: Sequence[str]) -> None:
    """Raise Refused if the database is not at the revisions of the plan any more."""
    if tuple(sorted(heads)) != tuple(before):
        now = ", ".join(heads) or "no revision"
        raise Refused(f"another run moved the database meanwhile, it is at {now}: look again")


def _with_rows(losses: Sequence[Loss], target: Target) -> tuple[Loss, ...]:
    """Add to each dropped table its number of rows, as the server estimates it."""
    if not any(loss.table for loss in losses):
        return tuple(losses)
    session = connection.session(target, read_only=True, purpose="migrate", own_path=True)
    with session as conn:
        return tuple(replace(loss, rows=_rows(conn, loss.table)) for loss in losses)


def _rows(conn: Connection, table: str) -> str:
    if not table:
        return ""
    # with the search_path that the revision itself uses
    oid = connection.value(conn, "SELECT pg_catalog.to_regclass(%s)::pg_catalog.oid", (table,))
    with connection.pinned(conn):
        estimate = connection.row(
            conn,
            "SELECT CASE WHEN pg_relation_size(oid) = 0 AND relkind = 'r' THEN 0"
            " ELSE reltuples::bigint END FROM pg_class WHERE oid = %s",
            (oid,),
            into=int,
        )
    if estimate is None or estimate < 0:  # -1: never analysed
        return "rows not counted"
    return "empty" if estimate == 0 else f"about {report.plural(estimate, 'row')}"
