"""Count what was restored from a dump of somebody else, and compare it with the dump's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgtasks.backup.foreign.contents import Table, named
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.prove import Counted, Proven
from pgtasks.report import Progress
from pgtasks.server import catalog, connection, rowcount
from pgtasks.server.connection import Connection
from pgtasks.server.proof.difference import Difference, accepted, unused


@dataclass(frozen=True)
class _Found:
    """The rows of each table, None if they cannot be counted; `others` take rows of COPY too."""

    rows: Mapping[Table, int | None]
    others: frozenset[Table]


def prove(plan: RestorePlan, dump: Dump, said: Sequence[str], *, progress: Progress) -> Proven:
    """Compare the number of rows, raising NotProven; `said` is what the load left out."""
    with connection.session(plan.proving, read_only=True, purpose="db.restore") as conn:
        found = _found(conn, dump, progress)
    expected = dump.held.rows if dump.counted else {}
    expected = {table: rows for table, rows in expected.items() if not _is_left(plan, table)}
    differences = accepted(
        _differences(expected, found),
        plan.accept,
        "what was restored differs from the dump, nothing was replaced",
    )
    same = sum(found.rows.get(table) == rows for table, rows in expected.items())
    counted = Counted(len(found.rows), sum(filter(None, found.rows.values())), same)
    notes = [*dump.unproven(), *_uncounted(expected, found)]
    if plan.no_owner:
        notes.append("owners and grants: they were not restored")
    elif plan.no_acl:
        notes.append("grants: they were not restored")
    return Proven(
        None,
        tuple(notes),
        differences,
        tuple(unused(differences, plan.accept)),
        counted,
        tuple(said),
    )


def _found(conn: Connection, dump: Dump, progress: Progress) -> _Found:
    rows: dict[Table, int | None] = {}
    for done, table in enumerate(catalog.relations(conn, "r")):
        progress.update(done)
        key = (table.schema, table.name)
        if not table.extension or key in dump.held.rows:
            condition = table.condition or ""
            rows[key] = rowcount.counted(conn, table, condition=condition)
    others = connection.rows(
        conn,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = ANY ('{p,v,f}')",
        into=tuple[str, str],
    )
    return _Found(rows, frozenset(others))


def _is_left(plan: RestorePlan, table: Table) -> bool:
    return any(
        entry.desc == "TABLE DATA" and (entry.namespace, entry.tag) == table
        for entry in plan.archive
        if entry.number in plan.left.numbers
    )


def _differences(expected: Mapping[Table, int], found: _Found) -> Iterator[Difference]:
    for table, rows in expected.items():
        name = f"table {named(table)}"
        if table in found.rows:
            actual = found.rows[table]
            if actual is not None and actual != rows:
                yield Difference(name, f": {rows:,} rows in the dump, {actual:,} restored")
        elif table not in found.others:
            yield Difference(name, " is missing")


def _uncounted(expected: Mapping[Table, int], found: _Found) -> Iterator[str]:
    for table in expected:
        if table in found.others:
            yield f"the number of rows of {named(table)}: it is no plain table"
        elif found.rows.get(table, 0) is None:
            yield f"the number of rows of {named(table)}: it cannot be counted"
