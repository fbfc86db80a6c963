"""The part of a database that a copy takes, by the flags of the command line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks import report
from pgtasks.copy import keys, names
from pgtasks.copy.keys import ForeignKey
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump.source import Source
from pgtasks.server.proof.scope import Content
from pgtasks.server.quoting import qualified, quoted

_BYTES = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM unnest(%s::oid[]) oid"
NO_ROWS = "WHERE false"  # the condition of a table whose rows are left out


@dataclass(frozen=True)
class Scope:
    """The part of a database that a copy takes: patterns of the tables whose rows it leaves out."""

    exclude_data: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether a copy takes everything."""
        return self == Scope()


EVERYTHING = Scope()


def scope_of(*, exclude_data: Sequence[str] = ()) -> Scope:
    """Return the scope that flags ask for."""
    return Scope(exclude_data=names.listed(exclude_data))


@dataclass(frozen=True)
class Part:
    """The part that a copy takes of the source, as the plan shows it.

    `empty` are the tables whose rows are left out, with their `bytes`, indexes included, and
    `obstacles` are lines that say why the part cannot be taken.
    """

    empty: tuple[str, ...] = ()
    oids: frozenset[int] = frozenset()
    bytes: int = 0
    obstacles: tuple[str, ...] = field(default=(), repr=False)

    def of(self, source: Source) -> Source:
        """Return what is known of the source, with the sizes of this part of it."""
        sizes = {oid: size for oid, size in source.sizes.items() if oid not in self.oids}
        return replace(source, sizes=sizes, bytes=max(source.bytes - self.bytes, 0))

    def lines(self) -> list[str]:
        """Return what the plan says."""
        if not self.empty:
            return []
        which = names.few(self.empty)
        return [f"part     without the rows of {which} ({report.size(self.bytes)})"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"excluded_data": list(self.empty), "excluded_bytes": self.bytes}


WHOLE = Part()


def part(conn: Connection, scope: Scope) -> Part:
    """Return the part of a source that a copy takes, without locking anything for long."""
    if scope.complete:
        return WHOLE
    oids = names.matched(conn, "--exclude-data", scope.exclude_data)
    relations = catalog.relations(conn)
    empty = [each for each in relations if each.oid in oids and each.kind == "r"]
    untouchable = {each.oid for each in relations if each.foreign_code}
    return Part(
        empty=tuple(map(str, empty)),
        oids=oids,
        bytes=connection.value(conn, _BYTES, (list(oids),), into=int),
        obstacles=tuple(map(_broken, keys.into_empty(conn, oids, untouchable))),
    )


def _broken(key: ForeignKey) -> str:
    table, to = qualified(key.schema, key.table), qualified(key.to_schema, key.to_table)
    return (
        f"rows of {table} refer to rows of {to}, which are left out (constraint "
        f"{quoted(key.name)}): leave out the rows of {table} too, or take those of {to}"
    )


def narrowed(conn: Connection, content: Content, scope: Scope) -> Content:
    """Return the content of a snapshot that a copy takes; `conn` is in it.

    The tables that it leaves empty have the condition NO_ROWS, so that the proof expects none.
    """
    if scope.complete:
        return content
    empty = names.matched(conn, "--exclude-data", scope.exclude_data)
    return replace(
        content,
        tables=tuple(_emptied(table, empty) for table in content.tables),
        others=tuple(_emptied(table, empty) for table in content.others),
    )


def _emptied(table: Relation, oids: Collection[int]) -> Relation:
    return replace(table, condition=NO_ROWS, bytes=0) if table.oid in oids else table
