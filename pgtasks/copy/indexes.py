"""The indexes that are built as soon as the rows of their table are in.

These are plain indexes and the constraints that rest on one. pg_restore builds all others:
those of partitioned tables and materialized views, and those that need something later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import POST_DATA, Entry
from pgtasks.server.quoting import from_bytes, qualified, quoted

_QUERY = """
SELECT i.indexrelid::bigint AS oid, coalesce(o.oid, 0)::bigint AS "constraint",
  i.indrelid::bigint AS "table", pg_relation_size(i.indexrelid) AS bytes, x.relname AS name,
  am.amname AS method, i.indexprs IS NOT NULL AS computed,
  coalesce(o.contype IN ('p', 'u') AND NOT o.condeferrable, false) AS adopted,
  coalesce(o.contype = 'p', false) AS "primary", pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am am ON am.oid = x.relam
LEFT JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.conrelid = i.indrelid
  AND o.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY (%s::oid[]) AND x.relkind = 'i' AND i.indisvalid
"""
_EXPRESSIONS = 8  # a GIN index takes so much longer than a btree of its size


@dataclass(frozen=True)
class SourceIndex:
    """An index of the source, and its constraint (0 if none)."""

    oid: int
    constraint: int
    table: int
    bytes: int
    name: str
    method: str
    computed: bool
    adopted: bool
    primary: bool
    definition: str


@dataclass(frozen=True)
class IndexBuild:
    """An index to build: its entry in the archive, its table, its cost, and the statements.

    `adopt` runs when all indexes of the table are built: it locks the table exclusively.
    """

    number: int
    table: int
    cost: int
    create: sql.Composable
    adopt: sql.Composable | None = None
    name: str = ""


def read(conn: Connection, tables: Iterable[int]) -> list[SourceIndex]:
    """Return the valid indexes of some tables."""
    return connection.rows(conn, _QUERY, (list(tables),), into=SourceIndex)


def builds(
    indexes: Sequence[SourceIndex],
    archive: Sequence[Entry],
    *,
    spaces: bool = True,
    without: Collection[int] = (),
) -> list[IndexBuild]:
    """Return the indexes to build, of those that the archive has, in their order there.

    `spaces` says whether they go into their own tablespaces; `without` are entries left out.
    """
    by_oid = {index.oid: index for index in indexes}
    by_constraint = {index.constraint: index for index in indexes if index.constraint}
    later = {entry.number for entry in archive if entry.section == POST_DATA}
    found = []
    for entry in archive:
        if entry.number in without or entry.needs & later:
            continue
        if entry.desc == "INDEX" and entry.oid in by_oid:
            index = by_oid[entry.oid]
            if not index.constraint:
                create = _space(entry, spaces) + sql.SQL(from_bytes(entry.definition))
                found.append(
                    IndexBuild(entry.number, index.table, cost(index), create, name=index.name)
                )
        elif entry.desc == "CONSTRAINT" and entry.oid in by_constraint:
            build = _adopted(entry, by_constraint[entry.oid], spaces=spaces)
            found += [build] if build else []
    return found


def _adopted(entry: Entry, index: SourceIndex, *, spaces: bool) -> IndexBuild | None:
    """Return a constraint as an index that is built first and then taken over.

    CREATE INDEX locks no other index build of the table out, ADD CONSTRAINT does.
    """
    table = qualified(entry.namespace, entry.tag.removesuffix(f" {index.name}"))
    kind = "PRIMARY KEY" if index.primary else "UNIQUE"
    begins = f"ALTER TABLE ONLY {table}\n    ADD CONSTRAINT {quoted(index.name)} {kind}"
    text = entry.definition.decode("utf-8", "replace")
    plain = index.adopted and index.method == "btree" and " WITHOUT OVERLAPS" not in text
    # what more it sets (CLUSTER ON, REPLICA IDENTITY) follows in further statements
    first, end, rest = text.partition(";\n")
    if not (plain and end and "\ufffd" not in text and first.startswith(begins)):
        return None
    if ";" in first:  # within a name
        return None
    adopt = f"{begins} USING INDEX {quoted(index.name)};\n{rest}"
    create = _space(entry, spaces) + sql.SQL(index.definition)
    return IndexBuild(entry.number, index.table, cost(index), create, sql.SQL(adopt), index.name)


def _space(entry: Entry, spaces: bool) -> sql.Composed:
    name = entry.rest[0] if spaces and entry.rest else ""
    return sql.SQL("SET LOCAL default_tablespace = {};\n").format(sql.Literal(name))


def cost(index: SourceIndex) -> int:
    """Return how long an index takes to build, compared with others."""
    factor = _EXPRESSIONS if index.method == "gin" else 2
    return index.bytes * factor * (2 if index.computed else 1)


def by_table(found: Iterable[IndexBuild]) -> Mapping[int, list[IndexBuild]]:
    """Return the indexes of each table."""
    tables: dict[int, list[IndexBuild]] = {}
    for build in found:
        tables.setdefault(build.table, []).append(build)
    return tables
