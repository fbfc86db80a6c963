"""The columns of a source, with what must hold for their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

# Domains are followed to their type: their constraints are code, which the target runs.
_COLUMNS = f"""
WITH RECURSIVE based (relation, number, type, modifier, required) AS (
  SELECT a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attnotnull
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {OWN_SCHEMA}
  AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT b.relation, b.number, t.typbasetype,
    CASE WHEN b.modifier = -1 THEN t.typtypmod ELSE b.modifier END, b.required OR t.typnotnull
  FROM based b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'),
ancestors (relation, ancestor) AS (
  SELECT inhrelid, inhparent FROM pg_inherits
  UNION SELECT a.relation, i.inhparent FROM ancestors a JOIN pg_inherits i
    ON i.inhrelid = a.ancestor)
SELECT c.oid::bigint AS relation, n.nspname AS schema, c.relname AS table, a.attname AS name,
  a.attnum::int AS number, t.typname AS base, coalesce(e.typname, '') AS element,
  format_type(b.type, CASE WHEN b.modifier <> -1 THEN b.modifier END) AS cast,
  ARRAY[format_type(a.atttypid, NULL), format_type(b.type, NULL), t.typname]::text[] AS types,
  b.modifier AS modifier, b.required, a.attgenerated <> '' AS generated,
  c.relkind = 'p' AS partitioned,
  coalesce((SELECT array_agg(DISTINCT h.ancestor::bigint) FROM ancestors h
    JOIN pg_attribute o ON o.attrelid = h.ancestor AND o.attname = a.attname
    WHERE h.relation = c.oid AND NOT o.attisdropped), '{{}}') AS ancestors,
  coalesce((SELECT array_agg(DISTINCT p.partrelid::bigint) FROM pg_partitioned_table p
    WHERE p.partrelid = c.oid AND (a.attnum = ANY (p.partattrs) OR p.partexprs IS NOT NULL)),
    '{{}}') AS parts
FROM based b JOIN pg_class c ON c.oid = b.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = b.relation AND a.attnum = b.number
JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typlen = -1
  AND t.typcategory = 'A'
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
  AND d.deptype = 'e'
LEFT JOIN pg_extension x ON x.oid = d.refobjid
WHERE t.typtype <> 'd' AND (x.oid IS NULL OR c.oid = ANY (x.extconfig))
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", a.attnum
"""
_UNIQUE = """
SELECT i.indrelid::bigint AS relation, x.relname AS name, i.indisprimary AS primary,
  (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid
    AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) AS columns
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indisunique AND i.indisvalid AND i.indrelid = ANY (%s::oid[]) AND i.indexprs IS NULL
ORDER BY x.relname
"""
_FOREIGN_KEYS = """
SELECT o.conname AS name, o.conrelid::bigint AS relation, o.confrelid::bigint AS referenced,
  (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(o.conkey) WITH ORDINALITY k(num, n)
    JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.num) AS columns,
  (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(o.confkey) WITH ORDINALITY k(num, n)
    JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.num) AS targets
FROM pg_constraint o WHERE o.contype = 'f' AND o.conparentid = 0
AND o.conrelid = ANY (%s::oid[]) ORDER BY o.conname
"""


@dataclass(frozen=True)
class Column:
    """A column of a table; `base` is its type, below all domains, and `element` that of an array.

    `cast` is that type with its length; `types` are the names that a rule may call it by.
    `required` means that it cannot be null, `ancestors` are the tables that it is inherited from,
    `parts` is the table itself if it is partitioned by this column.
    """

    relation: int
    schema: str
    table: str
    name: str
    number: int
    base: str
    element: str
    cast: str
    types: list[str]
    modifier: int
    required: bool
    generated: bool
    partitioned: bool
    ancestors: list[int]
    parts: list[int]

    @property
    def most(self) -> int | None:
        """Return the largest number of characters, None without a limit."""
        limited = (self.element or self.base) in ("varchar", "bpchar") and self.modifier > 4
        return self.modifier - 4 if limited else None

    @property
    def scale(self) -> int:
        """Return the number of decimal places of a numeric."""
        return (self.modifier - 4) & 0x7FF if self.modifier > 4 else 2

    def __str__(self) -> str:
        return f"{qualified(self.schema, self.table)}.{quoted(self.name)}"


@dataclass(frozen=True)
class Unique:
    """A unique index, by its columns."""

    relation: int
    name: str
    primary: bool
    columns: list[str]


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key: columns, and the columns that they refer to."""

    name: str
    relation: int
    referenced: int
    columns: list[str]
    targets: list[str]


def untouchable(conn: Connection, every: Iterable[Column]) -> set[int]:
    """Return the tables a query of which would run code of another role, and those above them."""
    relations = catalog.relations(conn, "rp")
    tables = {each.oid for each in relations if each.foreign_code or each.own_cast}
    above = [each.ancestors for each in every if each.relation in tables]
    return tables.union(*above)


def read(conn: Connection) -> list[Column]:
    """Return the columns of all tables whose rows are copied, in the transaction's snapshot."""
    every = connection.rows(conn, _COLUMNS, into=Column)
    tables = {each.relation for each in every}
    # a foreign table is not copied, and may be one that a table inherits
    return [
        each
        if tables.issuperset(each.ancestors)
        else replace(each, ancestors=[table for table in each.ancestors if table in tables])
        for each in every
    ]


def unique(conn: Connection, relations: Sequence[int]) -> list[Unique]:
    """Return the unique indexes of tables."""
    return connection.rows(conn, _UNIQUE, (list(relations),), into=Unique)


def foreign_keys(conn: Connection, relations: Sequence[int]) -> list[ForeignKey]:
    """Return the foreign keys of tables."""
    return connection.rows(conn, _FOREIGN_KEYS, (list(relations),), into=ForeignKey)
