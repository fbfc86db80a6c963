"""Compare the models of a project with a database, as `alembic check` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from alembic.autogenerate import RevisionContext
from alembic.runtime.migration import MigrationContext

from pgtasks.schema.migrate import state
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.files import arguments
from pgtasks.schema.migrate.state import State
from pgtasks.server.quoting import qualified, quoted

# Alembic compares none of these
BLIND = (
    "a renamed table or column, which it sees as one dropped and one added",
    "the text of a CHECK constraint, an exclusion constraint, a changed name of a constraint",
    "triggers, functions, views, policies, grants, comments of databases and schemas",
)


@dataclass(frozen=True)
class Compared:
    """The state of the database, and what a revision would have to do, in words.

    `differences` is None if the models were not compared, `why` is then the reason.
    """

    state: State
    differences: tuple[str, ...] | None
    why: str = ""


def compare(envpy: EnvPy) -> Compared:
    """Compare models and database, which must be at the head for that."""
    with envpy.opened() as (config, directory):
        context = RevisionContext(config, directory, arguments("", autogenerate=True))
        positions: list[State] = []

        def look(heads: Any, running: MigrationContext) -> list[Any]:
            positions.append(state.compare(tuple(heads), directory, envpy.scripts))
            if (
                positions[0].word == "up-to-date"
                and running.opts.get("target_metadata") is not None
            ):
                context.run_autogenerate(heads, running)
            return []

        options = {"template_args": context.template_args, "revision_context": context}
        with envpy.run(config, directory, look, dont_mutate=True, **options) as run:
            has_models = run.context_opts.get("target_metadata") is not None
        position = positions[0]
        if not has_models:
            return Compared(position, None, "env.py has no target_metadata")
        if position.word != "up-to-date":
            return Compared(position, None, "the database is not at the head of the files")
        return Compared(position, tuple(_differences(context)))


def _differences(context: RevisionContext) -> Iterator[str]:
    for script in context.generated_revisions:
        for operations in script.upgrade_ops_list:
            for diff in operations.as_diffs():
                yield from _words(diff)


def _words(diff: Any) -> Iterator[str]:
    """Yield a difference as Alembic's words for it and a name; changes of a column are a list."""
    if isinstance(diff, list):
        for each in diff:
            yield from _words(each)
        return
    kind, *rest = diff
    yield f"{kind.replace('_', ' ')}: {_name(rest)}"


def _name(parts: Iterable[Any]) -> str:
    """Return the name of what a difference is about, from SQLAlchemy's objects or from texts."""
    first, *rest = parts
    if isinstance(first, str) or first is None:  # schema, table, then a column or its name
        table, column = rest[0], getattr(rest[1], "name", rest[1])
        return f"{_of_table(first, table)}.{quoted(str(column))}"
    table = getattr(first, "table", None)
    name = getattr(first, "name", None) or getattr(first, "text", None)
    if table is not None:
        return f"{quoted(str(name)) if name else 'one without a name'} of {_full(table)}"
    return _full(first)


def _full(table: Any) -> str:
    return _of_table(getattr(table, "schema", None), str(table.name))


def _of_table(schema: str | None, name: str) -> str:
    return qualified(schema, name) if schema else quoted(name)
