"""Compare a database with the models of the project."""

from __future__ import annotations

from pgtasks.errors import Failed
from pgtasks.report import typed
from pgtasks.schema.inspect.diff.change import Change, only
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.server.identity import present
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project


def with_models(project: Project, place: str, reached: Reached, *, first: bool) -> Diff:
    """Compare a database with the models, as Alembic's autogenerate does.

    They are the left side if they are `first`. Raises Failed if Alembic cannot compare them.
    """
    from pgtasks.schema.migrate import models, scripts
    from pgtasks.schema.migrate.envpy import EnvPy

    identity = present(reached.identify(), reached.target)
    envpy = EnvPy(scripts.needed(project), reached.target, identity, read_only=True)
    compared = models.compare(envpy)
    if compared.differences is None:
        behind = compared.state.word != "up-to-date"
        way = f" ({typed.task('migrate.status')})" if behind else ""
        raise Failed(f"the models are not compared: {compared.why}{way}")
    changes = tuple(map(change, compared.differences))
    sides = ("models", place) if first else (place, "models")
    skipped = (*models.BLIND, "extensions, settings, roles, rows")
    return Diff(sides, changes, ("tables, columns, keys and indexes, by Alembic",), skipped)


def change(difference: str) -> Change:
    """Return a difference of Alembic (`add column: public.visits.room`) as a change."""
    words, _, name = difference.partition(": ")
    verb, _, kind = words.partition(" ")
    if verb == "add":
        return only(f"{kind} {name}", "models")
    if verb == "remove":
        return Change(f"{kind} {name}", "not in the models")
    return Change(name, f"another {kind} in the models")
