"""Suggest rules for the columns of a source that nobody decided yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg2 import sql

from pgtasks.copy.mask import block, columns, coverage
from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.guess import LONGEST, Guess, guess
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.part import foreign
from pgtasks.copy.part.foreign import Foreign
from pgtasks.errors import Failed
from pgtasks.report import plural
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_SAMPLE = 500  # values of each column
_SECONDS = 5  # for the sample of a table


@dataclass(frozen=True)
class Suggested:
    """The suggestions, as a block of the environment's file."""

    environment: str
    guesses: tuple[tuple[Column, Guess], ...]

    def lines(self) -> list[str]:
        """Return the block."""
        if not self.guesses:
            return ["all columns are decided"]
        return ["mask:", *block.lines(self.guesses)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.environment,
            "columns": {
                str(column): {"mask": each.mask, "why": each.why} for column, each in self.guesses
            },
        }

    def summary(self) -> str:
        """Return one line about the block."""
        number = plural(len(self.guesses), "column")
        return f"{number} not decided: guesses for env/{self.environment}.yaml, read each of them"


def suggest(conn: Connection, masks: Masks) -> Suggested:
    """Return suggestions for all columns without a rule, after a look at some of their values."""
    connection.execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    decided = coverage.chosen(conn, masks)
    undecided = [each.column for each in decided if each.rule is None and not each.column.ancestors]
    tables = [each.relation for each in undecided]
    unique = {
        (index.relation, name) for index in columns.unique(conn, tables) for name in index.columns
    }
    types = foreign.types(conn)
    untouchable = columns.untouchable(conn, [each.column for each in decided])
    guesses = []
    for relation, each in groupby(undecided, lambda column: column.relation):
        group = list(each)
        samples = {} if relation in untouchable else _samples(conn, group, types)
        guesses += [
            (
                column,
                guess(column, samples.get(column.name), unique=(relation, column.name) in unique),
            )
            for column in group
        ]
    connection.execute(conn, "COMMIT")
    return Suggested(masks.environment, tuple(guesses))


def _samples(conn: Connection, group: Sequence[Column], types: Foreign) -> dict[str, list[str]]:
    """Return some values of the columns of a table that hold text; none if that takes long."""
    texts = [
        column
        for column in group
        if column.base in ("text", "varchar", "bpchar", "citext")
        and (column.relation, column.name) not in types.columns
    ]
    if not texts:
        return {}
    query = sql.SQL("SELECT {} FROM {}{} LIMIT {}").format(
        sql.SQL(", ").join(
            sql.SQL("left({}::text, {})").format(sql.Identifier(each.name), sql.Literal(LONGEST))
            for each in texts
        ),
        sql.SQL("" if texts[0].partitioned else "ONLY "),
        sql.Identifier(texts[0].schema, texts[0].table),
        sql.Literal(_SAMPLE),
    )
    connection.execute(conn, f"SAVEPOINT sample; SET LOCAL statement_timeout = '{_SECONDS}s'")
    try:
        rows = connection.rows(conn, query, into=tuple[Any, ...])
    except Failed:  # it may not be readable
        connection.execute(conn, "ROLLBACK TO sample")
        return {}
    connection.execute(conn, "ROLLBACK TO sample")
    return dict(_columns(texts, rows))


def _columns(
    texts: Sequence[Column], rows: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[str, list[str]]]:
    for place, column in enumerate(texts):
        yield column.name, [row[place] for row in rows if row[place]]
