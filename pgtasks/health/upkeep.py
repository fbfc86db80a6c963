"""The tables that maintenance works on, and what interrupted runs left."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pgtasks.copy.part import names
from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import parted, qualified

_MAINTAIN = 170000  # the first version with that privilege
# ANALYZE of a partitioned table reads all its partitions; VACUUM and REINDEX work on each of them.
_TABLES = f"""
WITH RECURSIVE chosen (oid) AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {OWN_SCHEMA}
    AND (%(oids)s::oid[] IS NULL OR c.oid = ANY (%(oids)s::oid[]))
    AND (%(oids)s::oid[] IS NOT NULL OR NOT %(whole)s OR NOT c.relispartition)
  UNION SELECT i.inhrelid FROM chosen p JOIN pg_inherits i ON i.inhparent = p.oid
    JOIN pg_class x ON x.oid = i.inhrelid WHERE NOT %(whole)s AND x.relispartition)
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name,
  pg_has_role(c.relowner, 'USAGE') OR {{maintain}}
    OR %(owner)s AND pg_has_role(d.datdba, 'USAGE') AS allowed,
  CASE WHEN c.relkind = 'p' THEN (SELECT coalesce(sum(x.relpages), 0)::bigint
      * current_setting('block_size')::bigint FROM pg_inherits i
      JOIN pg_class x ON x.oid = i.inhrelid WHERE i.inhparent = c.oid)
    ELSE c.relpages::bigint * current_setting('block_size')::bigint END AS bytes
FROM chosen JOIN pg_class c ON c.oid = chosen.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_database d ON d.datname = current_database()
WHERE c.relkind IN ('r', 'm') OR (%(whole)s AND c.relkind = 'p')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
# An index that REINDEX CONCURRENTLY builds or replaces; it is invalid as long as nobody uses it.
_LEFT = f"""
SELECT n.nspname AS schema, x.relname AS name
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = x.relnamespace JOIN pg_class c ON c.oid = i.indrelid
WHERE NOT i.indisvalid AND x.relkind = 'i' AND x.relname ~ '_cc(new|old)[0-9]*$'
  AND ({OWN_SCHEMA} OR n.nspname = 'pg_toast') AND pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
ORDER BY n.nspname COLLATE "C", x.relname COLLATE "C"
"""


@dataclass(frozen=True)
class Work:
    """A table to work on; `bytes` is an estimate, `allowed` whether the role may maintain it."""

    oid: int
    schema: str
    name: str
    allowed: bool
    bytes: int

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True)
class LeftIndex:
    """An invalid index that an interrupted REINDEX CONCURRENTLY left."""

    schema: str
    name: str

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


def chosen(conn: Connection, patterns: Collection[str], *, whole: bool, owner: bool) -> list[Work]:
    """Return the tables that match, all without a pattern; raises Refused if none matches one.

    With `whole`, a partitioned table stands for its partitions, else they stand for it. `owner`
    says that the owner of the database may do the work.
    """
    oids = _matching(conn, patterns) if patterns else None
    maintain = "false"
    if conn.server_version >= _MAINTAIN:
        maintain = "has_table_privilege(c.oid, 'MAINTAIN')"
    parameters = {"oids": oids, "whole": whole, "owner": owner}
    return connection.rows(conn, _TABLES.format(maintain=maintain), parameters, into=Work)


def _matching(conn: Connection, patterns: Collection[str]) -> list[int]:
    anywhere = {
        pattern: pattern if len(parted(pattern, ".")) > 1 else f"*.{pattern}"
        for pattern in patterns
    }
    found = catalog.matching(conn, sorted(set(anywhere.values())), kinds="rpm")
    for pattern, full in anywhere.items():
        if not found[full]:
            near = names.nearest(conn, pattern, "rpm")
            lists = typed.task("inspect.tables")
            raise Refused(f"no table matches {pattern!r}{near or f', {lists} lists all'}")
    return sorted({oid for oids in found.values() for oid in oids})


def left_indexes(conn: Connection) -> Sequence[LeftIndex]:
    """Return the invalid indexes that nobody is building any more."""
    return connection.rows(conn, _LEFT, into=LeftIndex)
