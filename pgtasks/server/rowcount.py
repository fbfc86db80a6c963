"""The rows of a table, counted where that runs nothing but PostgreSQL's own code."""

from __future__ import annotations

from psycopg2 import sql

from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection


def counted(
    conn: Connection, table: Relation, *, condition: str = "", milliseconds: int = 0
) -> int | None:
    """Return how many rows of a table a WHERE clause selects, None where they cannot be counted.

    They cannot where the query would run what another role wrote, where a row policy applies to
    this role, where it may not read the table, and within the time that is given (0 is no bound).
    """
    if table.foreign_code:
        return None
    place = sql.Identifier(table.schema, table.name)
    query = sql.SQL("SELECT count(*) FROM ONLY {} {}").format(place, sql.SQL(condition))
    bound = "SELECT set_config('statement_timeout', %s, false)"
    connection.execute(conn, bound, (str(milliseconds),))
    try:
        return int(connection.value(conn, query))
    except Failed:
        return None
    finally:
        if not conn.closed:
            connection.execute(conn, bound, ("0",))
