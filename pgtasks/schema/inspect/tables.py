"""All tables, views and sequences of a database, with their rows and sizes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import Failed, Refused
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified

KINDS = {
    "r": "table",
    "p": "partitioned",
    "v": "view",
    "m": "materialized",
    "f": "foreign",
}
# The rows and bytes of a partitioned table are those of its partitions. A size function waits for a
# table that is locked exclusively.
_TABLES = f"""
WITH RECURSIVE own AS (
  SELECT c.oid, c.relkind, c.relname, n.nspname, c.relispartition, c.reltuples, c.relpages
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {OWN_SCHEMA}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
      AND d.objid = c.oid AND d.deptype = 'e')),
inside (oid, relid) AS (
  SELECT oid, oid FROM own WHERE relkind = 'p'
  UNION ALL SELECT t.oid, i.inhrelid FROM inside t JOIN pg_inherits i ON i.inhparent = t.relid),
parts AS (
  SELECT t.oid, t.relid FROM inside t JOIN pg_class c ON c.oid = t.relid AND c.relkind <> 'p'
  UNION ALL SELECT oid, oid FROM own WHERE relkind IN ('r', 'm')),
facts AS (
  SELECT p.oid, count(*)::int AS parts,
    sum(c.reltuples) FILTER (WHERE c.reltuples >= 0)::bigint AS rows,
    sum({{table_bytes}})::bigint AS table_bytes, sum({{index_bytes}})::bigint AS index_bytes
  FROM parts p JOIN pg_class c ON c.oid = p.relid GROUP BY p.oid)
SELECT o.nspname AS schema, o.relname AS name, o.relkind::text AS kind, f.rows, f.table_bytes,
  f.index_bytes, CASE WHEN o.relkind = 'p' THEN coalesce(f.parts, 0) END AS partitions
FROM own o LEFT JOIN facts f ON f.oid = o.oid
WHERE NOT o.relispartition AND (%(schema)s = '' OR o.nspname = %(schema)s)
ORDER BY o.nspname COLLATE "C", o.relname COLLATE "C"
"""
_MEASURED = {"table_bytes": "pg_table_size(c.oid)", "index_bytes": "pg_indexes_size(c.oid)"}
_ESTIMATED = {
    "table_bytes": "c.relpages::bigint * current_setting('block_size')::bigint",
    "index_bytes": "(SELECT sum(x.relpages)::bigint * current_setting('block_size')::bigint"
    " FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid)",
}
_SCHEMAS = f"SELECT n.nspname FROM pg_namespace n WHERE {OWN_SCHEMA} ORDER BY 1"
_BRIEFLY = "SET lock_timeout = '500ms'"
_WITHOUT_LIMIT = "SET lock_timeout = 0"


@dataclass(frozen=True)
class TableSize:
    """A table: its rows as of its last ANALYZE, None if unknown, and its bytes.

    `partitions` is the number of them, None if the table is not partitioned.
    """

    schema: str
    name: str
    kind: str
    rows: int | None
    table_bytes: int | None
    index_bytes: int | None
    partitions: int | None

    @property
    def bytes(self) -> int:
        """Return the bytes of the table and its indexes."""
        return (self.table_bytes or 0) + (self.index_bytes or 0)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "kind": KINDS[self.kind]}

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True)
class Tables:
    """The tables; `estimated` says that a lock was in the way of measuring them."""

    tables: tuple[TableSize, ...]
    estimated: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        headings = ("table", "kind", "rows", "size", "indexes", "parts")
        rows = [
            (
                *(str(each), KINDS[each.kind], each.rows),
                *(_size(each.table_bytes), _size(each.index_bytes), each.partitions),
            )
            for each in self.tables
        ]
        gives = ("parts", "indexes", "kind")
        shown = report.table(headings, rows, gives=gives).splitlines() if rows else []
        return [*shown, self._sentence()]

    def _sentence(self) -> str:
        total = report.size(sum(each.bytes for each in self.tables))
        about = "about " if self.estimated else ""
        views = sum(each.kind in "vm" for each in self.tables)
        counted = report.plural(len(self.tables) - views, "table")
        counted += f", {report.plural(views, 'view')}" if views else ""
        locked = ", a table is locked" if self.estimated else ""
        return f"{counted}, {about}{total} with indexes{locked}; rows as of the last ANALYZE"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"tables": [each.as_json() for each in self.tables], "estimated": self.estimated}


def tables(conn: Connection, schema: str = "") -> Tables:
    """Return all tables, of one schema if it is named; raises Refused for an unknown one.

    Where a table is locked exclusively, all sizes are estimates of the last ANALYZE.
    """
    refuse_unknown_schema(conn, schema)
    with waiting_briefly(conn):
        try:
            return Tables(_read(conn, schema, _MEASURED))
        except Failed:
            return Tables(_read(conn, schema, _ESTIMATED), estimated=True)


@contextmanager
def waiting_briefly(conn: Connection) -> Iterator[None]:
    """Let statements of a block fail that wait for a lock for more than half a second."""
    connection.execute(conn, _BRIEFLY)
    try:
        yield
    finally:
        if not conn.closed:
            connection.execute(conn, _WITHOUT_LIMIT)


def _read(conn: Connection, schema: str, sizes: dict[str, str]) -> tuple[TableSize, ...]:
    query = _TABLES.format(**sizes)
    return tuple(connection.rows(conn, query, {"schema": schema}, into=TableSize))


def refuse_unknown_schema(conn: Connection, schema: str) -> None:
    """Raise Refused for a schema that the database does not have; an empty name means all."""
    known = connection.rows(conn, _SCHEMAS, into=str) if schema else []
    if schema and schema not in known:
        near = difflib.get_close_matches(schema, known, 1, 0.6)
        nearest = f", did you mean {near[0]!r}?" if near else f", known: {', '.join(known)}"
        raise Refused(f"unknown schema {schema!r}{nearest}")


def _size(size: int | None) -> str:
    return "" if size is None else report.size(size)
