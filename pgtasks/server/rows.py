"""The rows of a table as they are read: all of them or some, with masks in place of columns.

A name of a table or a column in a mask means the table itself and its own values.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg2 import sql

from pgtasks.server.catalog import Relation


def hides(relation: Relation, *, masks: bool) -> bool:
    """Whether an error of a query of the rows may show a masked value.

    With `masks`, columns of the database are masked: a condition may read them, in other tables
    too.
    """
    return bool(relation.expressions) or (masks and bool(relation.condition))


def from_item(
    relation: Relation, columns: Iterable[str], *, originals: bool = False
) -> sql.Composed:
    """Return what stands after FROM to read some columns of a table's own rows.

    With `originals`, masked columns are there unmasked too, by the names of `original`.
    """
    table = sql.SQL("ONLY {} {}").format(
        sql.Identifier(relation.schema, relation.name), sql.SQL(relation.condition or "")
    )
    if not relation.expressions:
        return table
    values = [_value(relation, name) for name in columns]
    if originals:
        values += [
            sql.SQL("{} AS {}").format(
                sql.Identifier(relation.name, name), sql.Identifier(original(relation, name))
            )
            for name in relation.expressions
        ]
    # without OFFSET, a mask would be evaluated wherever its column is named
    return sql.SQL("(SELECT {} FROM {} OFFSET 0) AS {}").format(
        sql.SQL(", ").join(values), table, sql.Identifier(relation.name)
    )


def _value(relation: Relation, name: str) -> sql.Composed:
    column = sql.Identifier(name)
    if name not in relation.expressions:
        return sql.SQL("{}").format(column)
    return sql.SQL("{} AS {}").format(sql.SQL(relation.expressions[name]), column)


def original(relation: Relation, name: str) -> str:
    """Return the name of a masked column's own values, which no column of the table has."""
    chosen = f" {list(relation.expressions).index(name)}"
    while chosen in relation.columns:
        chosen = f" {chosen}"
    return chosen
