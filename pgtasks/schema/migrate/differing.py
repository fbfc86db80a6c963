"""The differences between models and database that Alembic finds, in words, and what it misses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.autogenerate import RevisionContext

from pgtasks.server.quoting import qualified, quoted

# Alembic compares none of these
BLIND = (
    "a renamed table or column, which it sees as one dropped and one added",
    "the text of a CHECK constraint, an exclusion constraint, a changed name of a constraint",
    "triggers, functions, views, policies, grants, comments of databases and schemas",
)


def words(context: RevisionContext) -> Iterator[str]:
    """Yield the differences that a comparison has found, each as one line."""
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
