"""The planner's statistics: those that a dump brings, and the tables whose own must be gathered.

Since version 18, pg_dump saves statistics, and pg_restore gives them to the server. It saves no
extended statistics (CREATE STATISTICS), nor those of a table that was never analyzed.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.dump.pg_dump import STATISTICS
from pgtasks.server.proof import toc
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import identifier

Name = tuple[str, str]
MOST = 200  # tables that are named one by one
_TABLES = f"""
SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {OWN_SCHEMA} ORDER BY 1, 2
"""


def carried(plan: RestorePlan, archive: Iterable[Entry]) -> set[Name]:
    """Return the tables of whose columns the entries bring statistics that the server takes."""
    if plan.major < STATISTICS:
        return set()
    return {
        (entry.namespace, entry.tag)
        for entry in archive
        if entry.desc == toc.STATISTICS and toc.COLUMNS in entry.definition
    }


def missing(conn: Connection, known: set[Name]) -> list[str]:
    """Return the tables that the database of a session has to gather statistics of.

    The names are as SQL has them.
    """
    rows = connection.rows(conn, _TABLES, into=tuple[str, str, bool])
    return [
        f"{identifier(schema)}.{identifier(name)}"
        for schema, name, extended in rows
        if extended or (schema, name) not in known
    ]
