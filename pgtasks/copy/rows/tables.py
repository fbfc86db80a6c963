"""The tables of a copy: how the rows of each are read and written.

A table is read as pg_dump reads it: its own rows alone, without generated columns. Rows travel in
the binary format only if it means the same on both servers, which is not so for base types and row
types that users define, for values that are OIDs by another name, or between major versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.server import connection, rows
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.fingerprint import pin_statement
from pgtasks.server.quoting import qualified

# Types whose binary format holds no OID of a database's own objects, and no setting changes; that
# of enums has their labels.
_BINARY = (
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "oid", "uuid", "bytea"),
    *("text", "varchar", "bpchar", "name", "json", "jsonb", "inet", "cidr", "macaddr", "macaddr8"),
    *(
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "bit",
        "varbit",
        "tsvector",
    ),
    *("text[]", "varchar[]", "int2[]", "int4[]", "int8[]", "numeric[]", "uuid[]", "float8[]"),
)
# rows in their physical order, and nothing in between that planning would run
_READING = "; SET synchronize_seqscans = off"
# as pg_dump sets them, and without waiting for the disk: the commit of the swap flushes all
_WRITING = (
    "; SET xmloption = content; SET synchronous_commit = off; SET client_min_messages = error"
)
SMALL = 256 << 10  # bytes up to which tables are copied together, in one transaction
_TOGETHER = 100
_TEXT_QUERY = """
WITH RECURSIVE binary_types AS (
  SELECT oid FROM pg_type WHERE typtype = 'e' OR oid = ANY (%s::regtype[])
  UNION SELECT t.oid FROM binary_types b CROSS JOIN pg_type t LEFT JOIN pg_range r
    ON r.rngtypid = t.oid WHERE t.typtype = 'd' AND t.typbasetype = b.oid OR r.rngsubtype = b.oid)
SELECT DISTINCT a.attrelid FROM pg_attribute a WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0
AND NOT a.attisdropped AND a.attgenerated = '' AND a.atttypid NOT IN (TABLE binary_types)
"""
# The hash of an enum is that of an OID, so that its rows belong into other partitions there; a mask
# of the key does the same.
_ROUTED_QUERY = """
WITH RECURSIVE hashed AS (
  SELECT p.partrelid AS oid FROM pg_partitioned_table p WHERE p.partrelid = ANY (%s::oid[])
  OR p.partstrat = 'h' AND EXISTS (SELECT FROM unnest(p.partclass) k(oid)
    JOIN pg_opclass o ON o.oid = k.oid WHERE o.opcintype = 'anyenum'::regtype)
  UNION SELECT i.inhrelid FROM hashed h JOIN pg_inherits i ON i.inhparent = h.oid)
SELECT h.oid, n.nspname, c.relname FROM hashed h JOIN pg_class c ON c.oid = pg_partition_root(h.oid)
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE h.oid = ANY (%s::oid[])
"""


@dataclass(frozen=True)
class TableCopy:
    """A table to copy. `root` is the partitioned table that its rows go through, if not itself.

    `filled` is one that has rows already, which are replaced.
    """

    relation: Relation
    binary: bool = False
    root: tuple[str, str] | None = None
    filled: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that are copied."""
        generated = self.relation.stored | self.relation.virtual
        return tuple(name for name in self.relation.columns if name not in generated)

    @property
    def whole(self) -> bool:
        """Whether nothing else writes rows into the new table."""
        return self.root is None and not self.relation.extension

    @property
    def frozen(self) -> bool:
        """Whether its rows are frozen: of a small table that saves less than TRUNCATE costs."""
        return self.whole and self.relation.bytes > SMALL

    def __str__(self) -> str:
        return str(self.relation)


def plan(
    conn: Connection,
    relations: Sequence[Relation],
    *,
    binary: bool,
    masked: Iterable[int] = (),
) -> list[TableCopy]:
    """Return the tables to copy, the largest first; `conn` is in the snapshot of the source.

    `binary` says whether both servers have the same major version; `masked` are the partitioned
    tables whose key is masked.
    """
    oids = [relation.oid for relation in relations]
    in_text = set(connection.rows(conn, _TEXT_QUERY, (list(_BINARY), oids), into=int))
    routed = {
        oid: (schema, name)
        for oid, schema, name in connection.rows(
            conn, _ROUTED_QUERY, (list(masked), oids), into=tuple[int, str, str]
        )
    }
    tables = (
        TableCopy(
            relation,
            binary=binary and relation.oid not in in_text,
            root=routed.get(relation.oid),
        )
        for relation in relations
    )
    return sorted(tables, key=lambda table: -table.relation.bytes)


def batches(tables: Iterable[TableCopy]) -> list[list[TableCopy]]:
    """Return tables in batches: a large one alone, small ones together."""
    small: list[TableCopy] = []
    parts = []
    for table in tables:
        if table.relation.bytes > SMALL:
            parts.append([table])
        else:
            small.append(table)
    return parts + [small[i : i + _TOGETHER] for i in range(0, len(small), _TOGETHER)]


def reading_settings() -> str:
    """Return the statements that pin a session which reads rows."""
    return pin_statement() + _READING


def writing_settings() -> str:
    """Return the statements that pin a session which writes rows."""
    return pin_statement() + _WRITING


def out_statement(table: TableCopy) -> sql.Composed:
    """Return the statement that reads the rows."""
    relation = table.relation
    if relation.condition or relation.expressions:
        what = sql.SQL("(SELECT {} FROM {})").format(
            _names(table), rows.from_item(relation, table.columns)
        )
    else:
        what = sql.Identifier(relation.schema, relation.name) + _listed(table)
    return sql.SQL("COPY {} TO STDOUT (FORMAT {})").format(what, _format(table))


def place(table: TableCopy) -> tuple[str, str]:
    """Return schema and name of the table that the rows are written into."""
    return table.root or (table.relation.schema, table.relation.name)


def in_statement(table: TableCopy, *, stdin: str = "STDIN") -> sql.Composed:
    """Return the statement that writes the rows; psql's \\copy knows another `stdin`, pstdin."""
    freeze = sql.SQL(", FREEZE" if table.frozen else "")
    return sql.SQL("COPY {}{} FROM {} (FORMAT {}{})").format(
        *(sql.Identifier(*place(table)), _listed(table), sql.SQL(stdin), _format(table), freeze)
    )


def truncate_statement(tables: Iterable[TableCopy]) -> sql.Composed | None:
    """Return the statement that lets rows be frozen: tables truncated in the same transaction.

    The tables are empty or to be replaced, and nothing refers to them.
    """
    names = [
        sql.SQL("ONLY {}").format(sql.Identifier(table.relation.schema, table.relation.name))
        for table in tables
        if table.frozen or table.filled
    ]
    return sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)) if names else None


def _format(table: TableCopy) -> sql.SQL:
    return sql.SQL("binary" if table.binary else "text")


def _names(table: TableCopy) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.columns))


def _listed(table: TableCopy) -> sql.Composable:
    # without a list, COPY leaves generated columns out by itself
    return sql.SQL(" ({})").format(_names(table)) if table.columns else sql.SQL("")


def setval_statement(schema: str, name: str, value: int, called: bool) -> sql.Composed:
    """Return the statement that sets a sequence."""
    return sql.SQL("SELECT pg_catalog.setval({}::pg_catalog.regclass, {}, {})").format(
        sql.Literal(qualified(schema, name)),
        sql.Literal(value),
        sql.Literal(called),
    )
