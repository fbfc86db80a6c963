"""The indexes that are built as soon as the rows of their table are in.

These are plain indexes and the constraints that rest on one, also of partitions: pg_restore
attaches them. It builds all others: those of partitioned tables, which have no rows, those of
materialized views, and those that need something later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
  coalesce(o.contype = 'p', false) AS "primary", pg_get_indexdef(i.indexrelid) AS definition,
  coalesce(h.inhparent, 0)::bigint AS parent, coalesce(p.oid, 0)::bigint AS parent_constraint
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am am ON am.oid = x.relam
LEFT JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.conrelid = i.indrelid
  AND o.contype IN ('p', 'u', 'x')
LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
LEFT JOIN pg_constraint p ON p.conindid = h.inhparent AND p.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY (%s::oid[]) AND x.relkind = 'i' AND i.indisvalid
"""
# What a byte costs, if a byte of rows costs 1. A GIN index of an expression is small, and takes as
# long as computing it for all rows.
_BTREE, _GIN, _COMPUTED = 2, 8, 40
_SORT = 8 << 20  # bytes
_MERGED = 256 << 10  # bytes
_ONE_PROCESS = sql.SQL("SET LOCAL max_parallel_maintenance_workers = 0;\n")
_MEMORY = sql.SQL(
    "SELECT set_config('maintenance_work_mem', least({}, setting::bigint) || 'kB', true)"
    " FROM pg_settings WHERE name = 'maintenance_work_mem';\n"
)


@dataclass(frozen=True)
class SourceIndex:
    """An index of the source, its constraint, the index of the partitioned table (0 if none)."""

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
    parent: int = 0
    parent_constraint: int = 0


@dataclass(frozen=True)
class IndexBuild:
    """An index to build: its entry in the archive, its table, its cost, and the statements.

    `adopt` runs when all indexes of the table are built: it locks the table exclusively. `settings`
    come before `create` while other sessions keep the cores busy.
    """

    number: int
    table: int
    cost: int
    create: sql.Composable
    adopt: sql.Composable | None = None
    name: str = ""
    settings: sql.Composable | None = None

    def statement(self, *, is_alone: bool) -> sql.Composable:
        """Return the statement that creates the index."""
        if is_alone or self.settings is None:
            return self.create
        return sql.Composed([self.settings, self.create])


def read(conn: Connection, tables: Iterable[int]) -> list[SourceIndex]:
    """Return the valid indexes of some tables."""
    return connection.rows(conn, _QUERY, (list(tables),), into=SourceIndex)


def builds(
    indexes: Sequence[SourceIndex],
    archive: Sequence[Entry],
    sizes: Mapping[int, int],
    *,
    spaces: bool = True,
) -> list[IndexBuild]:
    """Return the indexes to build, of those that the archive has, in their order there.

    `sizes` are the bytes of the tables; `spaces` says whether the indexes go into their own
    tablespaces.
    """
    by_oid = {index.oid: index for index in indexes}
    by_constraint = {index.constraint: index for index in indexes if index.constraint}
    later = _later(indexes, archive)
    built = []
    for entry in archive:
        if entry.needs & later:
            continue
        if entry.desc == "INDEX" and entry.oid in by_oid:
            index = by_oid[entry.oid]
            if not index.constraint:
                create = _space(entry, spaces) + sql.SQL(from_bytes(entry.definition))
                built.append(_build(entry, index, sizes, create))
        elif entry.desc == "CONSTRAINT" and entry.oid in by_constraint:
            index = by_constraint[entry.oid]
            if (adopt := _adoption(entry, index)) is not None:
                create = _space(entry, spaces) + sql.SQL(index.definition)
                built.append(_build(entry, index, sizes, create, adopt))
    return built


def _later(indexes: Sequence[SourceIndex], archive: Sequence[Entry]) -> set[int]:
    """Return the entries that an index may need, and that come after the rows.

    An index of a partition does not need that of the partitioned table to be built.
    """
    parents = {index.parent for index in indexes}
    constraints = {index.parent_constraint for index in indexes}
    return {
        entry.number
        for entry in archive
        if entry.section == POST_DATA
        and not (entry.desc == "INDEX" and entry.oid in parents)
        and not (entry.desc == "CONSTRAINT" and entry.oid in constraints)
    }


def _build(
    entry: Entry,
    index: SourceIndex,
    sizes: Mapping[int, int],
    create: sql.Composable,
    adopt: sql.Composable | None = None,
) -> IndexBuild:
    price = cost(index, sizes.get(index.table, 0))
    return IndexBuild(
        *(entry.number, index.table, price, create, adopt, index.name), settings=_settings(index)
    )


def _settings(index: SourceIndex) -> sql.Composable:
    """Return the settings of a build while other sessions keep the cores busy: no more processes.

    The sort of a btree is faster while it fits into the cache of the CPU; the build of a GIN index
    profits from memory.
    """
    if index.method != "btree":
        return _ONE_PROCESS
    return _ONE_PROCESS + _MEMORY.format(sql.Literal(sort_memory(index.bytes) >> 10))


def sort_memory(size: int) -> int:
    """Return the bytes of memory for a sort of `size` bytes that is merged only once.

    A merge takes 256 kB for each of its runs, which are as long as the memory: M bytes are enough
    for M * M / 256 kB. Source: src/backend/utils/sort/tuplesort.c, MERGE_BUFFER_SIZE.
    """
    return max(_SORT, math.isqrt(size * _MERGED))


def _adoption(entry: Entry, index: SourceIndex) -> sql.SQL | None:
    """Return the statement that makes an index the constraint of an entry, None if none can.

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
    return sql.SQL(f"{begins} USING INDEX {quoted(index.name)};\n{rest}")


def _space(entry: Entry, spaces: bool) -> sql.Composed:
    name = entry.rest[0] if spaces and entry.rest else ""
    return sql.SQL("SET LOCAL default_tablespace = {};\n").format(sql.Literal(name))


def cost(index: SourceIndex, table_bytes: int) -> int:
    """Return how long an index takes to build, compared with others."""
    if index.method == "gin":
        return index.bytes * _GIN + (table_bytes * _COMPUTED if index.computed else 0)
    return index.bytes * _BTREE * (2 if index.computed else 1)


def by_table(found: Iterable[IndexBuild]) -> Mapping[int, list[IndexBuild]]:
    """Return the indexes of each table."""
    tables: dict[int, list[IndexBuild]] = {}
    for build in found:
        tables.setdefault(build.table, []).append(build)
    return tables
