"""All facts about one table: columns, constraints, indexes with their use, triggers, rights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.copy.part import names
from pgtasks.errors import Refused
from pgtasks.schema.inspect import facts
from pgtasks.schema.inspect.facts import (
    Column,
    Constraint,
    Grant,
    Head,
    Index,
    Policy,
    Reference,
    Trigger,
)
from pgtasks.schema.inspect.tables import KINDS
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified

_LONG = (
    (r"^(timestamp|time)(\(\d\))? with time zone", r"\1tz\2"),
    (r"^(timestamp|time)(\(\d\))? without time zone", r"\1\2"),
    (r"^character varying", "varchar"),
)


@dataclass(frozen=True)
class Table:
    """All facts about a table."""

    head: Head
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]
    triggers: tuple[Trigger, ...]
    policies: tuple[Policy, ...]
    grants: tuple[Grant, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [*self.head.lines(), *(line for block in self._blocks() for line in block)]

    def _blocks(self) -> Iterator[list[str]]:
        yield _block(
            ("column", "type", "null", "default", "comment"),
            [
                (
                    each.name,
                    _short(each.type),
                    "" if each.not_null else "null",
                    each.value,
                    each.comment,
                )
                for each in self.columns
            ],
        )
        yield _block(
            ("constraint", "definition"),
            [
                (each.name, each.definition + ("" if each.valid else " (not validated)"))
                for each in self.constraints
            ],
        )
        yield _block(
            ("index", "size", "scans", "definition"),
            [
                (each.name, report.size(each.bytes), each.scans, _index(each))
                for each in self.indexes
            ],
        )
        yield _block(
            ("referenced by", "constraint", "definition"),
            [(each.table, each.name, each.definition) for each in self.references],
        )
        yield _block(
            ("trigger", "definition"),
            [
                (each.name, ("" if each.enabled else "DISABLED ") + _trigger(each))
                for each in self.triggers
            ],
        )
        yield _block(
            ("policy", "command", "roles", "rows", "new rows"),
            [
                (each.name, each.command, ", ".join(each.roles), each.rows, each.new_rows)
                for each in self.policies
            ],
        )
        yield _block(
            ("role", "privileges"),
            [(each.role, ", ".join(each.privileges)) for each in self.grants],
        )
        if self.head.definition:
            yield ["", *self.head.definition.splitlines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        every = asdict(self)
        return {**every.pop("head"), "kind": KINDS[self.head.kind], **every}


def _block(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return ["", *report.table(headings, rows, runs_on=True).splitlines()] if rows else []


def _short(type: str) -> str:
    """Return the short name of a type that format_type() spells out."""
    for pattern, short in _LONG:
        type = re.sub(pattern, short, type)
    return type


def _index(index: Index) -> str:
    _, _, method = index.definition.partition(" USING ")
    marks = ("" if index.valid else "INVALID ") + ("unique " if index.unique else "")
    return marks + method


def _trigger(trigger: Trigger) -> str:
    _, _, rest = trigger.definition.partition(" TRIGGER ")
    return rest.partition(" ")[2] if not rest.startswith('"') else rest.partition('" ')[2]


def table(conn: Connection, name: str) -> Table:
    """Return all facts about the table, raising Refused if the name matches none or several."""
    pattern = name if len(names.parted(name, ".")) > 1 else f"*.{name}"  # of any schema
    oids = sorted(names.matched(conn, "NAME", [pattern], kinds="rpvmf", parts=False))
    heads = connection.rows(conn, facts.HEAD, (oids,), into=Head)
    if len(heads) != 1:
        which = names.few(sorted(qualified(head.schema, head.name) for head in heads))
        raise Refused(f"{name!r} matches {len(heads)} tables: {which}")
    of = (oids[0],)
    return Table(
        heads[0],
        tuple(connection.rows(conn, facts.COLUMNS, of, into=Column)),
        tuple(connection.rows(conn, facts.CONSTRAINTS, of, into=Constraint)),
        tuple(connection.rows(conn, facts.INDEXES, of, into=Index)),
        tuple(connection.rows(conn, facts.REFERENCES, of, into=Reference)),
        tuple(connection.rows(conn, facts.TRIGGERS, of, into=Trigger)),
        tuple(connection.rows(conn, facts.POLICIES, of, into=Policy)),
        tuple(connection.rows(conn, facts.GRANTS, of, into=Grant)),
    )
