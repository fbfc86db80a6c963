"""The part that a copy takes of a source: what its plan says, and the tables of its snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy import keys, names, subset
from pgtasks.copy.keys import ForeignKey
from pgtasks.copy.scope import NO_ROWS, Scope
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.source import Source
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import qualified, quoted

_BYTES = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM unnest(%s::oid[]) oid"
_ESTIMATES = "SELECT oid::bigint, reltuples::bigint FROM pg_class WHERE oid = ANY (%s::oid[])"
_COUNTED = 100 << 20  # bytes of the largest table whose rows are counted
_AT_ONCE = 100
_NOW = "SELECT (now() AT TIME ZONE 'UTC')::text || '+00'"


@dataclass(frozen=True)
class Part:
    """The part that a copy takes of the source, as the plan shows it.

    `empty` are the tables whose rows are left out, with their `bytes`, indexes included, and
    `rows` say which rows of which tables are taken. `now` is the present that conditions mean, and
    `obstacles` are lines that say why the part cannot be taken.
    """

    empty: tuple[str, ...] = ()
    oids: frozenset[int] = frozenset()
    bytes: int = 0
    rows: tuple[str, ...] = ()
    now: str = ""
    obstacles: tuple[str, ...] = field(default=(), repr=False)

    def of(self, source: Source) -> Source:
        """Return what is known of the source, with the sizes of this part of it."""
        sizes = {oid: size for oid, size in source.sizes.items() if oid not in self.oids}
        return replace(source, sizes=sizes, bytes=max(source.bytes - self.bytes, 0))

    def lines(self) -> list[str]:
        """Return what the plan says."""
        lines = list(self.rows)
        if self.empty:
            size = report.size(self.bytes)
            lines.append(f"without the rows of {names.few(self.empty)} ({size})")
        return [f"part     {line}" for line in lines]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "rows": list(self.rows),
            "excluded_data": list(self.empty),
            "excluded_bytes": self.bytes,
        }


WHOLE = Part()


def part(conn: Connection, scope: Scope) -> Part:
    """Return the part of a source that a copy takes, without locking anything for long."""
    if scope.complete:
        return WHOLE
    oids = names.matched(conn, "--exclude-data", scope.exclude_data)
    relations = catalog.relations(conn)
    empty = [each for each in relations if each.oid in oids and each.kind == "r"]
    untouchable = {each.oid for each in relations if each.foreign_code}
    now = connection.value(conn, _NOW, into=str)
    chosen = subset.read(conn, scope, oids, now)
    return Part(
        rows=tuple(chosen.lines()) if chosen else (),
        now=now,
        empty=tuple(map(str, empty)),
        oids=oids,
        bytes=connection.value(conn, _BYTES, (list(oids),), into=int),
        obstacles=(
            *map(_broken, keys.into_empty(conn, oids, untouchable)),
            *(map(_coded, chosen.untouchable) if chosen else ()),
        ),
    )


@dataclass(frozen=True)
class Total:
    """The rows of a table of which a copy takes a part; `exact`, or estimated if it is large."""

    table: str
    rows: int
    exact: bool


def totals(conn: Connection, content: Content, taken: Content) -> dict[int, Total]:
    """Return the rows of the tables of which only a part is taken, in the snapshot of `conn`."""
    whole = {table.oid: table for table in (*content.tables, *content.others)}
    bounded = [
        whole[table.oid]
        for table in (*taken.tables, *taken.others)
        if table.condition != whole[table.oid].condition
    ]
    small = [table for table in bounded if table.bytes <= _COUNTED and not table.foreign_code]
    counted = _counted(conn, small)
    estimated = dict(
        connection.rows(conn, _ESTIMATES, ([t.oid for t in bounded],), into=tuple[int, int])
    )
    return {
        table.oid: Total(
            str(table),
            counted.get(table.oid, max(estimated[table.oid], 0)),
            exact=table.oid in counted,
        )
        for table in bounded
    }


def _counted(conn: Connection, tables: Sequence[Relation]) -> dict[int, int]:
    rows: dict[int, int] = {}
    for start in range(0, len(tables), _AT_ONCE):
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::bigint, count(*) FROM ONLY {}").format(
                sql.Literal(table.oid), sql.Identifier(table.schema, table.name)
            )
            for table in tables[start : start + _AT_ONCE]
        )
        rows |= dict(connection.rows(conn, query, into=tuple[int, int]))
    return rows


def _broken(key: ForeignKey) -> str:
    table, to = qualified(key.schema, key.table), qualified(key.to_schema, key.to_table)
    return (
        f"rows of {table} refer to rows of {to}, which are left out (constraint "
        f"{quoted(key.name)}): leave out the rows of {table} too, or take those of {to}"
    )


def _coded(table: Relation) -> str:
    return (
        f"to choose rows of {table} would run code of another role, by an index or statistics: "
        "copy as its owner"
    )


def narrowed(conn: Connection, content: Content, scope: Scope, now: str) -> Content:
    """Return the content of a snapshot that a copy takes; `conn` is in it.

    `now` is the present that conditions mean. The tables that the copy leaves empty have the
    condition NO_ROWS, so that the proof expects none.
    """
    if scope.complete:
        return content
    empty = names.matched(conn, "--exclude-data", scope.exclude_data)
    chosen = subset.read(conn, scope, empty, now)

    def narrow(table: Relation) -> Relation:
        condition = chosen.condition(table, conn) if chosen else None
        if table.oid in empty or condition == NO_ROWS:
            return replace(table, condition=NO_ROWS, bytes=0)
        return table if condition is None else replace(table, condition=condition)

    return replace(
        content,
        tables=tuple(map(narrow, content.tables)),
        others=tuple(map(narrow, content.others)),
    )
