"""The SQL that counts and fingerprints tables.

A row is hashed column by column, sorted by name: a restored inheritance child has its columns in
another order, and `t::text` means a column if the table has one named `t`. Columns are hashed as
text, which is the same on all supported majors under the settings of PINNED; those of PLAIN_TYPES
as they are. The hashes are those of hash partitioning, which no major may change. The hash of a
character(n) leaves trailing blanks out, as the conversion to text does: it is the hash of that.

A record's hash is a sum over its columns (times 31 each), so a sum of such hashes does not notice
values that rows exchange: each is hashed once more, as a number, which keeps its 64 bits
(hashint8extended folds them into 32). Generated columns are no part of it, as pg_dump saves none.
Proofs of format 1 have neither: they are compared by their own rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from psycopg2 import sql

from pgtasks.server import rows
from pgtasks.server.catalog import Relation
from pgtasks.server.proof.model import FORMAT

# Settings that affect the text of values. Without row_security=off, policies would silently hide
# rows; with it, such a table is an error.
PINNED = {
    "row_security": "off",
    "search_path": "",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # compiling costs more than it saves, because each table has its own query
    "jit": "off",
    # constraints would be planned, which runs functions that they call
    "constraint_exclusion": "off",
}

_PLAIN = "{}"
_PADDED = '{} COLLATE pg_catalog."C"'  # the conversion takes longer than the hash
_AS_TEXT = '{}::pg_catalog.text COLLATE pg_catalog."C"'
# The output function of the type, because a cast to text may be code of any role.
_BY_OUTPUT = (
    'CASE WHEN {0} IS DISTINCT FROM NULL THEN pg_catalog.concat({0}) END COLLATE pg_catalog."C"'
)
_HASH = "pg_catalog.hash_record_extended(ROW({}), 0)"
_LINEAR = 1  # the format whose fingerprint is the sum of the hashes of records

BATCH_TABLES = 100
BATCH_BYTES = 8 << 20


def pin_statement() -> str:
    """Return one statement that pins the session's settings."""
    return "; ".join(f"SET {name} = '{value}'" for name, value in PINNED.items())


def fingerprint(values: sql.Composable, format: int = FORMAT) -> sql.Composed:
    """Return the expression for the fingerprint of rows with these values, in a format."""
    row = sql.SQL(_HASH).format(values)
    if format != _LINEAR:
        row = sql.SQL("pg_catalog.hash_numeric_extended({}, 0)").format(row)
    return sql.SQL("pg_catalog.sum({})::pg_catalog.text").format(row)


def row_count(number: int, table: Relation, format: int = FORMAT) -> sql.Composed:
    """Return the query of one table: `number`, rows, fingerprint, and an array.

    The array has the fingerprints of `computed`, then the numbers of unchanged values of the masked
    columns.
    """
    generated = () if format == _LINEAR else (*table.stored, *table.virtual)
    columns = [value(table, name) for name in table.columns if name not in generated]
    apart = [fingerprint(value(table, name)) for name in computed(table, format)]
    apart += [_unchanged(table, name) for name in table.expressions]
    read = [name for name in table.columns if name not in generated]
    return sql.SQL(
        "SELECT {}, pg_catalog.count(*), {}, ARRAY[{}]::pg_catalog.text[] FROM {}"
    ).format(
        sql.Literal(number),
        fingerprint(sql.SQL(", ").join(columns), format),
        sql.SQL(", ").join(apart),
        rows.from_item(table, read, originals=True),
    )


def _unchanged(table: Relation, name: str) -> sql.Composed:
    """Return the expression for the number of values that a mask leaves as they are.

    Nulls and what is empty hide nothing, nor do a null of JSON and an array of nulls.
    """
    text = sql.SQL(_BY_OUTPUT if name in table.typed else _AS_TEXT)
    return sql.SQL(
        "pg_catalog.count(*) FILTER (WHERE {0} = {1} AND {0} !~ {2})::pg_catalog.text"
    ).format(
        text.format(sql.Identifier(name)),
        text.format(sql.Identifier(rows.original(table, name))),
        sql.Literal("^(null|[[][]]|([{},]|NULL)*)$"),
    )


def computed(table: Relation, format: int = FORMAT) -> list[str]:
    """Return the generated columns, which a restore computes again; each is hashed separately."""
    # the source computed its own from values that are masked here
    return [] if format == _LINEAR or table.expressions else sorted(table.stored)


def value(table: Relation, name: str) -> sql.Composed:
    """Return the value of a column as it is hashed."""
    forms = ((table.plain, _PLAIN), (table.padded, _PADDED), (table.typed, _BY_OUTPUT))
    form = next((form for columns, form in forms if name in columns), _AS_TEXT)
    return sql.SQL(form).format(sql.Identifier(name))


def batch_query(batch: Sequence[tuple[int, Relation]], format: int = FORMAT) -> sql.Composed:
    """Return the query of several tables, one row for each."""
    queries = (row_count(number, table, format) for number, table in batch)
    return sql.SQL(" UNION ALL ").join(queries)


def large_objects_query(format: int = FORMAT) -> sql.Composed:
    """Return the query of all large objects: their number and their fingerprint.

    It uses lo_get, which needs a privilege on each object, not on the catalog.
    """
    return sql.SQL("SELECT pg_catalog.count(*), {} FROM pg_catalog.pg_largeobject_metadata").format(
        fingerprint(sql.SQL("oid, pg_catalog.lo_get(oid)"), format)
    )


def batches(tables: Iterable[tuple[int, Relation]]) -> Iterator[list[tuple[int, Relation]]]:
    """Yield tables in batches, the largest first and each alone, small ones together.

    One query per table would cost 10,000 round trips and plans; one for all, 10,000 locks.
    """
    batch: list[tuple[int, Relation]] = []
    size = 0
    for number, table in sorted(tables, key=lambda item: -item[1].bytes):
        if batch and (len(batch) >= BATCH_TABLES or size + table.bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, table))
        size += table.bytes
    if batch:
        yield batch


def sequence_query(sequences: Sequence[tuple[int, Relation]]) -> sql.Composed:
    """Return the query of several sequences: `number`, value, whether it was handed out."""
    return sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
            sql.Literal(number), sql.Identifier(sequence.schema, sequence.name)
        )
        for number, sequence in sequences
    )


def lock_statement(tables: Iterable[Relation]) -> sql.Composed:
    """Return the statement that locks tables against rewrites, without waiting."""
    names = (
        sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.name)) for table in tables
    )
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(sql.SQL(", ").join(names))
