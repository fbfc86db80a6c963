"""The tables of a database with their columns, sequences, checks and keys, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.copy.part import keys
from pgtasks.copy.part.keys import ForeignKey
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA, Relation
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified

Name = tuple[str, str]
_COLUMNS = f"""
SELECT n.nspname AS schema, c.relname AS "table", a.attname AS name,
  format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
  a.atthasdef OR a.attidentity <> '' AS filled, a.attgenerated <> '' AS generated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {OWN_SCHEMA}
"""
_OWNED = """
SELECT n.nspname AS schema, s.relname AS name, tn.nspname AS to_schema, t.relname AS "table",
  a.attname AS "column", q.seqmin AS least, q.seqincrement > 0 AS rising
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
AND d.deptype IN ('a', 'i')
"""
# by a column that it belongs to, or by a default, which a partition has of its partitioned table
_USES = """
WITH used AS (
  SELECT objid AS sequence, refobjid AS relation FROM pg_depend
  WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
  AND deptype IN ('a', 'i')
  UNION SELECT d.refobjid, f.adrelid FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
  WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass)
SELECT DISTINCT n.nspname AS schema, s.relname AS name, q.seqincrement > 0 AS rising,
  tn.nspname AS by_schema, t.relname AS "table"
FROM used u JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = s.relnamespace
CROSS JOIN LATERAL (
  SELECT u.relation AS oid UNION SELECT relid FROM pg_partition_tree(u.relation)) r
JOIN pg_class t ON t.oid = r.oid AND t.relkind = 'r' JOIN pg_namespace tn ON tn.oid = t.relnamespace
"""
# of built-in functions, operators and types alone: others would run with the rights of the session
_CHECKS = """
SELECT n.nspname AS schema, c.relname AS "table", o.conname AS name,
  pg_get_expr(o.conbin, o.conrelid) AS expression,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
    AND a.attnum = ANY (o.conkey)) AS columns
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype = 'c' AND o.convalidated AND c.relkind = 'r' AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = o.oid
  AND d.refobjid >= 16384 AND d.refclassid <> 'pg_class'::regclass)
"""


@dataclass(frozen=True)
class Column:
    """A column: `required` is NOT NULL, `filled` means that it has a default or an identity."""

    schema: str
    table: str
    name: str
    type: str
    required: bool
    filled: bool
    generated: bool


@dataclass(frozen=True)
class Owned:
    """A sequence that belongs to a column; `rising` unless it counts down."""

    schema: str
    name: str
    to_schema: str
    table: str
    column: str
    least: int
    rising: bool

    def advance(self) -> sql.Composed:
        """Return the statement that sets the sequence to the largest value of its column."""
        return sql.SQL(
            "SELECT pg_catalog.setval({}::pg_catalog.regclass, max({column})) FROM {}"
            " HAVING max({column}) >= {}"
        ).format(
            sql.Literal(qualified(self.schema, self.name)),
            sql.Identifier(self.to_schema, self.table),
            sql.Literal(self.least),
            column=sql.Identifier(self.column),
        )


@dataclass(frozen=True)
class Use:
    """A sequence that a table takes values of; `rising` unless it counts down."""

    schema: str
    name: str
    rising: bool
    by_schema: str
    table: str


@dataclass(frozen=True)
class Check:
    """A check constraint of built-in functions alone."""

    schema: str
    table: str
    name: str
    expression: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """The tables of one of the databases, with their columns, sequences, checks and keys.

    On a `standby`, unlogged tables have no rows that could be read.
    """

    tables: Mapping[Name, Mapping[str, Column]]
    relations: Mapping[Name, Relation]
    sequences: frozenset[Name]
    owned: tuple[Owned, ...]
    uses: tuple[Use, ...]
    checks: tuple[Check, ...]
    keys: tuple[ForeignKey, ...]
    standby: bool

    @property
    def readable(self) -> set[Name]:
        """Return the tables whose rows can be read."""
        return {
            name
            for name, each in self.relations.items()
            if not (self.standby and each.persistence == "u")
        }


def name_of(table: Relation) -> Name:
    """Return the schema and the name of a table."""
    return table.schema, table.name


def read(conn: Connection) -> Side:
    """Read the tables of a database."""
    tables: dict[Name, dict[str, Column]] = {}
    relations = catalog.relations(conn, "rS")
    plain = {name_of(each): each for each in relations if each.kind == "r" and not each.extension}
    for column in connection.rows(conn, _COLUMNS, into=Column):
        tables.setdefault((column.schema, column.table), {})[column.name] = column
    return Side(
        {name: tables.get(name, {}) for name in plain},
        plain,
        frozenset(name_of(each) for each in relations if each.kind == "S"),
        tuple(connection.rows(conn, _OWNED, into=Owned)),
        tuple(connection.rows(conn, _USES, into=Use)),
        tuple(connection.rows(conn, _CHECKS, into=Check)),
        tuple(keys.read(conn)),
        connection.value(conn, "SELECT pg_is_in_recovery()", into=bool),
    )
