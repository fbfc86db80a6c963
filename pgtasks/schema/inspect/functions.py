"""All functions and procedures of a database, with what matters for security and speed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.inspect.facts import short_type
from pgtasks.schema.inspect.tables import refuse_unknown_schema
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified

_FUNCTIONS = f"""
SELECT n.nspname AS schema, p.proname AS name,
  ARRAY(SELECT format_type(a.type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a (type, place)
    ORDER BY a.place) AS arguments,
  CASE WHEN p.prokind = 'p' THEN '' ELSE format_type(p.prorettype, NULL) END AS returns,
  p.proretset AS returns_set, l.lanname AS language,
  CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window'
    ELSE 'function' END AS kind,
  CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END
    AS volatility,
  p.prosecdef AS security_definer, p.proisstrict AS strict, p.proleakproof AS leakproof,
  CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel,
  coalesce(p.proconfig, '{{}}') AS settings, pg_get_userbyid(p.proowner)::text AS owner,
  coalesce(t.triggers, 0) AS triggers, s.calls, s.total_time::float8 AS milliseconds
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN pg_stat_user_functions s ON s.funcid = p.oid
LEFT JOIN (SELECT tgfoid, count(*)::int AS triggers FROM pg_trigger
  WHERE NOT tgisinternal AND tgparentid = 0 GROUP BY tgfoid) t ON t.tgfoid = p.oid
WHERE {OWN_SCHEMA} AND (%(schema)s = '' OR n.nspname = %(schema)s)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
    AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", p.proname COLLATE "C", 3
"""


@dataclass(frozen=True)
class FunctionFacts:
    """A function or procedure.

    `settings` are those of its SET clauses, `triggers` is the number of triggers that call it.
    `calls` and `milliseconds` are those since the server's statistics began, None where
    track_functions does not count them.
    """

    schema: str
    name: str
    arguments: list[str]
    returns: str
    returns_set: bool
    language: str
    kind: str
    volatility: str
    security_definer: bool
    strict: bool
    leakproof: bool
    parallel: str
    settings: list[str]
    owner: str
    triggers: int
    calls: int | None
    milliseconds: float | None

    @property
    def unpinned(self) -> bool:
        """Return whether it runs as its owner and finds names where its caller wants."""
        pinned = any(each.startswith("search_path=") for each in self.settings)
        return self.security_definer and not pinned

    def cells(self) -> tuple[Any, ...]:
        """Return the cells of its row."""
        signature = (
            f"{qualified(self.schema, self.name)}({', '.join(map(short_type, self.arguments))})"
        )
        returns = f"{'setof ' if self.returns_set else ''}{short_type(self.returns)}"
        return signature, returns or self.kind, self.language, self.owner, self._notes()

    def _notes(self) -> str:
        words = [
            self.kind if self.kind in ("aggregate", "window") else "",
            f"called by {report.plural(self.triggers, 'trigger')}" if self.triggers else "",
            self.volatility if self.volatility != "volatile" else "",
            "security definer" if self.security_definer else "",
            "search_path is not set" if self.unpinned else "",
            *(f"set {each.partition('=')[0]}" for each in self.settings),
            f"{report.plural(self.calls, 'call')}" if self.calls else "",
        ]
        return ", ".join(filter(None, words))


@dataclass(frozen=True)
class Functions:
    """The functions, by schema and name."""

    functions: tuple[FunctionFacts, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        headings = ("function", "returns", "language", "owner", "notes")
        rows = [each.cells() for each in self.functions]
        prose, gives = ("function", "notes"), ("owner", "language")
        shown = report.table(headings, rows, prose=prose, gives=gives, runs_on=True)
        return [*(shown.splitlines() if rows else []), self._sentence()]

    def _sentence(self) -> str:
        counted = report.plural(len(self.functions), "function")
        definers = sum(each.security_definer for each in self.functions)
        unpinned = sum(each.unpinned for each in self.functions)
        run = f", {definers} of them with the rights of the owner" if definers else ""
        return f"{counted}{run}{f', {unpinned} without a search_path' if unpinned else ''}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        functions = [{**asdict(each), "unpinned": each.unpinned} for each in self.functions]
        return {"functions": functions}


def functions(conn: Connection, schema: str = "") -> Functions:
    """Return the functions, of one schema if it is named; raises Refused for an unknown one.

    Those of extensions are left out.
    """
    refuse_unknown_schema(conn, schema)
    rows = connection.rows(conn, _FUNCTIONS, {"schema": schema}, into=FunctionFacts)
    return Functions(tuple(rows))
