"""The sessions of a database: what they do, for how long, and whom they wait for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.server import connection
from pgtasks.server.connection import Connection

# The text of a session of another role is hidden from a role without pg_read_all_stats.
_SESSIONS = """
SELECT pid, coalesce(usename, '-') AS role, coalesce(application_name, '') AS application,
  coalesce(client_addr::text, 'socket') AS client, coalesce(state, '-') AS state,
  extract(epoch FROM clock_timestamp() - coalesce(CASE WHEN state = 'active' THEN query_start
    ELSE state_change END, backend_start))::float8 AS seconds,
  extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds,
  coalesce(wait_event_type || ': ' || wait_event, '') AS waits,
  pg_blocking_pids(pid) AS blocked_by, left(coalesce(query, ''), 1000) AS query
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
ORDER BY state <> 'active', seconds DESC, pid
"""


@dataclass(frozen=True)
class SessionActivity:
    """A session: `seconds` since its statement or state began, and since its transaction did."""

    pid: int
    role: str
    application: str
    client: str
    state: str
    seconds: float
    transaction_seconds: float | None
    waits: str
    blocked_by: list[int]
    query: str

    @property
    def waits_for(self) -> str:
        """Return whom it waits for, or for what."""
        if self.blocked_by:
            return f"a lock of {', '.join(map(str, self.blocked_by))}"
        return self.waits if self.state == "active" else ""


@dataclass(frozen=True)
class Activity:
    """The sessions, those that are active first."""

    sessions: tuple[SessionActivity, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        headings = ("pid", "role", "application", "state", "for", "waits for", "statement")
        rows = [
            (
                *(str(each.pid), each.role, each.application, each.state),
                *(report.duration(max(each.seconds, 0)), each.waits_for),
                " ".join(each.query.split()),
            )
            for each in self.sessions
        ]
        whole, prose = ("pid", "role", "for"), ("application", "statement")
        shown = report.table(
            *(headings, rows), whole=whole, keys=("waits for",), prose=prose, gives=prose[:1]
        ).splitlines()
        blocked = sum(bool(each.blocked_by) for each in self.sessions)
        waiting = f", {blocked} of them waiting for a lock" if blocked else ""
        counted = report.plural(len(self.sessions), "other session")
        return [*(shown if rows else []), f"{counted} in this database{waiting}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"sessions": [asdict(each) for each in self.sessions]}


def activity(conn: Connection) -> Activity:
    """Return the other sessions of the database."""
    return Activity(tuple(connection.rows(conn, _SESSIONS, into=SessionActivity)))
