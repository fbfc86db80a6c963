"""Rows that a foreign key would miss, counted for a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy.part.keys import ForeignKey
from pgtasks.copy.rows import stream
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

_KEPT = "pgtasks_keys"  # a temporary table


def dependent(conn: Connection, key: ForeignKey) -> str:
    """Return how many rows refer to rows that are gone, empty if none does.

    `conn` is in the transaction in which the rows were replaced. A key that was not valid before
    is not checked.
    """
    active = "SELECT row_security_active(%s::oid) OR row_security_active(%s::oid)"
    hidden = connection.value(conn, active, (key.child, key.parent), into=bool)
    if not key.valid or key.period or hidden:  # the server checks the constraint in any case
        return ""
    query = sql.SQL(
        "SELECT count(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})"
    ).format(key.from_, key.refers("c"), key.to, key.matches("p", "c"))
    number = connection.value(conn, query, into=int)
    if not number:
        return ""
    return (
        f"{report.plural(number, 'row')} of {qualified(key.schema, key.table)} would refer to rows "
        f"of {qualified(key.to_schema, key.to_table)} that the backup does not have (foreign key "
        f"{quoted(key.name)})"
    )


def missing(
    source: Connection, conn: Connection, keys: Sequence[ForeignKey], tables: Sequence[Relation]
) -> Iterator[str]:
    """Yield how many rows of the backup refer to rows that are not in the database, for each key.

    `source` is in the side database, `conn` in the live one, outside of a transaction. `tables` are
    those of the backup, by name: of a partitioned table its partitions.
    """
    for key in keys:
        if not key.valid or key.period:
            continue
        try:
            children = _children(conn, key, tables)
            number = sum(_missing(source, conn, key, table) for table in children)
        except Failed:
            continue  # without the right to make temporary tables, or to read the other table
        if number:
            yield (
                f"{report.plural(number, 'row')} of {qualified(key.schema, key.table)} in the "
                f"backup refer to rows of {qualified(key.to_schema, key.to_table)} that are not "
                f"there (foreign key {quoted(key.name)})"
            )


def _children(conn: Connection, key: ForeignKey, tables: Sequence[Relation]) -> Iterator[Relation]:
    query = (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = %s OR c.oid IN (SELECT relid FROM pg_partition_tree(%s))"
    )
    found = connection.rows(conn, query, (key.child, key.child), into=tuple[str, str])
    names = set(found)
    return (each for each in tables if (each.schema, each.name) in names)


def _missing(source: Connection, conn: Connection, key: ForeignKey, table: Relation) -> int:
    """Count the rows of one table in the side database by a copy of their keys."""
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    place = sql.Identifier(table.schema, table.name)
    kept = sql.Identifier("pg_temp", _KEPT)
    connection.execute(conn, "BEGIN")
    try:
        connection.execute(
            conn,
            sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {} FROM ONLY {} WHERE false").format(
                sql.Identifier(_KEPT), columns, place
            ),
        )
        out = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(columns, place)
        stream.copy(source, conn, out, sql.SQL("COPY {} FROM STDIN").format(kept))
        query = sql.SQL(
            "SELECT count(*) FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {})"
        ).format(kept, key.refers("c"), key.to, key.matches("p", "c"))
        return connection.value(conn, query, into=int)
    finally:
        if not conn.closed:
            connection.execute(conn, "ROLLBACK")
