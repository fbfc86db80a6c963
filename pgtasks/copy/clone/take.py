"""Take a clone: CREATE DATABASE ... TEMPLATE, by file copy.

The server copies the files of a database only if nobody else is connected to it, and nobody can
connect meanwhile. What CREATE DATABASE does not copy (grants, settings) is applied afterwards. The
copy is a side database that is being built until one statement string makes it a clone, so that an
interrupted run leaves what `recover.heal` drops.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy.clone import clones, discard
from pgtasks.copy.clone.clones import Clone
from pgtasks.database import attached, beside, obstacles, properties, recover, replaced, side
from pgtasks.database.ending import SessionEnder
from pgtasks.database.properties import DatabaseProperties
from pgtasks.database.replaced import Replaced
from pgtasks.errors import Failed, Refused
from pgtasks.host.base import Host
from pgtasks.report import Console, typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.server import connection, stamp
from pgtasks.server.identity import Identity, glimpse, present, refuse_other
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

_NAMED = 3  # applications that a line names


@dataclass(frozen=True)
class TakePlan:
    """The plan of a clone; `before` are the clones of that name, which it replaces."""

    name: str
    database: str
    origin: Replaced
    before: tuple[Clone, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        size = f", {report.size(self.origin.bytes)}" if self.origin.bytes is not None else ""
        lines = [f"clone    {self.database!r}{size}, as {self.name!r}: the server copies its files"]
        if self.origin.sessions:
            lines.append(f"ends     {_sessions(self.origin)}")
        return [
            *lines,
            *(f"drops    clone {each}, once the new one is taken" for each in self.before),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "database": self.database,
            "bytes": self.origin.bytes,
            "sessions": self.origin.number,
            "replaces": [each.as_json() for each in self.before],
        }


@dataclass(frozen=True)
class Taken:
    """The result: the database of the clone, the seconds, the clones that were dropped."""

    plan: TakePlan
    clone: str
    seconds: float
    dropped: tuple[Clone, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan, back = self.plan, typed.task("clone.back", shlex.quote(self.plan.name))
        return [
            f"took clone {plan.name!r} of {plan.database!r} in {report.duration(self.seconds)}: "
            f"{back} goes back to it",
            *(f"dropped clone {each}" for each in self.dropped),
            *self.notes,
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.plan.as_json(),
            "clone": self.clone,
            "seconds": round(self.seconds, 3),
            "dropped": [each.side.name for each in self.dropped],
        }


def take(
    lock: Lock,
    host: Host,
    name: str,
    *,
    again: bool,
    end_sessions: bool,
    agreed: Callable[[TakePlan], bool],
    console: Console,
) -> Taken | TakePlan:
    """Take a clone of the lock's target if the plan is agreed to; else return the plan.

    `again` lets it replace a clone of the same name, `end_sessions` end the sessions in the
    database, without which they are an obstacle. Raises Refused for an obstacle.
    """
    plan = _plan(lock, name, again=again, waits=not end_sessions)
    facts = properties.read(lock.connection, plan.database)
    obstacles.refuse("take a clone", _obstacles(lock, host, plan, facts, ends=end_sessions))
    if not agreed(plan):
        return plan
    for line in recover.heal(lock):
        console.say(line)
    began = time.monotonic()
    with telling(lambda: _left(lock, plan)):
        clone = _taken(lock, plan, facts, console, ends=end_sessions)
        seconds = time.monotonic() - began
        boundary("clone.taken")
        dropped, notes = discard.drop_all(lock, plan.before)
    return Taken(plan, clone, seconds, dropped, notes)


def _left(lock: Lock, plan: TakePlan) -> str:
    """Return whether the clone of an interrupted run is there."""
    target = lock.target
    place = target.at(target.maintenance)
    with connection.session(place, read_only=True, purpose="interrupted") as conn:
        found = [each for each in clones.find(conn, target) if each.name == plan.name]
    before = {each.side.name for each in plan.before}
    taken = any(each.side.name not in before for each in found)
    return f"clone {plan.name!r} is taken" if taken else f"no clone {plan.name!r} was taken"


def _plan(lock: Lock, name: str, *, again: bool, waits: bool) -> TakePlan:
    conn, target = lock.connection, lock.target
    database = present(glimpse(conn, target.database), target).database
    origin = (replaced.settled if waits else replaced.look)(conn, database)
    if origin is None:
        raise Failed(f"database {target.database!r} was dropped or renamed meanwhile")
    before = tuple(each for each in clones.find(conn, target) if each.name == name)
    if before and not again:
        raise Refused(
            f"there is a clone {before[0]}: --again takes it anew, "
            f"{typed.task('clone.drop', shlex.quote(name))} drops it"
        )
    return TakePlan(name, target.database, origin, before)


def _sessions(origin: Replaced) -> str:
    named = ", ".join(map(str, origin.sessions[:_NAMED]))
    more = ", ..." if len(origin.sessions) > _NAMED else ""
    return f"{report.plural(origin.number, 'session')}: {named}{more}"


def _obstacles(
    lock: Lock, host: Host, plan: TakePlan, facts: DatabaseProperties, *, ends: bool
) -> Iterator[str]:
    conn, target = lock.connection, lock.target
    yield from obstacles.rights(conn, target, facts.owner)
    if not obstacles.may_copy(conn, plan.database):
        yield f"this role may not copy {plan.database!r}: it needs the role of its owner"
    if plan.origin.sessions and not ends:
        yield (
            f"the server copies {plan.database!r} only if nobody else is connected, it has "
            f"{_sessions(plan.origin)}: close them, or --end-sessions"
        )
    if ends:
        yield from obstacles.sessions(conn, target)
    for gid in attached.read(conn, plan.database).prepared:
        yield f"prepared transaction {gid!r} is in {plan.database!r}: COMMIT or ROLLBACK PREPARED"
    yield from obstacles.not_carried(conn, plan.database, facts)
    yield from obstacles.disk(obstacles.free_bytes(conn, target, host), plan.origin.bytes or 0)


def _taken(
    lock: Lock, plan: TakePlan, facts: DatabaseProperties, console: Console, *, ends: bool
) -> str:
    """Copy the database, and make the copy a clone; return the name of its database."""
    conn, target = lock.connection, lock.target
    run = side.new_run_id(conn, target)
    origin = lock.allowed or present(glimpse(conn, plan.database), target)
    mark = _mark(target, origin, run)
    boundary("clone.ready")
    with ExitStack() as stack:
        with _ender(lock, plan.database) if ends else nullcontext():
            building = stack.enter_context(
                beside.building(
                    *(conn, target, facts, mark),
                    copied=plan.database,
                    purpose="clone.take",
                    say=console.say,
                )
            )
        boundary("clone.copied")
        refuse_other(origin, glimpse(conn, plan.database), plan.database)
        clone = side.side_name(target.database, "clone", run)
        sealed = replace(mark, role="clone", clone=plan.name)
        connection.execute(conn, _sealing(building, clone, facts, sealed))
    return clone


def _mark(target: Target, origin: Identity, run: str) -> Stamp:
    live = origin.stamp or Stamp(target.environment, target.database, origin.system)
    return replace(live, role="new", run=run, database=target.database, system=origin.system)


def _ender(lock: Lock, database: str) -> AbstractContextManager[object]:
    query = "SELECT oid FROM pg_database WHERE datname = %s"
    return SessionEnder(lock.target, connection.rows(lock.connection, query, (database,), into=int))


def _sealing(building: str, clone: str, facts: DatabaseProperties, mark: Stamp) -> sql.Composable:
    """Return the statements that rename, close and stamp a copy, as one transaction."""
    # a template cannot be dropped: the flag comes back with clone.back
    late: Sequence[sql.Composable] = properties.late_statements(
        clone, replace(facts, template=False)
    )
    database = sql.Identifier(clone)
    return sql.SQL(";\n").join(
        [
            sql.SQL("BEGIN"),
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(building), database),
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}").format(
                database, sql.Literal(facts.connection_limit)
            ),
            *late,
            stamp.comment_statement(clone, facts.comment, mark),
            sql.SQL("COMMIT"),
        ]
    )
