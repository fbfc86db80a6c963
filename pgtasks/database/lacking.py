"""Find the objects that a restore left out and that are still missing."""

from __future__ import annotations

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted
from pgtasks.server.stamp import Stamp

# existing objects by kind: schema, table (or empty), name
_THERE = {
    "constraint": "SELECT n.nspname, c.relname, o.conname FROM pg_constraint o"
    " JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " UNION SELECT n.nspname, t.typname, o.conname FROM pg_constraint o"
    " JOIN pg_type t ON t.oid = o.contypid JOIN pg_namespace n ON n.oid = t.typnamespace",
    "table data": "SELECT n.nspname, '', c.relname FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0",
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
        name
        for kind in kinds
        for place in connection.rows(conn, _THERE[kind], into=tuple[str, str, str])
        for name in _names(kind, *place)
    }
    return tuple(name for name in names if name not in present)


def _names(kind: str, schema: str, table: str, name: str) -> tuple[str, ...]:
    """Return the names that an entry may have: with spaces in it, its parts cannot be told."""
    if not table:
        return (f"{kind} {qualified(schema, name)}",)
    joined = qualified(schema, f"{table} {name}")
    return f"{kind} {qualified(schema, table)}.{quoted(name)}", f"{kind} {joined}"
