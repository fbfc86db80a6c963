"""A database's first and last moment: created empty and stamped, or dropped for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from pgtasks import connection, reach, recover, report, side, stamp
from pgtasks.errors import Refused
from pgtasks.lock import Lock
from pgtasks.stamp import Identity, Stamp
from pgtasks.target import Target


@dataclass(frozen=True)
class Created:
    """What a create did, or would do; `note` says why it leaves an existing database alone."""

    database: str
    environment: str
    created: bool
    stamped: bool
    note: str = ""
    dry: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.created or self.stamped

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if self.created:
            verb = "would create" if self.dry else "created"
            return [f"{verb} {self.database!r}, empty, stamped {self.environment!r}"]
        if self.stamped:
            verb = "would stamp" if self.dry else "stamped"
            return [f"{self.database!r} was there, empty; {verb} it {self.environment!r}"]
        return [f"{self.database!r} is there, {self.note}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "environment": self.environment,
            "created": self.created,
            "stamped": self.stamped,
            "note": self.note,
            "dry": self.dry,
        }


def left_to_do(target: Target, identity: Identity | None) -> Created:
    """Return what a create would do to a database that says `identity` of itself."""
    name, environment = target.database, target.environment
    if identity is None:
        return Created(name, environment, created=True, stamped=True)
    if identity.stamp is not None:
        return Created(name, environment, False, False, f"stamped {identity.stamp.environment!r}")
    if identity.empty:
        return Created(name, environment, created=False, stamped=True)
    note = "with content and no stamp: inv env.stamp marks it as this environment's"
    return Created(name, environment, False, False, note)


def create(lock: Lock) -> Created:
    """Create the target's database empty, in UTF-8, and stamp it; what is there stays as it is.

    The lock is held, so that of two runs one creates and the other finds it done.
    """
    conn, target = lock.connection, lock.target
    plan = left_to_do(target, reach.identify(target))
    if plan.created:
        connection.execute(conn, _create_statement(target))
    if plan.stamped:
        # a kill between these two leaves an empty database, which the next create stamps
        text = "" if plan.created else _comment(conn, target.database)
        mark = Stamp(target.environment, target.database, stamp.system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(target.database, text, mark))
    return plan


def _create_statement(target: Target) -> sql.Composed:
    return sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
        sql.Identifier(target.database), sql.Identifier(target.template)
    )


def _comment(conn: connection.Connection, name: str) -> str:
    comment = connection.value(
        conn,
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        (name,),
    )
    return stamp.split(comment)[0]


@dataclass(frozen=True)
class Dropped:
    """What a drop ended, or would end. `existed` is false where there was nothing to drop."""

    database: str
    existed: bool
    bytes: int | None = None
    sessions: int = 0
    beside: tuple[str, ...] = ()
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.existed:
            return [f"{self.database!r} is not there, nothing to drop", *self.beside]
        size = f", {report.size(self.bytes)}" if self.bytes is not None else ""
        ended = f", ended {report.plural(self.sessions, 'session')}" if self.sessions else ""
        if self.dry:
            return [f"would drop {self.database!r}{size}{ended.replace('ended', 'end')}"]
        return [f"dropped {self.database!r}{size}{ended}", *self.beside]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "existed": self.existed,
            "bytes": self.bytes,
            "sessions": self.sessions,
            "dry": self.dry,
        }


def drop(lock: Lock, *, dry: bool = False) -> Dropped:
    """Drop the target's database and end the sessions in it; what is kept for undo stays.

    Raises Refused for the database that locks are held in.
    """
    conn, target = lock.connection, lock.target
    if target.database == target.maintenance:
        raise Refused(
            f"{target.database!r} is the maintenance database that locks are held in, "
            "it is not pgtasks' to drop"
        )
    found = recover.look(conn, target)
    beside = tuple(recover.kept_lines(found.kept))
    if found.missing:
        return Dropped(target.database, existed=False, beside=beside, dry=dry)
    size, sessions = connection.rows(conn, _SIZE_AND_SESSIONS, (target.database,))[0]
    if not dry:
        side.drop(conn, target.database)
    return Dropped(target.database, True, size, sessions, beside, dry)


_SIZE_AND_SESSIONS = (
    "SELECT CASE WHEN has_database_privilege(d.oid, 'CONNECT')"
    " OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END,"
    # what another role's backend is, only some may see
    " (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid"
    "  AND a.backend_type IS DISTINCT FROM 'autovacuum worker')"
    " FROM pg_database d WHERE d.datname = %s"
)
