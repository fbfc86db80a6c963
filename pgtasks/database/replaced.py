"""The database that a restore or a copy replaces: its size, its last write, the sessions in it.

PostgreSQL keeps no time of a database's last write. What can be known is when its files were
written, which a vacuum does too and a checkpoint does late, if the role may list them; and how many
rows were written since the server's counters began, which a crash of it resets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pgtasks import report
from pgtasks.errors import Failed
from pgtasks.report import account
from pgtasks.server import connection
from pgtasks.server.catalog import OTHERS
from pgtasks.server.connection import Connection

_FACTS = """
SELECT d.oid::bigint, CASE WHEN has_database_privilege(d.oid, 'CONNECT')
  OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END,
  s.tup_inserted + s.tup_updated + s.tup_deleted, s.stats_reset,
  d.dattablespace = (SELECT oid FROM pg_tablespace WHERE spcname = 'pg_default')
  AND has_function_privilege('pg_ls_dir(text)', 'EXECUTE')
  AND has_function_privilege('pg_stat_file(text, boolean)', 'EXECUTE')
FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = %s"""
# files of relations have names that begin with a number
_FILES = """
SELECT extract(epoch FROM clock_timestamp() - max((pg_stat_file(path, true)).modification))::float8
FROM (SELECT 'base/' || %s || '/' || file AS path FROM pg_ls_dir('base/' || %s) file
  WHERE file ~ '^[0-9]') files"""
_SESSIONS = f"""
SELECT coalesce(usename, '?') AS role, coalesce(application_name, '') AS application,
  count(*) AS number
FROM pg_stat_activity WHERE datid = %(oid)s::oid AND pid <> pg_backend_pid()
AND {OTHERS} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"""
_NAMED = 3  # applications that a line names
# the server waits 5 s itself for sessions that end (CountOtherDBBackends)
PATIENCE, PAUSE = 2.0, 0.05  # seconds


@dataclass(frozen=True)
class Sessions:
    """The number of sessions of a role and an application in a database."""

    role: str
    application: str
    number: int

    def __str__(self) -> str:
        of = f" of {self.application!r}" if self.application else ""
        return f"{self.number}{of} as {self.role!r}"


@dataclass(frozen=True)
class Replaced:
    """A database that is replaced.

    `bytes` is None if the role may not read it, `files_age` the number of seconds since a file of
    it was written, None if unknown; `rows_written` are counted since `since`, when the
    counters were reset, None for the creation of the database or a crash of the server.
    """

    bytes: int | None
    rows_written: int
    since: datetime | None
    sessions: tuple[Sessions, ...]
    files_age: float | None

    @property
    def number(self) -> int:
        """Return the number of sessions in it."""
        return sum(each.number for each in self.sessions)

    def lines(self) -> Iterator[str]:
        """Yield what the plan says of it, beside its name."""
        size = "" if self.bytes is None else f"{report.size(self.bytes)}; "
        yield f"holds    {size}{self._written()}"
        if self.sessions:
            named = ", ".join(map(str, self.sessions[:_NAMED]))
            more = ", ..." if len(self.sessions) > _NAMED else ""
            yield f"ends     {report.plural(self.number, 'session')}: {named}{more}"

    def _written(self) -> str:
        since = "it was created, or the server last crashed"
        if self.since:
            since = f"{self.since:%Y-%m-%d %H:%M}, when its counters were reset"
        rows = report.plural(self.rows_written, "row")
        counted = (
            f"by the server's counters {rows} (those of system tables too) inserted, updated or "
            f"deleted since {since}"
        )
        if self.files_age is None:
            return counted
        age = report.age(max(self.files_age, 0))
        return f"{counted}; last write to a file {age} ago (maybe a vacuum's)"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "replaced_bytes": self.bytes,
            "replaced_sessions": self.number,
            "replaced_files_age_seconds": None if self.files_age is None else round(self.files_age),
            "replaced_rows_written": self.rows_written,
            "replaced_rows_written_since": self.since.isoformat() if self.since else None,
        }


def look(conn: Connection, database: str) -> Replaced | None:
    """Return what can be known of a database from another one; None if it does not exist."""
    facts = connection.row(
        conn, _FACTS, (database,), into=tuple[int, int | None, int, datetime | None, bool]
    )
    if facts is None:
        return None
    oid, size, rows_written, since, listable = facts
    parameters = {"oid": oid, "own": account.end_of_names()}
    sessions = connection.rows(conn, _SESSIONS, parameters, into=Sessions)
    files_age = _files_age(conn, oid) if listable else None
    return Replaced(size, rows_written, since, tuple(sessions), files_age)


def settled(conn: Connection, database: str) -> Replaced | None:
    """Return what `look` does, after a while in which sessions that are just ending have ended."""
    latest = time.monotonic() + PATIENCE
    while (seen := look(conn, database)) and seen.sessions and time.monotonic() < latest:
        time.sleep(PAUSE)
    return seen


def _files_age(conn: Connection, oid: int) -> float | None:
    try:
        ages = connection.rows(conn, _FILES, (str(oid), str(oid)), into=tuple[float | None])
    except Failed:
        return None  # of a managed server, where the privilege alone is not enough
    return ages[0][0]
