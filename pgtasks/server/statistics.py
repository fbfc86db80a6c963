"""The tables whose statistics the planner lacks after a load.

Those of the system catalogs come with the server: to gather them again takes longer than to load a
small database.
"""

from __future__ import annotations

from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import identifier, to_bytes

MOST = 200  # tables that are named one by one
_TABLES = f"""
SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {OWN_SCHEMA} ORDER BY 1, 2
"""

Name = tuple[str, str]


def missing(conn: Connection, known: frozenset[Name] = frozenset()) -> list[str]:
    """Return the tables that the database of a session has to gather statistics of.

    Those that are `known` are left out, unless they have extended ones. The names are as SQL has
    them.
    """
    rows = connection.rows(conn, _TABLES, into=tuple[str, str, bool])
    return [
        f"{identifier(schema)}.{identifier(name)}"
        for schema, name, extended in rows
        if extended or (schema, name) not in known
    ]


def flags(tables: list[str]) -> tuple[str, ...]:
    """Return the flags of vacuumdb for these tables.

    Where they are many, or have a name that no argument can hold, they are for all there are.
    """
    if len(tables) > MOST or not all(map(_is_text, tables)):
        return ()
    return tuple(f"--table={name}" for name in tables)


def _is_text(name: str) -> bool:
    return to_bytes(name) == name.encode("utf-8", "surrogateescape")
