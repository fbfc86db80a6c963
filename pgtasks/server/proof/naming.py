"""Find the objects that names refer to, in a snapshot and now.

A snapshot keeps rows as they were, catalogs included, but whatever is named in a query is looked up
as it is now, in a snapshot too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA, Relation
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted


def moved(
    conn: Connection, relations: Sequence[Relation], *, untouched: bool = False
) -> list[Relation]:
    """Return those that are not any more what they were in the snapshot they were read in.

    Another relation bears the name now (a rename, an exchange, a drop, of the schema too), or the
    file is another one (TRUNCATE, most of ALTER TABLE): whoever reads by name in the old snapshot
    gets nothing, or another table's rows, without an error. Within a transaction too this is what
    is so now, as these functions ignore its snapshot. No schema of a user's may be in the
    session's search_path. `untouched` counts what was altered and is as before; it needs a
    session outside of the snapshot.
    """
    if not relations:
        return []
    touched = " OR version <> (SELECT xmin::text FROM pg_class c WHERE c.oid = r.oid)"
    numbers = connection.rows(
        conn,
        "SELECT number FROM unnest(%s::oid[], %s::text[], %s::text[], %s::bigint[], %s::text[])"
        " WITH ORDINALITY AS r(oid, schema, name, file, version, number)"
        " WHERE oid::regclass::text <> format('%%I.%%I', schema, name)"
        " OR pg_relation_filenode(oid)::bigint IS DISTINCT FROM file"
        f"{touched if untouched else ''} ORDER BY number",
        (
            [relation.oid for relation in relations],
            [relation.schema for relation in relations],
            [relation.name for relation in relations],
            [relation.filenode for relation in relations],
            [relation.version for relation in relations],
        ),
        into=int,
    )
    return [relations[number - 1] for number in numbers]


@dataclass(frozen=True, slots=True)
class Named:
    """What a definition of the user's own is called: `parent` is a schema's OID, or a table's.

    `more` is a digest of a relation's columns, by name and version, and of what is printed whole as
    it is now (a function's arguments, a trigger) its version.
    """

    kind: str
    parent: int
    schema: str
    name: str
    more: str | None

    def __str__(self) -> str:
        name = qualified(self.schema, self.name) if self.schema else quoted(self.name)
        return f"{self.kind} {name}" if self.kind else name


def schemas(conn: Connection) -> dict[int, tuple[str, str]]:
    """Return name and version of the user's own schemas: any ALTER makes a new version."""
    rows = connection.rows(
        conn,
        f"SELECT oid, nspname, xmin::text FROM pg_namespace n WHERE {OWN_SCHEMA}",
        into=tuple[int, str, str],
    )
    return {oid: (name, version) for oid, name, version in rows}


# What pg_dump prints names of as they are now, or asks the server to print as it is now: kind,
# catalog, the columns of schema and name, which of its rows
_NAMED = (
    ("", "pg_class", "relnamespace", "relname", "x.relpersistence <> 't'"),
    # a table's own row type and the array of each type have their names of it
    ("type", "pg_type", "typnamespace", "typname", "x.typrelid = 0 AND x.typcategory <> 'A'"),
    ("function", "pg_proc", "pronamespace", "proname", "true"),
    ("operator", "pg_operator", "oprnamespace", "oprname", "true"),
    ("operator class", "pg_opclass", "opcnamespace", "opcname", "true"),
    ("operator family", "pg_opfamily", "opfnamespace", "opfname", "true"),
    ("collation", "pg_collation", "collnamespace", "collname", "true"),
    ("conversion", "pg_conversion", "connamespace", "conname", "true"),
    ("statistics object", "pg_statistic_ext", "stxnamespace", "stxname", "true"),
    ("text search configuration", "pg_ts_config", "cfgnamespace", "cfgname", "true"),
    ("text search dictionary", "pg_ts_dict", "dictnamespace", "dictname", "true"),
)
_MORE = {
    "pg_proc": "x.xmin::text",
    "pg_class": (
        "(SELECT sum(hashtextextended(a.attname || ':' || a.xmin::text COLLATE \"C\", a.attnum))"
        "::text FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attnum > 0"
        " AND NOT a.attisdropped)"
    ),
}


def names(conn: Connection) -> dict[tuple[str, int], Named]:
    """Return what the user's own definitions are called, by catalog and OID; none is locked."""
    queries = [
        f"SELECT '{catalog}', x.oid, '{kind}', n.oid, n.nspname, x.{name},"
        f" {_MORE.get(catalog, 'NULL')}"
        f" FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{schema}"
        f" WHERE {OWN_SCHEMA} AND {condition}"
        for kind, catalog, schema, name, condition in _NAMED
    ]
    queries.append(
        "SELECT 'pg_trigger', x.oid, 'trigger', c.oid, n.nspname, x.tgname, x.xmin::text"
        " FROM pg_trigger x JOIN pg_class c ON c.oid = x.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE {OWN_SCHEMA} AND NOT x.tgisinternal"
    )
    queries.append(
        "SELECT 'pg_namespace', n.oid, 'schema', 0::oid, '', n.nspname, NULL"
        f" FROM pg_namespace n WHERE {OWN_SCHEMA}"
    )
    rows = connection.rows(
        conn, " UNION ALL ".join(queries), into=tuple[str, int, str, int, str, str, str | None]
    )
    return {
        (catalog, oid): Named(kind, parent, schema, name, more)
        for catalog, oid, kind, parent, schema, name, more in rows
    }


def columns(conn: Connection, oids: Sequence[int]) -> dict[int, str | None]:
    """Return the digest of the columns of some relations, as `names` has it."""
    rows = connection.rows(
        conn,
        f"SELECT x.oid, {_MORE['pg_class']} FROM pg_class x WHERE x.oid = ANY (%s::oid[])",
        (list(oids),),
        into=tuple[int, str | None],
    )
    return dict(rows)
