"""The tables of a snapshot that a proof covers, and those that it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.model import LEFT_OUT, NOT_ON_STANDBY, OF_EXTENSION, Unproven


@dataclass(frozen=True)
class Content:
    """The tables of a snapshot that a proof covers, and those that it cannot.

    `others` are tables with rows that are dumped but not proven, `number` counts all tables.
    """

    tables: tuple[Relation, ...] = ()
    sequences: tuple[Relation, ...] = ()
    unproven: tuple[Unproven, ...] = ()
    others: tuple[Relation, ...] = ()
    large_objects: bool = True
    number: int = 0


def content(
    conn: Connection,
    *,
    exclude: Sequence[int] = (),
    schema_only: bool = False,
    sizes: Mapping[int, int] | None = None,
    trusted: bool = False,
) -> Content:
    """Return the content to prove, in the transaction's snapshot; `exclude` are OIDs of tables.

    `sizes` are better estimates than those of the catalogs. In a `trusted` database code of other
    roles may run, because it already has.
    """
    relations = catalog.relations(conn)
    number = sum(relation.kind == "r" for relation in relations)
    if schema_only:
        return Content(large_objects=False, number=number)
    standby = connection.value(conn, "SELECT pg_is_in_recovery()", into=bool)
    proven: dict[str, list[Relation]] = {"r": [], "S": []}
    others, unproven = [], []
    for relation in relations:
        relation = relation.sized((sizes or {}).get(relation.oid))
        reason = _why_not(relation, exclude, standby)
        if not reason and relation.foreign_code and not trusted:
            reason = FOREIGN_CODE
        if not reason:
            proven[relation.kind].append(relation)
            continue
        unproven.append(Unproven(f"{_KINDS[relation.kind]} {relation}", reason))
        if relation.kind == "r" and relation.dumped and relation.oid not in exclude:
            others.append(relation)
    query = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"
    large = connection.value(conn, query, into=bool)
    return Content(
        tuple(proven["r"]),
        tuple(proven["S"]),
        tuple(unproven),
        tuple(others),
        large_objects=large,
        number=number,
    )


FOREIGN_CODE = (
    "a query of it would run code of another role, by an index or statistics, with the rights "
    "of this one: back up as its owner to prove it"
)
_KINDS = {"r": "table", "S": "sequence", "m": "materialized view", "f": "foreign table"}


def _why_not(relation: Relation, exclude: Sequence[int], standby: bool) -> str:
    if not relation.dumped:
        return OF_EXTENSION
    if relation.oid in exclude:
        return LEFT_OUT
    if relation.kind == "m":
        return "a restore computes it again"
    if relation.kind == "f":
        return "its data is on another server"
    if relation.own_cast:
        return "a user-defined cast to text would run in place of its type's output"
    if standby and relation.persistence == "u":
        return NOT_ON_STANDBY
    return ""
