"""The owners of objects in a backup, and what they need to become that again."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.database import leaving
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry

# kinds whose new owner must have the right to create in the schema, which grants give only later
_CREATED = frozenset(
    [
        "TABLE",
        "FOREIGN TABLE",
        "VIEW",
        "MATERIALIZED VIEW",
        "SEQUENCE",
        "FUNCTION",
        "PROCEDURE",
        "AGGREGATE",
        "TYPE",
        "DOMAIN",
        "COLLATION",
        "CONVERSION",
        "OPERATOR",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "STATISTICS",
        "TEXT SEARCH DICTIONARY",
        "TEXT SEARCH CONFIGURATION",
    ]
)
_OPEN_BEFORE = 150000  # until then everybody may create in schema public


def within(conn: Connection, archive: Sequence[Entry]) -> frozenset[tuple[str, str]]:
    """Return the owners of objects with the owner of their schema.

    The latter is empty for schema public, which belongs to the owner of the database.
    """
    of_schemas = {entry.tag: entry.owner for entry in archive if entry.desc == "SCHEMA"}
    if conn.server_version >= _OPEN_BEFORE:
        of_schemas.setdefault("public", "")
    pairs = {
        (entry.owner, of_schemas[entry.namespace])
        for entry in archive
        if entry.desc in _CREATED and entry.namespace in of_schemas
    }
    known = {(name, "" if of == "pg_database_owner" else of) for name, of in pairs}
    return frozenset((name, of) for name, of in known if leaving.is_own(name))
