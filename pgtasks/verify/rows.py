"""The rows by which a scratch database is recognised: a table in a schema of its own."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.server import catalog, connection, rowcount
from pgtasks.settings.target import Target

SCHEMA, TABLE = "pgtasks_verify", "items"
NAME = f"{SCHEMA}.{TABLE}"
COLUMNS = {"id": "integer", "label": "text", "amount": "numeric(12,2)", "made_at": "timestamptz"}
_TYPES = {"timestamptz": "timestamp with time zone"}
# what has broken dumps: quotes, a tab, a line break, the mark of NULL, letters beyond ASCII
_LABELS = ("plain", "it's", 'say "x"', "tab\there", "line\nbreak", "\\N", "Grüße 😀", "")
_NUMBER = 200


@dataclass(frozen=True)
class Content:
    """The number of rows, and a checksum of them."""

    rows: int
    digest: str


def put(target: Target) -> None:
    """Make the table and its rows."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    with connection.session(target, purpose="verify") as conn:
        connection.execute(conn, "BEGIN")
        connection.execute(conn, f"CREATE SCHEMA {SCHEMA}")
        connection.execute(conn, f"CREATE TABLE {NAME} ({columns}, PRIMARY KEY (id))")
        connection.execute(
            conn,
            f"INSERT INTO {NAME} SELECT n, (%s::text[])[1 + n %% %s] || n::text, n / 7.0,"
            " '2020-02-29 12:00+00'::timestamptz + n * interval '1 hour'"
            f" FROM generate_series(1, {_NUMBER}) n",
            (list(_LABELS), len(_LABELS)),
        )
        connection.execute(conn, "COMMIT")


def content(target: Target) -> Content:
    """Return what the table holds."""
    with connection.session(target, read_only=True, purpose="verify") as conn:
        return Content(
            *connection.rows(
                conn,
                f"SELECT count(*), md5(coalesce(string_agg(i::text, ',' ORDER BY i.id), ''))"
                f" FROM {NAME} i",
                into=tuple[int, str],
            )[0]
        )


def alone(target: Target) -> str:
    """Return why a database has no rows but these and the revision, empty if it has others."""
    with connection.session(target, read_only=True, purpose="verify") as conn:
        others = [
            each
            for each in catalog.relations(conn, "r")
            if each.schema != SCHEMA and each.name != "alembic_version" and not each.extension
        ]
        if any(rowcount.counted(conn, each) != 0 for each in others):
            return ""
    lack = "are empty" if others else "are not there"
    return f"of a stand-in table, the project's {lack}"


def run(target: Target, statement: str) -> None:
    """Run a statement, in a session of its own."""
    with connection.session(target, purpose="verify") as conn:
        connection.execute(conn, sql.SQL(statement))


def lose(target: Target) -> None:
    """Delete half of the rows, and add a table that nobody knows."""
    run(target, f"DELETE FROM {NAME} WHERE id % 2 = 0")
    run(target, f"CREATE TABLE {SCHEMA}.stray (id integer)")


def has(target: Target, table: str) -> bool:
    """Return whether a table of the scratch schema exists."""
    with connection.session(target, read_only=True, purpose="verify") as conn:
        query = "SELECT to_regclass(%s) IS NOT NULL"
        return connection.value(conn, query, (f"{SCHEMA}.{table}",), into=bool)


def types() -> dict[str, str]:
    """Return the columns with the types that the server prints."""
    return {name: _TYPES.get(kind, kind) for name, kind in COLUMNS.items()}
