"""Count the rows of a table, if that runs only PostgreSQL's own code."""

from __future__ import annotations

from psycopg2 import sql

from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection


def counted(
    conn: Connection, table: Relation, *, condition: str = "", milliseconds: int = 0
) -> int | None:
    """Return the number of rows that a WHERE clause selects, None if they cannot be counted.

    They cannot if the query would run code of another role, if a row policy applies to this role,
    if it may not read the table, or if the time is too short (0 means no limit).
    """
    if table.foreign_code:
        return None
    place = sql.Identifier(table.schema, table.name)
    query = sql.SQL("SELECT count(*) FROM ONLY {} {}").format(place, sql.SQL(condition))
    bound = "SELECT set_config('statement_timeout', %s, false)"
    connection.execute(conn, bound, (str(milliseconds),))
    try:
        return connection.value(conn, query, into=int)
    except Failed:
        return None
    finally:
        if not conn.closed:
            connection.execute(conn, bound, ("0",))
