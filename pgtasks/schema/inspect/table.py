"""All facts about one table: columns, constraints, indexes with their use, triggers, rights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.copy.part import names
from pgtasks.errors import Failed, Refused
from pgtasks.report import typed
from pgtasks.schema.inspect import facts
from pgtasks.schema.inspect.facts import (
    Column,
    Constraint,
    Grant,
    Head,
    Index,
    Partition,
    Policy,
    Reference,
    Trigger,
)
from pgtasks.schema.inspect.tables import KINDS, waiting_briefly
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import parted, qualified

_KINDS = "".join(KINDS)
_BLOCKS = {
    "columns": ("column", "type", "null", "default", "comment"),
    "constraints": ("constraint", "definition"),
    "indexes": ("index", "size", "scans", "definition"),
    "partitions": ("partition", "rows", "size", "indexes", "bound"),
    "references": ("referenced by", "constraint", "definition"),
    "triggers": ("trigger", "definition"),
    "policies": ("policy", "command", "roles", "rows", "new rows"),
    "grants": ("role", "privileges"),
}
_KEYS = (
    "column",
    "type",
    "constraint",
    "index",
    "referenced by",
    "trigger",
    "policy",
    "role",
    "partition",
)
_PROSE = ("default", "comment", "definition", "rows", "new rows", "privileges")


@dataclass(frozen=True)
class Table:
    """All facts about a table."""

    head: Head
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    partitions: tuple[Partition, ...]
    references: tuple[Reference, ...]
    triggers: tuple[Trigger, ...]
    policies: tuple[Policy, ...]
    grants: tuple[Grant, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [*self.head.lines(), *self._below()]
        for name, headings in _BLOCKS.items():
            if rows := [each.cells() for each in getattr(self, name)]:
                block = report.table(headings, rows, keys=_KEYS, prose=_PROSE, runs_on=True)
                lines += ["", *block.splitlines()]
        if self.head.definition:
            lines += ["", *self.head.definition.splitlines()]
        return lines

    def _below(self) -> list[str]:
        """Return the line of what is in partitions, which is nowhere else."""
        if not self.partitions:
            return []
        rows, table, index = (
            sum(getattr(each, name) or 0 for each in self.partitions)
            for name in ("rows", "table_bytes", "index_bytes")
        )
        below = report.plural(
            len(self.partitions), "partition" if self.head.kind == "p" else "child table"
        )
        return [
            f"{below}, about {report.plural(rows, 'row')}, {report.size(table)}, "
            f"{report.size(index)} of indexes"
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        every = asdict(self)
        head = every.pop("head")
        del head["oid"]
        return {**head, "kind": KINDS[self.head.kind], **every}


def table(conn: Connection, name: str) -> Table:
    """Return all facts about the table, raising Refused if the name matches none or several.

    Raises Failed for a table that is locked exclusively, as the server shows its definitions only
    with a lock.
    """
    with waiting_briefly(conn):
        try:
            return _read(conn, name)
        except Failed as exc:
            if "lock timeout" not in exc.message:
                raise
            by_whom = typed.task("inspect.activity")
            raise Failed(f"{name!r} is locked, {by_whom} shows the sessions") from None


def _read(conn: Connection, name: str) -> Table:
    pattern = name if len(parted(name, ".")) > 1 else f"*.{name}"  # of any schema
    oids = sorted(catalog.matching(conn, [pattern], kinds=_KINDS)[pattern])
    heads = connection.rows(conn, facts.HEAD, (oids,), into=Head)
    if not heads:
        near = names.nearest(conn, name, _KINDS) or f", {typed.task('inspect.tables')} lists all"
        raise Refused(f"no table or view is named {name!r}{near}")
    if len(heads) > 1:
        which = names.few(sorted(qualified(head.schema, head.name) for head in heads))
        raise Refused(f"{name!r} matches {len(heads)} tables: {which}")
    of = (heads[0].oid,)
    return Table(
        heads[0],
        tuple(connection.rows(conn, facts.COLUMNS, of, into=Column)),
        tuple(connection.rows(conn, facts.CONSTRAINTS, of, into=Constraint)),
        tuple(connection.rows(conn, facts.INDEXES, of, into=Index)),
        tuple(connection.rows(conn, facts.PARTITIONS, of, into=Partition)),
        tuple(connection.rows(conn, facts.REFERENCES, of, into=Reference)),
        tuple(connection.rows(conn, facts.TRIGGERS, of, into=Trigger)),
        tuple(connection.rows(conn, facts.POLICIES, of, into=Policy)),
        tuple(connection.rows(conn, facts.GRANTS, of, into=Grant)),
    )
