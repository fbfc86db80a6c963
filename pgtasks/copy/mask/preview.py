"""Show some rows of a table before and after its masks."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from pgtasks.copy.mask import coverage
from pgtasks.copy.mask.settings import Masks
from pgtasks.errors import Refused
from pgtasks.report import SUMMARY, Console, table, terminal
from pgtasks.server import catalog, connection, rows
from pgtasks.server.connection import Connection
from pgtasks.server.proof.fingerprint import pin_statement
from pgtasks.server.quoting import qualified
from pgtasks.settings import fields
from pgtasks.settings.target import Target

_ROWS = 10
ENCODING = (
    "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
)


@dataclass(frozen=True)
class Preview:
    """The masked columns of some rows, before and after."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def lines(self) -> list[str]:
        """Return a table: for each column what was, and what a copy gets."""
        headings = [word for name in self.columns for word in (name, f"{name}, masked")]
        return [table(headings, self.rows)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, without values: they are for a terminal only."""
        return {"table": self.name, "columns": list(self.columns)}


def refuse_without_terminal(console: Console) -> None:
    """Raise Refused unless a person reads what is printed: real values belong in no file."""
    words = "mask.preview shows real values: on a terminal only"
    console.require(words)
    if not terminal.is_terminal(sys.stdout) or os.environ.get(SUMMARY):
        raise Refused(words)


def preview(conn: Connection, masks: Masks, name: str, *, encoding: str) -> Preview:
    """Return the first rows of a table; its session has the key of the masks."""
    connection.execute(conn, pin_statement())
    masking = coverage.planned(conn, masks, encoding=encoding, required=False)
    relations = {str(each): each for each in masking.applied(catalog.relations(conn, "r"))}
    chosen = relations.get(name) or relations.get(qualified("public", name))
    if chosen is None:
        raise Refused(f"no table {name!r}, {fields.nearest(name, relations)}")
    if not chosen.expressions:
        raise Refused(f"no column of {chosen} is masked")
    columns = tuple(chosen.expressions)
    pairs = sql.SQL(", ").join(
        sql.SQL("{}::text, {}::text").format(
            sql.Identifier(rows.original(chosen, each)), sql.Identifier(each)
        )
        for each in columns
    )
    query = sql.SQL("SELECT {} FROM {} LIMIT {}").format(
        pairs, rows.from_item(chosen, columns, originals=True), sql.Literal(_ROWS)
    )
    found = connection.rows(conn, query, into=tuple[Any, ...])
    return Preview(str(chosen), columns, tuple(found))


def shown(target: Target, masks: Masks, name: str) -> Preview:
    """Return the preview of a table of a target, in a session with the key of its masks."""
    masked = replace(target, secrets=masks.secrets)
    with connection.session(masked, read_only=True, purpose="mask.preview") as conn:
        encoding = connection.value(conn, ENCODING, into=str)
        return preview(conn, masks, name, encoding=encoding)
