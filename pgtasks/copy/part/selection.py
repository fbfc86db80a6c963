"""The part that a copy takes of a source: what its plan says, and the tables of its snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy.part import foreign, keys, names, subset
from pgtasks.copy.part.keys import ForeignKey
from pgtasks.copy.part.scope import NO_ROWS, Scope
from pgtasks.errors import Refused
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.source import Source
from pgtasks.server.proof import entries
from pgtasks.server.proof.scope import Content
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified, quoted

Name = tuple[str, str]
_BYTES = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM unnest(%s::oid[]) oid"
_ESTIMATES = "SELECT oid::bigint, reltuples::bigint FROM pg_class WHERE oid = ANY (%s::oid[])"
_NAMES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) OR c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjid = ANY (%s::oid[]))
"""
_RELATIONS = ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE")
# what a person misses, of all that goes with a table
_DEPENDENTS = (
    *("VIEW", "MATERIALIZED VIEW", "FK CONSTRAINT", "FUNCTION", "PROCEDURE", "AGGREGATE", "RULE"),
    *("TRIGGER", "POLICY", "DEFAULT", "SEQUENCE", "TYPE", "DOMAIN", "EVENT TRIGGER"),
)
_COUNTED = 100 << 20  # bytes of the largest table whose rows are counted
_AT_ONCE = 100
_NOW = "SELECT (now() AT TIME ZONE 'UTC')::text || '+00'"


@dataclass(frozen=True)
class Part:
    """The part that a copy takes of the source, as the plan shows it.

    `empty` are the tables whose rows are left out, with their `bytes`, indexes included; `excluded`
    are tables that are left out, with their sequences. `rows` say which rows of which tables are
    taken. `now` is the present that conditions mean, and `obstacles` are lines that say why the
    part cannot be taken.
    """

    empty: tuple[str, ...] = ()
    oids: frozenset[int] = frozenset()
    bytes: int = 0
    rows: tuple[str, ...] = ()
    now: str = ""
    excluded: frozenset[Name] = frozenset()
    obstacles: tuple[str, ...] = field(default=(), repr=False)

    def entries(self, archive: Iterable[Entry]) -> set[int]:
        """Return the numbers of the entries that create excluded tables and their sequences."""
        return {
            entry.number
            for entry in archive
            if entry.desc in _RELATIONS and (entry.namespace, entry.tag) in self.excluded
        }

    def dependents(self, left: Iterable[Entry]) -> tuple[list[str], list[str]]:
        """Return what depends on excluded tables, of all entries left out: tables, and others."""
        tables, others = [], []
        for entry in left:
            if any(_belongs(entry, name) for name in self.excluded):
                continue
            name = entries.name((entry.desc, entry.namespace, entry.tag))
            if entry.desc in ("TABLE", "FOREIGN TABLE"):
                tables.append(name)
            elif entry.desc in _DEPENDENTS:
                others.append(name)
        return tables, others

    def of(self, source: Source) -> Source:
        """Return what is known of the source, with the sizes of this part of it."""
        sizes = {oid: size for oid, size in source.sizes.items() if oid not in self.oids}
        return replace(source, sizes=sizes, bytes=max(source.bytes - self.bytes, 0))

    def lines(self) -> list[str]:
        """Return what the plan says."""
        lines = list(self.rows)
        if self.excluded:
            which = names.few(sorted(qualified(*name) for name in self.excluded))
            lines.append(f"without {which}")
        if self.empty:
            size = report.size(self.bytes)
            lines.append(f"without the rows of {names.few(self.empty)} ({size})")
        return [f"part     {line}" for line in lines]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "rows": list(self.rows),
            "excluded": sorted(qualified(*name) for name in self.excluded),
            "excluded_data": list(self.empty),
            "excluded_bytes": self.bytes,
        }


WHOLE = Part()


def part(conn: Connection, scope: Scope) -> Part:
    """Return the part of a source that a copy takes, without locking anything for long."""
    if scope.complete:
        return WHOLE
    out = names.matched(conn, "--exclude", scope.exclude, kinds="rpvmf")
    oids = names.matched(conn, "--exclude-data", scope.exclude_data) - out
    relations = catalog.relations(conn)
    empty = [each for each in relations if each.oid in oids and each.kind == "r"]
    untouchable = {each.oid for each in relations if each.foreign_code}
    now = connection.value(conn, _NOW, into=str)
    coded = foreign.compared(conn)
    chosen = subset.read(conn, scope, oids | out, now)
    return Part(
        excluded=_named(conn, out),
        rows=tuple(chosen.lines()) if chosen else (),
        now=now,
        empty=tuple(map(str, empty)),
        oids=oids | out,
        bytes=connection.value(conn, _BYTES, (list(oids | out),), into=int),
        obstacles=(
            *map(
                _broken,
                keys.into_empty(conn, oids, untouchable, lambda key: foreign.compares(key, coded)),
            ),
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


def _named(conn: Connection, oids: Collection[int]) -> frozenset[Name]:
    """Return the names of some relations and of the sequences that belong to them."""
    rows = connection.rows(conn, _NAMES, (list(oids), list(oids)), into=tuple[str, str])
    return frozenset(rows)


def _belongs(entry: Entry, name: Name) -> bool:
    """Whether an entry is that of a relation, or of something that is part of it."""
    schema, own = name
    return entry.namespace == schema and (entry.tag == own or entry.tag.startswith(f"{own} "))


def _coded(table: str) -> str:
    return (
        f"to choose rows of {table} would run code of another role, by an index, statistics or a "
        "type: copy as its owner"
    )


def narrowed(conn: Connection, content: Content, scope: Scope, now: str) -> Content:
    """Return the content of a snapshot that a copy takes; `conn` is in it.

    `now` is the present that conditions mean. The tables that the copy leaves empty have the
    condition NO_ROWS, so that the proof expects none.
    """
    if scope.complete:
        return content
    out = names.matched(conn, "--exclude", scope.exclude, kinds="rpvmf")
    empty = names.matched(conn, "--exclude-data", scope.exclude_data) - out
    chosen = subset.read(conn, scope, empty | out, now)
    if chosen and chosen.untouchable:  # since the plan was made
        raise Refused(_coded(chosen.untouchable[0]))
    gone = _named(conn, out)

    def narrow(table: Relation) -> Relation:
        left_out = table.oid in empty  # also of a subset: it knows nothing of such a table
        condition = chosen.condition(table, conn) if chosen and not left_out else None
        if left_out or condition == NO_ROWS:
            return replace(table, condition=NO_ROWS, bytes=0)
        return table if condition is None else replace(table, condition=condition)

    def kept(relations: Iterable[Relation]) -> tuple[Relation, ...]:
        return tuple(each for each in relations if (each.schema, each.name) not in gone)

    labels = {f" {qualified(*name)}" for name in gone}
    return replace(
        content,
        tables=tuple(map(narrow, kept(content.tables))),
        others=tuple(map(narrow, kept(content.others))),
        sequences=kept(content.sequences),
        unproven=tuple(
            each for each in content.unproven if not each.object.endswith(tuple(labels))
        ),
    )
