"""Find and read Alembic's version tables, without running code of the project.

A project may choose the name of its version table (`version_table`, `version_table_schema` in
env.py). All have a single column, `version_num`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection

USUAL = "alembic_version"

_TABLES = f"""
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OWN_SCHEMA}
  -- Alembic makes none of these, nor children, and reading it would plan them
  AND NOT c.relrowsecurity AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid)
GROUP BY n.nspname, c.relname
HAVING pg_catalog.array_agg(a.attname::pg_catalog.text) = '{{version_num}}'
   AND pg_catalog.bool_and(a.atttypid IN (1043, 25)) -- varchar, text
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True)
class VersionTable:
    """A version table and its revisions."""

    schema: str
    name: str
    revisions: tuple[str, ...] = ()


def read(conn: Connection) -> list[VersionTable]:
    """Return the version tables that this role may read, in the transaction's snapshot."""
    names = connection.rows(conn, _TABLES, into=tuple[str, str])
    return [VersionTable(schema, name, _revisions(conn, schema, name)) for schema, name in names]


def _revisions(conn: Connection, schema: str, name: str) -> tuple[str, ...]:
    query = sql.SQL("SELECT version_num FROM ONLY {}").format(sql.Identifier(schema, name))
    return tuple(sorted(filter(None, connection.rows(conn, query, into=str))))


def revisions(tables: Iterable[VersionTable]) -> tuple[str, ...]:
    """Return the revisions of the tables with the usual name, else of all version tables."""
    tables = list(tables)
    usual = [table for table in tables if table.name == USUAL]
    return tuple(sorted({each for table in usual or tables for each in table.revisions}))
