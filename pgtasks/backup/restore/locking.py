"""Lock tables of the live database, without letting others queue behind for long."""

from __future__ import annotations

import psycopg2
from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Locked
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate

PATIENCE = 5  # seconds that a lock is waited for, while others queue behind this session
_HOLDERS = """
SELECT c.oid::regclass::text, l.pid, coalesce(a.application_name, ''), coalesce(a.usename, '?')
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.relation = ANY (%s::oid[]) AND l.pid <> pg_backend_pid()
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.pid LIMIT 3
"""


def limit(conn: Connection, idle: int) -> None:
    """Limit how long the open transaction waits for a lock, and for its client, in seconds.

    A run that is stopped, or that the server no longer hears of, must not keep the locks.
    """
    connection.execute(conn, f"SET LOCAL lock_timeout = '{PATIENCE}s'")
    connection.execute(conn, f"SET LOCAL idle_in_transaction_session_timeout = '{idle}s'")


def exclusively(conn: Connection, names: sql.Composed, oids: list[int]) -> None:
    """Lock tables by name and OID, raising Locked with those who use them."""
    statement = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names)
    try:
        with conn.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.errors.LockNotAvailable:
        connection.execute(conn, "ROLLBACK")
        raise Locked(
            f"the tables are in use, nothing was changed: {_holders(conn, oids)}; waited"
            f" {PATIENCE} s for them: end it, or try again"
        ) from None
    except psycopg2.Error as exc:
        raise translate(exc) from None


def _holders(conn: Connection, oids: list[int]) -> str:
    """Return who holds a lock on one of the tables, as far as it can be seen."""
    rows = connection.rows(conn, _HOLDERS, (oids,), into=tuple[str, int, str, str])
    held = [
        f"{table} by process {pid} of {user}{f' ({report.printable(name)})' if name else ''}"
        for table, pid, name, user in rows
    ]
    return ", ".join(held) or "the one who used them has just ended"
