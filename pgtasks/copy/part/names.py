"""The tables that the flags of a copy name, by patterns as psql's and pg_dump's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from pgtasks.errors import Refused
from pgtasks.report import plural
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import parted, qualified, quoted

_NEAREST = 3  # names in an error
_FEW = 5  # names in a line
_PARTITIONS = """
WITH RECURSIVE parts AS (
  SELECT i.inhparent AS whole, i.inhrelid AS part FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition AND c.relkind IN ('r', 'p', 'f')
  UNION SELECT p.whole, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.part)
SELECT whole::bigint, array_agg(part::bigint) FROM parts GROUP BY whole
"""


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of a flag that is repeated, or has several, with commas between them."""
    parts = (part for text in texts for part in parted(text, ","))
    return tuple(dict.fromkeys(filter(None, parts)))


def matched(
    conn: Connection,
    flag: str,
    patterns: Sequence[str],
    *,
    kinds: str = "rp",
    parts: bool = True,
) -> frozenset[int]:
    """Return the OIDs of the tables that some patterns match, with the partitions of each.

    Without `parts` the partitions of a partitioned table are not among them.

    Raises Refused, with the nearest name, for a pattern that matches none.
    """
    if not patterns:
        return frozenset()
    by_pattern = catalog.matching(conn, patterns, kinds=kinds)
    for pattern, oids in by_pattern.items():
        if not oids:
            known = len(_known(conn, kinds, schema=True))
            among = f" of the {plural(known, 'table')} of the database"
            near = nearest(conn, pattern, kinds) or among
            raise Refused(f"{flag} {pattern!r} matches no table{near}")
    named = frozenset(oid for oids in by_pattern.values() for oid in oids)
    of = partitions(conn) if parts else {}
    return named.union(*(of.get(oid, ()) for oid in named))


def few(names: Sequence[str]) -> str:
    """Return names for a line, only the first ones of many."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def partitions(conn: Connection) -> dict[int, frozenset[int]]:
    """Return the partitions of each partitioned table, at all levels."""
    rows = connection.rows(conn, _PARTITIONS, into=tuple[int, list[int]])
    return {whole: frozenset(parts) for whole, parts in rows}


def nearest(conn: Connection, pattern: str, kinds: str) -> str:
    """Return `, did you mean 'orders'?` for a pattern that matches nothing, or an empty text."""
    known = _known(conn, kinds, schema="." in pattern)
    plain = re.sub(r'["*?]', "", pattern).lower()
    near = difflib.get_close_matches(plain, list(known), _NEAREST, 0.6)
    return f", did you mean {' or '.join(repr(known[name]) for name in near)}?" if near else ""


def _known(conn: Connection, kinds: str, *, schema: bool) -> dict[str, str]:
    """Return how a pattern names each table, by its name in small letters."""
    rows = connection.rows(
        conn,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind = ANY (%s) AND {OWN_SCHEMA} ORDER BY 1, 2",
        (list(kinds),),
        into=tuple[str, str],
    )
    return {
        (f"{where}.{name}" if schema else name).lower(): (
            qualified(where, name) if schema or where != "public" else quoted(name)
        )
        for where, name in rows
    }
