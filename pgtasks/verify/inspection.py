"""Checks of what inspects a database: tables, sizes, a difference, a table that is not there."""

from __future__ import annotations

from pgtasks import report
from pgtasks.errors import Refused
from pgtasks.schema.inspect.diff import perform as diffs
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.overview import of_triggers, overview
from pgtasks.schema.inspect.size import sizes
from pgtasks.schema.inspect.table import table
from pgtasks.schema.inspect.tables import tables
from pgtasks.server import connection
from pgtasks.verify import rows
from pgtasks.verify.check import Check, as_refused, expect, refusal
from pgtasks.verify.place import Place

# of an extension none are listed, and partitions with their table
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(catalog|toast|temp)'
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_NUMBER = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'"
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'"
)


def listed(place: Place) -> str:
    """Compare inspect.tables and inspect.table with what was made."""
    with (
        place.first.run("inspect.tables") as run,
        run.reading() as reached,
        reached.reading("verify") as conn,
    ):
        names = {(each.schema, each.name) for each in tables(conn, "").tables}
        known = set(connection.rows(conn, _TABLES, into=tuple[str, str]))
        found = table(conn, rows.NAME)
    expect((rows.SCHEMA, rows.TABLE) in names, f"{rows.NAME!r} is not listed")
    lost = sorted(known - names)
    expect(not lost, f"not listed: {', '.join(map('.'.join, lost))}")
    columns = {each.name: each.type for each in found.columns}
    expect(columns == rows.types(), f"{rows.NAME} has the columns {columns}")
    primary = [each for each in found.constraints if each.definition == "PRIMARY KEY (id)"]
    expect(primary, f"the primary key of {rows.NAME} is not shown")
    return f"{report.plural(len(names), 'table')}, with columns and keys"


def measured(place: Place) -> str:
    """Compare inspect.size with the server's own numbers."""
    with connection.session(place.first.target, read_only=True, purpose="verify") as conn:
        found = sizes(conn)
        query = "SELECT pg_total_relation_size(%s::regclass)"
        bytes = connection.value(conn, query, (rows.NAME,), into=int)
    document = found.as_json()
    named = [each for each in document["tables"] if (each["schema"], each["name"]) == _PLACE]
    expect(named, f"{rows.NAME!r} is not listed")
    expect(bytes > 0 and document["bytes"] >= bytes, "the sizes do not add up")
    return report.size(document["bytes"])


_PLACE = (rows.SCHEMA, rows.TABLE)


def on_one_screen(place: Place) -> str:
    """Read the overview of inspect.db."""
    target = place.first.target
    with connection.session(target, read_only=True, purpose="verify") as conn:
        found = overview(conn, of_triggers(place.project, target))
        tables_there = connection.value(conn, _NUMBER, into=int)
    shown = found.counts["tables"]
    expect(shown == tables_there, f"it shows {shown} tables, the database has {tables_there}")
    expect(found.lines(), "nothing is shown")
    return f"{len(found.lines())} lines"


def differing(place: Place) -> str:
    """Change a table since the backup, and compare, as backup.diff does; then change it back."""
    from pgtasks.verify import backups

    first = place.first
    backup = backups.kept(place)
    options = diffs.Options(rows=True)

    def diff() -> Diff:
        there = diffs.Place(first.name, first.reached(), first.target.jobs)
        return diffs.with_backup(there, backup.id, backup, options, first=True)

    expect((before := diff()).equal, before.summary())
    rows.run(first.target, f"ALTER TABLE {rows.NAME} ADD COLUMN extra integer")
    try:
        found = diff()
        expect(
            any(rows.TABLE in each.name for each in found.changes),
            f"a new column of {rows.NAME} is not among {found.summary()}",
        )
    finally:
        rows.run(first.target, f"ALTER TABLE {rows.NAME} DROP COLUMN extra")
    return f"{found.changes[0].name}: {found.changes[0].words}"


def unknown(place: Place) -> str:
    """Ask for a table that is not there."""

    def ask() -> None:
        with connection.session(place.first.target, read_only=True, purpose="verify") as conn:
            table(conn, "no_such_table")

    return as_refused(refusal(Refused, "no_such_table", ask))


CHECKS = (
    Check("inspect", "tables, columns and keys are shown as they are", listed),
    Check("inspect", "the sizes are those of the server", measured),
    Check("inspect", "the database fits on one screen", on_one_screen),
    Check("inspect", "a difference to a backup is found and named", differing),
    Check("inspect", "an unknown table is refused", unknown),
)
