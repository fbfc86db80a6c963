"""Find objects that a restore would fail at, as far as that takes little time.

Objects that were not checked are not mentioned. Foreign keys are checked from the smallest table
on, and views only if planning them runs no code with more rights than their owner has.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.errors import Failed
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.naming import moved
from pgtasks.server.proof.reader import SNAPSHOT, snapshot_of
from pgtasks.server.quoting import qualified, quoted

MOST, LEAST, SHARE = 5.0, 0.2, 0.05  # seconds, and share of the backup's own time
_FIRST_OWN_OID = 16384  # FirstNormalObjectId: lower OIDs belong to the server

_KEYS = f"""
SELECT n.nspname AS schema, c.relname AS "table", o.conname AS name, c.relkind = 'p' AS whole,
  c.oid, pn.nspname AS to_schema, p.relname AS to_table, p.relkind = 'p' AS to_whole,
  p.oid AS to_oid,
  ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(n, i)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n ORDER BY k.i) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(n, i)
    JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = k.n ORDER BY k.i) AS to_columns,
  ARRAY(SELECT q.oprname::text FROM unnest(o.conpfeqop) WITH ORDINALITY k(op, i)
    JOIN pg_operator q ON q.oid = k.op ORDER BY k.i) AS operators
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class p ON p.oid = o.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE o.contype = 'f' AND o.convalidated AND o.conparentid = 0 AND o.confmatchtype = 's'
AND NOT EXISTS (SELECT FROM unnest(o.conpfeqop) k(op) WHERE k.op >= {_FIRST_OWN_OID})
-- a user-defined cast would run: on built-in types only a superuser can create one
AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.atttypid >= {_FIRST_OWN_OID}
  AND (a.attrelid = c.oid AND a.attnum = ANY (o.conkey)
    OR a.attrelid = p.oid AND a.attnum = ANY (o.confkey)))
ORDER BY c.relpages + p.relpages, 1, 2, 3
"""
_VIEWS = """
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated AND c.relowner = (SELECT r.oid FROM pg_roles r
  WHERE r.rolname = current_user AND NOT r.rolsuper) ORDER BY c.relpages
"""


@dataclass(frozen=True)
class _Key:
    """A foreign key with both tables and their columns; `wholes` are partitioned tables."""

    schema: str
    table: str
    name: str
    whole: bool
    oid: int
    to_schema: str
    to_table: str
    to_whole: bool
    to_oid: int
    columns: tuple[str, ...]
    to_columns: tuple[str, ...]
    operators: tuple[str, ...]

    def query(self) -> sql.Composed:
        """Return the query that finds a row without its referenced row."""
        pairs = list(zip(self.columns, self.operators, self.to_columns, strict=True))
        return sql.SQL(
            "SELECT true FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {}) LIMIT 1"
        ).format(
            _from(self.schema, self.table, self.whole),
            sql.SQL(" AND ").join(
                sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(column)) for column, _, _ in pairs
            ),
            _from(self.to_schema, self.to_table, self.to_whole),
            sql.SQL(" AND ").join(
                sql.SQL("p.{} OPERATOR(pg_catalog.{}) c.{}").format(
                    sql.Identifier(to), sql.SQL(operator), sql.Identifier(column)
                )
                for column, operator, to in pairs
            ),
        )


def _from(schema: str, table: str, whole: bool) -> sql.Composed:
    return sql.SQL("{}{}").format(sql.SQL("" if whole else "ONLY "), sql.Identifier(schema, table))


def found(conn: Connection, snapshot: str, tables: Sequence[Relation], seconds: float) -> list[str]:
    """Return one line for each obstacle in the snapshot, after at most `seconds`.

    `tables` are those of the snapshot; a table that was rewritten since appears empty.
    """
    end = time.monotonic() + seconds
    connection.execute(conn, SNAPSHOT)
    try:
        snapshot_of(conn, snapshot)
        coded = {
            relation.oid for relation in catalog.relations(conn, "rp") if relation.foreign_code
        }
        views = [] if coded else _views(conn, end)
        return [*_extensions(conn), *views, *_keys(conn, tables, coded, end)]
    except Failed:
        return []  # no line for what cannot be checked
    finally:
        connection.execute(conn, "ROLLBACK")


def _extensions(conn: Connection) -> Iterator[str]:
    bound = connection.row(
        conn,
        "SELECT coalesce(current_setting('cron.database_name', true), '') FROM pg_extension"
        " WHERE extname = 'pg_cron'",
        into=str,
    )
    if bound:
        yield (
            f"extension pg_cron can be created in database {bound!r} only, and a restore builds "
            f"another one: it needs {_flag('extension pg_cron')}"
        )


def _views(conn: Connection, end: float) -> Iterator[str]:
    for schema, name, definition in connection.rows(conn, _VIEWS, into=tuple[str, str, str]):
        if fault := _fault(conn, f"EXPLAIN {definition}", end):
            data = f"materialized view data {qualified(schema, name)}"
            yield f"{data} fails ({fault}): a restore needs {_flag(data)}"


def _keys(
    conn: Connection, tables: Sequence[Relation], coded: Set[int], end: float
) -> Iterator[str]:
    """Check foreign keys, except those whose query would plan tables with code of others."""
    for key in connection.rows(conn, _KEYS, into=_Key):
        if coded & {key.oid, key.to_oid} or (coded and (key.whole or key.to_whole)):
            continue
        broken: list[bool] = []
        _fault(conn, key.query(), end, broken)
        if broken and _as_they_were(conn, key, tables):
            name = f"constraint {qualified(key.schema, key.table)}.{quoted(key.name)}"
            yield f"{name} does not hold: a restore needs {_flag(name)}"


def _as_they_were(conn: Connection, key: _Key, tables: Sequence[Relation]) -> bool:
    """Return whether the tables of a query are still those of the snapshot."""
    return not moved(conn, _read_by(key, tables))


def _read_by(key: _Key, tables: Sequence[Relation]) -> list[Relation]:
    """Return the tables that the query of a key may read."""
    partitioned = key.whole or key.to_whole
    return [table for table in tables if partitioned or table.oid in (key.oid, key.to_oid)]


def _fault(
    conn: Connection, query: str | sql.Composed, end: float, broken: list[bool] | None = None
) -> str:
    """Run a query within the remaining time; return its error, empty if the time is up."""
    left = int((end - time.monotonic()) * 1000)
    if left <= 0:
        return ""
    connection.execute(conn, "SAVEPOINT attempt")
    try:
        connection.execute(conn, f"SET LOCAL statement_timeout = {left}")
        connection.execute(conn, "SET LOCAL search_path = ''")
        rows = connection.rows(conn, query)
        if broken is not None:
            broken += [bool(rows)] if rows else []
    except Failed as exc:
        return "" if "statement timeout" in exc.message else exc.message
    finally:
        connection.execute(conn, "ROLLBACK TO attempt")
    return ""


def _flag(name: str) -> str:
    return f"--leave-out {shlex.quote(name)}"
