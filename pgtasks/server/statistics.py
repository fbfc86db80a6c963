"""The tables whose statistics the planner lacks after a load.

Those of the system catalogs come with the server: to gather them again takes longer than to load a
small database. A partitioned table has statistics over all its partitions, which neither autovacuum
nor vacuumdb (up to 18) gathers, but ANALYZE does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.server import connection, interrupt
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import identifier, to_bytes
from pgtasks.settings.target import Target

MOST = 200  # tables that are named one by one
_ONLY = 180000  # the first version with ANALYZE ONLY; before, partitions are analyzed too
_TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS partitioned,
  EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid) AS extended,
  coalesce(pg_partition_root(c.oid)::oid, c.oid) = c.oid AS root
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND {OWN_SCHEMA}
"""
_ORDER = " ORDER BY 1, 2"
# some tables, and those above them: those that they are partitions or children of
AND_ABOVE = """
WITH RECURSIVE t AS (
  SELECT c.oid FROM unnest(%s::text[], %s::text[]) AS u(s, r)
    JOIN pg_namespace n ON n.nspname = u.s
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = u.r
  UNION SELECT i.inhparent FROM t JOIN pg_inherits i ON i.inhrelid = t.oid)
"""

Name = tuple[str, str]


@dataclass(frozen=True)
class _Table:
    schema: str
    name: str
    partitioned: bool
    extended: bool
    root: bool

    def __str__(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"


@dataclass(frozen=True)
class Missing:
    """Tables to gather statistics of, as SQL names them: `tables` by vacuumdb, then `parents`."""

    tables: list[str]
    parents: list[str]


def missing(conn: Connection, known: frozenset[Name] = frozenset()) -> Missing:
    """Return the tables that the database of a session has to gather statistics of.

    Those that are `known` are left out, unless they have extended ones.
    """
    found = [
        each
        for each in connection.rows(conn, _TABLES + _ORDER, into=_Table)
        if each.extended or (each.schema, each.name) not in known
    ]
    tables = [str(each) for each in found if not each.partitioned]
    if conn.server_version >= _ONLY:
        return Missing(tables, [f"ONLY {each}" for each in found if each.partitioned])
    whole = [str(each) for each in found if each.root]
    if flags(whole):
        return Missing(whole, [])
    return Missing(tables, [str(each) for each in found if each.root and each.partitioned])


def changed(conn: Connection, names: Sequence[Name]) -> list[str]:
    """Return what ANALYZE has to name after the rows of some tables have changed."""
    query = f"{AND_ABOVE}{_TABLES} AND c.oid IN (SELECT oid FROM t){_ORDER}"
    given = ([schema for schema, _ in names], [name for _, name in names])
    found = connection.rows(conn, query, given, into=_Table)
    if conn.server_version < _ONLY:
        return [str(each) for each in found if each.root]
    return [f"ONLY {each}" if each.partitioned else str(each) for each in found]


def gather_parents(target: Target, parents: Sequence[str], *, purpose: str) -> None:
    """Gather the statistics of partitioned tables."""
    if parents:
        session = connection.session(target, purpose=purpose)
        with session as conn, interrupt.cancelling([conn]):
            connection.execute(conn, f"ANALYZE {', '.join(parents)}")


def flags(tables: list[str]) -> tuple[str, ...]:
    """Return the flags of vacuumdb for these tables.

    Where they are many, or have a name that no argument can hold, they are for all there are.
    """
    if len(tables) > MOST or not all(map(_is_text, tables)):
        return ()
    return tuple(f"--table={name}" for name in tables)


def _is_text(name: str) -> bool:
    return to_bytes(name) == name.encode("utf-8", "surrogateescape")
