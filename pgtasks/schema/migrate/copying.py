"""The copy of a database on which migrations are rehearsed: a side database, dropped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pgtasks import report
from pgtasks.copy import CopyOptions, survey, template
from pgtasks.copy.build import build
from pgtasks.copy.plan import CopyPlan
from pgtasks.database import drop, lay, obstacles, properties, recover, replaced, side
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Refused
from pgtasks.host import tools
from pgtasks.host.base import Host
from pgtasks.host.tools import Toolset
from pgtasks.report import Console
from pgtasks.server import connection
from pgtasks.server.identity import Identity, glimpse, refuse_other
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class CopyingPlan:
    """How the copy is made: `rows` is the plan if rows are copied, else the server copies files.

    The server copies files only if nobody else is connected to the database; then none of its code
    runs. `why` says why rows are copied.
    """

    target: Target
    identity: Identity
    facts: DatabaseProperties
    bytes: int
    tools: Toolset
    rows: CopyPlan | None = None
    why: str = ""

    def line(self) -> str:
        """Return what a person reads."""
        way = f"its rows are copied ({self.why})" if self.rows else "the server copies its files"
        return f"copy     {self.target.database!r}, {report.size(self.bytes)}, beside it: {way}"


def plan(lock: Lock, host: Host, identity: Identity) -> CopyingPlan:
    """Return how the copy is made, raising Refused for an obstacle."""
    conn, target = lock.connection, lock.target
    facts = properties.read(conn, target.database)
    with connection.session(target, read_only=True, purpose="migrate") as reading:
        candidate = template.look(reading, conn, target.database)
        major = reading.server_version // 10000
    origin = replaced.look(conn, target.database)
    size = (origin.bytes if origin else None) or 0
    toolset = tools.for_dump(tools.available(host, target), major, target)
    why = _objection(candidate)
    if why:
        rows = _rows(lock, host, identity, why)
        return CopyingPlan(target, identity, facts, size, toolset, rows, why)
    lines = [
        *obstacles.rights(conn, target, facts.owner),
        *obstacles.not_carried(conn, target.database, facts),
        *obstacles.disk(obstacles.free_bytes(conn, target, host), size),
    ]
    obstacles.refuse("rehearse", lines)
    return CopyingPlan(target, identity, facts, size, toolset)


def _rows(lock: Lock, host: Host, identity: Identity, why: str) -> CopyPlan:
    options = CopyOptions(lock.target.jobs, proof=False, rows=True)
    beside = recover.look(lock.connection, lock.target)
    source = survey.Itself(lock.target, identity)
    try:
        return survey.make_plan(source, lock, host, options, beside)
    except Refused as exc:
        # a rehearsal lets no code of the database run as a superuser
        exc.message = exc.message.replace(", or --as-superuser", "")
        exc.message += f"; the server cannot copy the files either: {why}"
        raise


def _objection(candidate: template.Candidate) -> str:
    if candidate.sessions:
        return f"{report.plural(candidate.sessions, 'session')} of others are in it"
    if not (candidate.here and candidate.allowed):
        return "this role may not copy its files"
    return "the jobs of pg_cron would come with its files" if candidate.scheduled else ""


@contextmanager
def copied(made: CopyingPlan, lock: Lock, console: Console) -> Iterator[Target]:
    """Make the copy for the length of a block, and drop it."""
    name = made.rows.side if made.rows else ""
    try:
        if made.rows:
            build(made.rows, lock, console)
        else:
            run = side.new_run_id(lock.connection, made.target)
            name = side.side_name(made.target.database, "new", run)
            _by_file(made, lock, run, console)
        yield made.target.at(name)
    finally:
        if name:
            drop.clear(lock.connection, made.target, name)


def _by_file(made: CopyingPlan, lock: Lock, run: str, console: Console) -> None:
    target, conn = made.target, lock.connection
    mark = Stamp(target.environment, target.database, made.identity.system, role="new", run=run)
    refuse_other(made.identity, glimpse(conn, target.database), target.database)
    name = side.create(
        conn, target, made.facts, mark, owner=made.facts.owner, copied=target.database
    )
    refuse_other(made.identity, glimpse(conn, target.database), target.database)
    lay.lay(
        *(conn, target, name, made.facts),
        leave_behind=True,
        purpose="migrate.rehearse",
        say=console.say,
    )
