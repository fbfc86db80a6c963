"""Find the objects that a restore left out and that are still missing."""

from __future__ import annotations

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted
from pgtasks.server.stamp import Stamp

# existing objects by kind: schema, table (or empty), name
_THERE = {
    "constraint": "SELECT n.nspname, c.relname, o.conname FROM pg_constraint o"
    " JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace",
    "trigger": "SELECT n.nspname, c.relname, o.tgname FROM pg_trigger o"
    " JOIN pg_class c ON c.oid = o.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace",
    "policy": "SELECT n.nspname, c.relname, o.polname FROM pg_policy o"
    " JOIN pg_class c ON c.oid = o.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace",
    "rule": "SELECT schemaname, tablename, rulename FROM pg_rules",
    "index": "SELECT n.nspname, '', c.relname FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')",
    "materialized view data": "SELECT schemaname, '', matviewname FROM pg_matviews"
    " WHERE ispopulated",
}


def lacking(conn: Connection, stamp: Stamp | None) -> tuple[str, ...]:
    """Return the names of the missing objects; objects of other kinds count as missing."""
    names = stamp.lacks.splitlines() if stamp else []
    kinds = {kind for kind in _THERE for name in names if name.startswith(f"{kind} ")}
    present = {
        f"{kind} {qualified(schema, table)}.{quoted(name)}"
        if table
        else f"{kind} {qualified(schema, name)}"
        for kind in kinds
        for schema, table, name in connection.rows(conn, _THERE[kind], into=tuple[str, str, str])
    }
    return tuple(name for name in names if name not in present)
