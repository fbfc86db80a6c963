"""Choose the statements that `apply` runs: those whose objects differ, and those it cannot compare.

A statement that is not run takes no lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.schema.trigger import expected, installed
from pgtasks.schema.trigger.expected import Expected, Step
from pgtasks.schema.trigger.verify import Difference
from pgtasks.server.connection import Connection

Object = tuple[str, str]  # the kind and the name of a Difference


def needed(conn: Connection, described: Expected, findings: Sequence[Difference]) -> list[Step]:
    """Return the steps that must run, in order."""
    known = [each for each in findings if each.state != "ORPHAN"]
    wanted = {(each.kind, each.name) for each in known if each.state != "INSTALLED"}
    described_objects = {(each.kind, each.name) for each in known}
    wanted |= _to_drop(conn, described.steps, described_objects)
    return [
        step for step in described.steps if not step.objects or not wanted.isdisjoint(step.objects)
    ]


def _to_drop(conn: Connection, steps: Sequence[Step], described: set[Object]) -> set[Object]:
    """Return the triggers that the files drop for good, as the files name them.

    Of those that a file drops only IF EXISTS, they are the ones that exist: DROP TRIGGER would
    lock the table of the others too.
    """
    from postgast import pg_query_pb2 as pb

    drops = [
        (pair, step.statement.node.missing_ok)
        for step in steps
        if isinstance(step.statement.node, pb.DropStmt)
        for pair in (expected.dropped(step.statement.node) if step.objects else ())
        if ("trigger", expected.shown(pair[1], pair[0])) not in described
    ]
    if not drops:
        return set()
    tables = installed.table_oids(conn, [table for (table, _), _ in drops])
    existing = {(each.table_oid, each.name) for each in installed.triggers(conn)}
    return {
        ("trigger", expected.shown(name, table))
        for ((table, name), missing_ok), oid in zip(drops, tables, strict=True)
        if not missing_ok or (oid, name) in existing
    }
