"""All triggers of a database: when they fire, what they call, whether they are enabled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.inspect.tables import refuse_unknown_schema
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted

# The bits of tgtype are those of catalog/pg_trigger.h. The text of a condition is not read, because
# the server locks the table for it.
_TRIGGERS = f"""
SELECT n.nspname AS schema, c.relname AS table, t.tgname AS name,
  CASE WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' WHEN t.tgtype & 2 <> 0 THEN 'BEFORE'
    ELSE 'AFTER' END AS timing,
  array_remove(ARRAY[CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END,
    CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE' END, CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END,
    CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END], NULL) AS events,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.tgrelid
    AND a.attnum = ANY (t.tgattr) ORDER BY a.attnum) AS columns,
  t.tgtype & 1 <> 0 AS each_row, t.tgqual IS NOT NULL AS conditional,
  t.tgconstraint <> 0 AS constraint, t.tgenabled::text AS enabled,
  f.nspname AS function_schema, p.proname AS function,
  coalesce(clones.number, 0) AS partitions
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
LEFT JOIN (SELECT tgparentid, count(*)::int AS number FROM pg_trigger WHERE tgparentid <> 0
  GROUP BY tgparentid) clones ON clones.tgparentid = t.oid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {OWN_SCHEMA}
  AND (%(schema)s = '' OR n.nspname = %(schema)s)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e'
    AND (d.classid, d.objid) IN (('pg_trigger'::regclass, t.oid), ('pg_class'::regclass, c.oid)))
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", t.tgname COLLATE "C"
"""
STATES = {"O": "enabled", "D": "DISABLED", "R": "replica only", "A": "always"}


@dataclass(frozen=True)
class TriggerFacts:
    """A trigger; `partitions` is the number of its clones on partitions, which are not listed."""

    schema: str
    table: str
    name: str
    timing: str
    events: list[str]
    columns: list[str]
    each_row: bool
    conditional: bool
    constraint: bool
    enabled: str
    function_schema: str
    function: str
    partitions: int

    @property
    def fires(self) -> str:
        """Return when it fires, as CREATE TRIGGER spells it."""
        of = f" OF {', '.join(map(quoted, self.columns))}" if self.columns else ""
        events = " OR ".join(f"{e}{of if e == 'UPDATE' else ''}" for e in self.events)
        words = [self.timing, events, "" if self.each_row else "FOR EACH STATEMENT"]
        return " ".join(filter(None, [*words, "WHEN (...)" if self.conditional else ""]))

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row."""
        calls = qualified(self.function_schema, self.function)
        table, state = qualified(self.schema, self.table), STATES[self.enabled]
        return table, self.name, state, f"{self.fires}, calls {calls}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "enabled": STATES[self.enabled].lower(), "fires": self.fires}


@dataclass(frozen=True)
class Triggers:
    """The triggers, by table."""

    triggers: tuple[TriggerFacts, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        headings = ("table", "trigger", "state", "fires")
        rows = [each.cells() for each in self.triggers]
        names, prose = headings[:2], headings[3:]
        shown = report.table(headings, rows, keys=names, prose=prose, runs_on=True).splitlines()
        off = sum(each.enabled == "D" for each in self.triggers)
        tables = len({(each.schema, each.table) for each in self.triggers})
        counted = report.plural(len(self.triggers), "trigger")
        on = f" on {report.plural(tables, 'table')}" if rows else ""
        return [
            *(shown if rows else []),
            f"{counted}{on}{f', {off} of them disabled' if off else ''}",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"triggers": [each.as_json() for each in self.triggers]}


def triggers(conn: Connection, schema: str = "") -> Triggers:
    """Return the triggers, of one schema if it is named; raises Refused for an unknown one.

    Those that belong to constraints or extensions are left out, as are the clones on partitions.
    """
    refuse_unknown_schema(conn, schema)
    rows = connection.rows(conn, _TRIGGERS, {"schema": schema}, into=TriggerFacts)
    return Triggers(tuple(rows))
