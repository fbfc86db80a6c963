"""A copy of the source that the server makes of its own files, by CREATE DATABASE ... TEMPLATE.

Nobody can connect to the source meanwhile, and it needs a moment in which nobody else is connected.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pgtasks import report
from pgtasks.copy.loaded import Clock, Loaded
from pgtasks.copy.plan import CopyPlan
from pgtasks.database import lay, replaced, side
from pgtasks.database.properties import DatabaseProperties
from pgtasks.host.local import HERE
from pgtasks.report import Console, account
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server import proof as proofs
from pgtasks.server.catalog import OTHERS
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe
from pgtasks.server.identity import glimpse, moment, refuse_other
from pgtasks.server.lock import Lock
from pgtasks.server.proof import Proof

_SOURCE = (
    "SELECT oid::bigint AS oid, extract(epoch FROM pg_postmaster_start_time())::float8 AS started,"
    " pg_backend_pid() AS pid,"
    " EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') AS scheduled"
    " FROM pg_database WHERE datname = current_database()"
)
# CREATE DATABASE ends the workers of autovacuum itself, and waits for sessions that are ending
_THERE = f"""
SELECT d.oid = %(oid)s AND extract(epoch FROM pg_postmaster_start_time())::float8 = %(started)s
  AND NOT pg_is_in_recovery() AS here,
  r.rolsuper OR r.rolcreatedb AND (d.datistemplate OR pg_has_role(d.datdba, 'USAGE')) AS allowed,
  (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> %(pid)s
   AND a.backend_type <> 'autovacuum worker' AND {OTHERS})
  + (SELECT count(*) FROM pg_prepared_xacts x WHERE x.database = d.datname) AS sessions,
  %(scheduled)s AS scheduled
FROM pg_database d, pg_roles r WHERE d.datname = %(name)s AND r.rolname = current_user
"""


@dataclass(frozen=True)
class Candidate:
    """What decides whether the target's server can copy the source itself.

    `here` says whether it has the source, `allowed` whether this role may copy it; `sessions` are
    those of others in it. `scheduled` says whether the source has the extension pg_cron.
    """

    here: bool = False
    allowed: bool = False
    sessions: int = 0
    scheduled: bool = False


@dataclass(frozen=True)
class _Source:
    oid: int
    started: float
    pid: int
    scheduled: bool


def look(reading: Connection, conn: Connection, database: str, *, waits: bool = False) -> Candidate:
    """Look at the source from a session in it, and from one of the target's server.

    With `waits`, sessions that are just ending have a while to end.
    """
    source = connection.rows(reading, _SOURCE, into=_Source)[0]
    values = {**vars(source), "name": database, "own": account.end_of_names()}
    latest = time.monotonic() + replaced.PATIENCE
    while True:
        seen = connection.row(conn, _THERE, values, into=Candidate) or Candidate()
        if not (waits and seen.sessions) or time.monotonic() > latest:
            return seen
        time.sleep(replaced.PAUSE)


def objection(plan: CopyPlan, candidate: Candidate, source: DatabaseProperties) -> str:
    """Return why the server cannot copy the source itself, or an empty text."""
    if not candidate.here:
        return "source and target are on different servers"
    if not plan.options.scope.complete:
        return "only a part of the source is copied"
    if plan.options.rate:
        return "its rate is limited"
    if plan.masking.masked:
        return "columns are masked"
    if plan.masking.changes:
        return "a rule leaves something out of them"
    if left := plan.left(plan.archive).names:
        return f"{left[0]} is left out of a copy"
    if candidate.scheduled:
        return "the jobs of pg_cron would come with them"
    if plan.rights.mapped:
        return "owners and grants of the source are left out"
    if not candidate.allowed:
        return "this role may not copy the source: it needs CREATEDB and the role of its owner"
    if (plan.facts.encoding, *plan.facts.locale_of()) != (source.encoding, *source.locale_of()):
        return "source and target have different locales"
    if candidate.sessions:
        return f"{report.plural(candidate.sessions, 'session')} of others are in the source"
    return ""


def copy(plan: CopyPlan, lock: Lock, console: Console) -> Loaded:
    """Let the server make the side database, raising TemplateInUse if the source is in use.

    The proof and the schema of the source are read before.
    """
    clock = Clock()
    refuse_other(plan.allowed, glimpse(lock.connection, plan.source.database), plan.source.database)
    proof = _proof(plan, console)
    archive = describe.described(plan.source, HERE, plan.tools, encoding=plan.origin.encoding)
    clock.lap("source")
    boundary("copy.loading")
    taken = moment(lock.connection)
    side.create(
        *(lock.connection, plan.target, plan.facts, plan.stamp),
        owner=plan.facts.owner,
        copied=plan.source.database,
    )
    refuse_other(plan.allowed, glimpse(lock.connection, plan.source.database), plan.source.database)
    lay.lay(
        *(lock.connection, plan.target, plan.side, plan.facts),
        leave_behind=plan.options.leave_behind,
        purpose="db.copy",
        say=console.say,
    )
    clock.lap("files")
    boundary("copy.loaded")
    return Loaded(
        *(proof, taken, tuple(archive), (), {}),
        tables=plan.origin.tables,
        rows=proof.rows if plan.options.proof else None,
        seconds=clock.seconds,
        slowest=(),
    )


def _proof(plan: CopyPlan, console: Console) -> Proof:
    if not plan.options.proof:
        return Proof(plan.major * 10000)
    with console.progress("proof of the source") as progress:
        return proofs.take(
            plan.source, jobs=plan.options.jobs, purpose="db.copy proof", progress=progress
        )
