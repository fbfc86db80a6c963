"""Find the objects that names refer to, in a snapshot and now.

A snapshot shows old rows, also of catalogs, but the names in a query are always looked up in the
current catalogs.
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
    """Return the relations that have changed since the snapshot in which they were read.

    Another relation has the name now (after a rename or drop, also of the schema), or it has
    another file (TRUNCATE, most forms of ALTER TABLE): a query by name in the old snapshot returns
    nothing, or rows of another table, without an error. The functions used here ignore the snapshot
    of the transaction. The search_path of the session must not contain a user's schema. `untouched`
    also returns relations that were altered and have the same name and file; it needs a session
    outside the snapshot.
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
    """The name of a user's object; `parent` is the OID of its schema, or table.

    `more` is a digest of the columns of a relation, by name and version, or the version of an
    object whose current definition is printed (a function's arguments, a trigger).
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
    """Return name and version of the user schemas: any ALTER makes a new version."""
    rows = connection.rows(
        conn,
        f"SELECT oid, nspname, xmin::text FROM pg_namespace n WHERE {OWN_SCHEMA}",
        into=tuple[int, str, str],
    )
    return {oid: (name, version) for oid, name, version in rows}


# Objects whose current names or definitions pg_dump prints: kind, catalog, its columns of schema
# and name, condition on its rows
_NAMED = (
    ("", "pg_class", "relnamespace", "relname", "x.relpersistence <> 't'"),
    # without the row types of tables and the array types, which are named after another object
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
    """Return the names of the user's objects, by catalog and OID, without locking any."""
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
