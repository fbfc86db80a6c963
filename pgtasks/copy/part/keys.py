"""The foreign keys of a database, and the queries that follow them.

A key of a partitioned table is read once, with all partitions at both of its ends. Its operators
are named with their schemas, because the sessions of a copy have no search_path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.copy.part import names
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

_QUERY = """
SELECT o.oid::bigint, o.conname AS name, o.convalidated AS valid,
  c.oid::bigint AS child, n.nspname AS schema, c.relname AS "table", c.relkind = 'p' AS whole,
  p.oid::bigint AS parent, pn.nspname AS to_schema, p.relname AS to_table,
  p.relkind = 'p' AS to_whole,
  ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(n, i)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n ORDER BY k.i) AS columns,
  ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(n, i)
    JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = k.n ORDER BY k.i) AS to_columns,
  ARRAY(SELECT format('OPERATOR(%I.%s)', s.nspname, q.oprname)
    FROM unnest(o.conpfeqop) WITH ORDINALITY k(op, i) JOIN pg_operator q ON q.oid = k.op
    JOIN pg_namespace s ON s.oid = q.oprnamespace ORDER BY k.i) AS operators,
  ARRAY(SELECT CASE WHEN a.attcollation NOT IN (0, b.attcollation) AND b.attcollation <> 0
      THEN format(' COLLATE %I.%I', s.nspname, l.collname) ELSE '' END
    FROM unnest(o.conkey, o.confkey) WITH ORDINALITY k(n, m, i)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n
    JOIN pg_attribute b ON b.attrelid = p.oid AND b.attnum = k.m
    LEFT JOIN pg_collation l ON l.oid = b.attcollation
    LEFT JOIN pg_namespace s ON s.oid = l.collnamespace ORDER BY k.i) AS collations,
  coalesce((to_jsonb(o) ->> 'conperiod')::bool, false) AS period
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class p ON p.oid = o.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE o.contype = 'f' AND o.conparentid = 0
ORDER BY n.nspname, c.relname, o.conname
"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key from a table (`child`, by OID) to another (`parent`).

    `whole` says whether a table is partitioned, and `period` whether the last column is a period,
    for which several rows of the parent may be needed. `collations` are clauses for the child's
    columns, empty where both have the same collation: the parent's decides, as in the server.
    """

    oid: int
    name: str
    valid: bool
    child: int
    schema: str
    table: str
    whole: bool
    parent: int
    to_schema: str
    to_table: str
    to_whole: bool
    columns: tuple[str, ...]
    to_columns: tuple[str, ...]
    operators: tuple[str, ...]
    collations: tuple[str, ...]
    period: bool

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """Return the columns that are compared: of the parent, the operator, of the child."""
        pairs = list(zip(self.to_columns, self.operators, self.columns, strict=True))
        return pairs[:-1] if self.period else pairs

    @property
    def from_(self) -> sql.Composed:
        """Return the child for a FROM clause."""
        return rows_of(self.schema, self.table, whole=self.whole)

    @property
    def to(self) -> sql.Composed:
        """Return the parent for a FROM clause."""
        return rows_of(self.to_schema, self.to_table, whole=self.to_whole)

    def matches(self, parent: str, child: str) -> sql.Composed:
        """Return the condition that a row of `parent` is the one that a row of `child` refers to.

        Both are aliases.
        """
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(parent, to),
                sql.SQL(operator),
                self.collated(column, sql.Identifier(child, column)),
            )
            for to, operator, column in self.pairs
        )

    def collated(self, column: str, value: sql.Composable) -> sql.Composed:
        """Return a value of a column of the child, to be compared with the parent's."""
        clause = self.collations[self.columns.index(column)]
        return sql.SQL("{}{}").format(value, sql.SQL(clause))

    def refers(self, child: str) -> sql.Composed:
        """Return the condition that a row of `child`, an alias, refers to a row at all."""
        return sql.SQL(" AND ").join(
            sql.SQL("{}.{} IS NOT NULL").format(sql.Identifier(child), sql.Identifier(column))
            for column in self.columns
        )

    def __str__(self) -> str:
        return f"{qualified(self.schema, self.table)}.{quoted(self.name)}"


def rows_of(schema: str, name: str, *, whole: bool) -> sql.Composed:
    """Return a table for a FROM clause: with its partitions, but without what inherits from it."""
    return sql.SQL("{}{}").format(sql.SQL("" if whole else "ONLY "), sql.Identifier(schema, name))


def read(conn: Connection) -> list[ForeignKey]:
    """Return the foreign keys of a database."""
    return connection.rows(conn, _QUERY, into=ForeignKey)


def into_empty(
    conn: Connection,
    empty: Collection[int],
    untouchable: Collection[int],
    is_foreign: Callable[[ForeignKey], bool],
) -> Iterator[ForeignKey]:
    """Yield the foreign keys by which rows of other tables refer to rows of some tables.

    Without these rows the keys would not hold. No query reads the `untouchable` tables, nor follows
    a key that `is_foreign`, because it would run code of other roles: these keys count.
    """
    parts = names.partitions(conn)
    for key in read(conn):
        parents = parts.get(key.parent, frozenset()) | {key.parent}
        children = parts.get(key.child, frozenset()) | {key.child}
        if not key.valid or not parents & set(empty) or children <= set(empty):
            continue
        unread = bool((parents | children) & set(untouchable)) or is_foreign(key)
        if unread or connection.value(conn, _refers_into(key, empty), into=bool):
            yield key


def _refers_into(key: ForeignKey, empty: Collection[int]) -> sql.Composed:
    oids = sql.SQL("{}::pg_catalog.oid[]").format(sql.Literal(list(empty)))
    return sql.SQL(
        "SELECT EXISTS (SELECT FROM {child} c, {parent} p WHERE {matches}"
        " AND c.tableoid <> ALL ({oids}) AND p.tableoid = ANY ({oids}))"
    ).format(child=key.from_, parent=key.to, matches=key.matches("p", "c"), oids=oids)
