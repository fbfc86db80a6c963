"""The SQL of revisions, by Alembic's --sql mode: their functions run, and reach no database."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from pgtasks.errors import Refused
from pgtasks.schema.migrate import state
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.plan import MigrationPlan, MigrationStep, looking, moves


def with_sql(envpy: EnvPy, made: MigrationPlan) -> MigrationPlan:
    """Return a plan with the SQL of its steps."""
    with envpy.opened() as (config, directory), looking(envpy, config, directory) as look:
        way = moves(directory, made.direction, made.target, look.current, made.state)
        sqls = {
            move.revision.revision: sql(look.run, look.context, move.migration_fn) for move in way
        }
    steps = (replace(step, sql=sqls.get(step.revision.id)) for step in made.steps)
    return replace(made, steps=tuple(steps), with_sql=True)


def unreleased(envpy: EnvPy, since: str | None) -> list[MigrationStep]:
    """Return the upgrades after a revision, or those that the database lacks, with their SQL."""
    with envpy.opened() as (config, directory), looking(envpy, config, directory) as look:
        pending = state.compare(look.current, directory, envpy.scripts).pending
        names = _after(directory, since) if since else [revision.id for revision in pending]
        scripts = [directory.get_revision(name) for name in names]
        return [
            MigrationStep(
                state.revision(script, envpy.scripts),
                sql=sql(look.run, look.context, script.module.upgrade),
            )
            for script in scripts
        ]


def _after(directory: ScriptDirectory, since: str) -> list[str]:
    try:
        later = list(directory.iterate_revisions("heads", since))
    except (CommandError, RevisionError) as exc:
        raise Refused(f"--since {since!r}: {' '.join(str(exc).split())}") from exc
    return [script.revision for script in reversed(later)]


def sql(
    run: EnvironmentContext, context: MigrationContext, function: Callable[..., Any]
) -> str | None:
    """Return the SQL of a function of a revision, by Alembic's --sql mode."""
    buffer = io.StringIO()
    options = {**context.opts, "as_sql": True, "output_buffer": buffer, "literal_binds": True}
    offline = MigrationContext.configure(dialect=context.dialect, opts=options)
    run.context_opts["as_sql"] = True  # a revision may ask context.is_offline_mode()
    try:
        with Operations.context(offline):
            function()
    except KeyboardInterrupt:
        raise
    except BaseException:  # the revision needs an answer from the database
        return None
    finally:
        run.context_opts["as_sql"] = False
    return buffer.getvalue()
