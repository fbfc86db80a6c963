"""Check that server, database and role allow enough connections."""

from __future__ import annotations

import time
from typing import NamedTuple

from pgtasks.errors import Unreachable
from pgtasks.report import plural
from pgtasks.server import connection, opening
from pgtasks.server.connection import Connection
from pgtasks.server.silence import ANSWER
from pgtasks.settings.target import Target

_AGAIN = 0.05  # seconds between two looks

# Each row is a limit, and the number of sessions that count towards it. Limits of databases and
# roles do not apply to superusers, who may also use the reserved connections.
_LIMITS = """
WITH me AS (SELECT oid, rolname, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = session_user),
  seen AS (SELECT datid, usesysid FROM pg_stat_activity WHERE usesysid IS NOT NULL)
SELECT format('role %%I', rolname), 'CONNECTION LIMIT', rolconnlimit,
  (SELECT count(*) FROM seen WHERE usesysid = me.oid)
  FROM me WHERE NOT rolsuper AND rolconnlimit >= 0
UNION ALL SELECT format('database %%I', datname), 'CONNECTION LIMIT', datconnlimit,
  (SELECT count(*) FROM seen WHERE datid = d.oid)
  FROM me, pg_database d WHERE NOT rolsuper AND datconnlimit >= 0 AND datname = %(database)s
UNION ALL SELECT 'the server', 'max_connections', current_setting('max_connections')::int
  - CASE WHEN rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0) END,
  (SELECT count(*) FROM seen)
  FROM me
"""


def check(
    conn: Connection, target: Target, work: str, *, within: int, besides: int = 0, jobs: int = 1
) -> None:
    """Raise Unreachable if the server would refuse some of the needed sessions.

    These are `within` sessions in the target's database at once, and `besides` in others, including
    the session that checks. Sessions that were closed a moment ago may still count: it looks again.
    """
    deadline = time.monotonic() + opening.ENDING
    while (short := _short(conn, target, within, besides)) and time.monotonic() < deadline:
        time.sleep(_AGAIN)
    for needed, limit in short[:1]:
        fewer = " or use fewer --jobs" if jobs > 1 else ""
        raise Unreachable(
            f"{target}: {work} needs {plural(needed, 'session')} at once and {limit.whose} has room"
            f" for {limit.room} ({limit.used} of {limit.name} {limit.most} are in use): raise it"
            f"{fewer}"
        )


class _Limit(NamedTuple):
    whose: str
    name: str
    most: int
    used: int

    @property
    def room(self) -> int:
        """Return the number of sessions that it leaves, including the one that asks."""
        return max(self.most - self.used, 0) + 1


def _short(conn: Connection, target: Target, within: int, besides: int) -> list[tuple[int, _Limit]]:
    """Return the limits that leave too few sessions, with the number that is needed."""
    parameters = {"database": target.database}
    answer = connection.rows(
        conn, _LIMITS, parameters, into=tuple[str, str, int, int], limit=ANSWER
    )
    limits = [_Limit(*row) for row in answer]
    needs = [within + (0 if each.whose.startswith("database ") else besides) for each in limits]
    return [(need, each) for need, each in zip(needs, limits, strict=True) if each.room < need]
