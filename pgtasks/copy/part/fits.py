"""Rows of one database that have no place in the schema of another one.

What is found is looked for by code of the server alone: checks and keys of other functions,
operators or types are left to the load, which has the rights of the owner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from psycopg2 import sql

from pgtasks.copy.part.keys import ForeignKey
from pgtasks.copy.part.shape import Check, Column, Name, Side
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

# the text of a value is the same in both types, and fits
_WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
}
_ANY_TEXT = ("text", "character varying")


def faults(
    first: Side, second: Side, conn: Connection, shared: Collection[Name], *, lossy: bool
) -> Iterator[str]:
    """Yield one line for each column whose values have no place, or that gets none."""
    for name in sorted(shared):
        new, old = first.tables[name], second.tables[name]
        lines = list(_of_columns(name, new, old, lossy=lossy))
        nullable = [
            column
            for column in sorted(new.keys() & old.keys())
            if new[column].required and not old[column].required and not new[column].generated
        ]
        if not (lines or nullable) or not has_rows(conn, second.relations[name]):
            continue
        yield from lines
        for column in nullable:
            if _has_nulls(conn, second.relations[name], column):
                yield f"column {_column(name, column)} has nulls, and is NOT NULL there"
    yield from _broken(first, second, conn, shared)


def _broken(first: Side, second: Side, conn: Connection, shared: Collection[Name]) -> Iterator[str]:
    """Yield one line for each check constraint of the first database that rows break.

    Checks that cannot be evaluated here are left to the load.
    """
    known = {(each.schema, each.table, each.expression) for each in second.checks}
    for check in first.checks:
        name = (check.schema, check.table)
        if name not in shared or (*name, check.expression) in known:
            continue
        old, table = second.tables[name], second.relations[name]
        plain = all(each in old and each not in table.typed for each in check.columns)
        if plain and not table.foreign_code and _fails(conn, table, check):
            yield f"rows of {table} break the check constraint {quoted(check.name)}"


def orphans(first: Side, second: Side, conn: Connection, shared: Collection[Name]) -> Iterator[str]:
    """Yield one line for each new foreign key that rows of the second database break.

    Keys of partitioned tables, and those of other than built-in types, are left to the load.
    """
    known = {_ends(key) for key in second.keys}
    for key in first.keys:
        child, parent = (key.schema, key.table), (key.to_schema, key.to_table)
        plain = not (key.whole or key.to_whole or key.period) and key.valid
        if child not in shared or not plain or _ends(key) in known:
            continue
        empty = parent not in shared
        readable = _comparable(second, child, key.columns) and (
            empty or _comparable(second, parent, key.to_columns)
        )
        if readable and _is_orphan(conn, key, is_empty=empty):
            yield f"rows of {qualified(*child)} break the foreign key {quoted(key.name)}"


def _ends(key: ForeignKey) -> tuple[object, ...]:
    return key.schema, key.table, key.columns, key.to_schema, key.to_table, key.to_columns


def _comparable(side: Side, name: Name, columns: Collection[str]) -> bool:
    """Whether a query may read some columns of a table without code of other roles."""
    table = side.relations[name]
    return not table.foreign_code and set(columns) <= set(table.columns) - table.typed


def _is_orphan(conn: Connection, key: ForeignKey, *, is_empty: bool) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} c WHERE {})").format(key.from_, key.refers("c"))
    if not is_empty:
        query = sql.SQL(
            "SELECT EXISTS (SELECT FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {}))"
        ).format(key.from_, key.refers("c"), key.to, key.matches("p", "c"))
    try:
        return connection.value(conn, query, into=bool)
    except Failed:
        return False


def _fails(conn: Connection, table: Relation, check: Check) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE NOT ({}))").format(
        _place(table), sql.SQL(check.expression)
    )
    try:
        return connection.value(conn, query, into=bool)
    except Failed:
        return False


def _of_columns(
    name: Name, new: Mapping[str, Column], old: Mapping[str, Column], *, lossy: bool
) -> Iterator[str]:
    for column in sorted(new.keys() | old.keys()):
        if column not in new:
            if not old[column].generated and not lossy:
                yield f"column {_column(name, column)} has no place: --lossy leaves its values"
        elif column not in old:
            each = new[column]
            if each.required and not each.filled and not each.generated:
                yield f"column {_column(name, column)} is NOT NULL and has no default"
        elif not _fits(new[column], old[column]):
            types = f"{old[column].type} to {new[column].type}"
            yield f"column {_column(name, column)} changes from {types}: not all values may fit"


def _column(name: Name, column: str) -> str:
    return f"{qualified(*name)}.{quoted(column)}"


def _fits(new: Column, old: Column) -> bool:
    if new.generated or old.generated:
        return True
    if old.type.startswith(("character(", "bpchar")):
        return new.type == old.type  # their text loses blanks
    wider = _ANY_TEXT if not old.type.startswith("numeric") else (*_ANY_TEXT, "numeric")
    return new.type == old.type or new.type in (*wider, *_WIDER.get(old.type, ()))


def has_rows(conn: Connection, table: Relation) -> bool:
    """Whether a table has rows, or might have some."""
    if table.foreign_code:
        return True  # to look would run code of another role
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})")
    return connection.value(conn, query.format(_place(table)), into=bool)


def _has_nulls(conn: Connection, table: Relation, column: str) -> bool:
    if table.foreign_code:
        return True
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE {} IS NULL)")
    return connection.value(conn, query.format(_place(table), sql.Identifier(column)), into=bool)


def _place(table: Relation) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)
