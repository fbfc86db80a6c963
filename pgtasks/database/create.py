"""Create a database, empty and stamped, or drop it for good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.database import attached, kept, recover
from pgtasks.database.drop import drop_plainly
from pgtasks.errors import Refused
from pgtasks.report import account, typed
from pgtasks.report.interruption import telling
from pgtasks.server import connection, reach, stamp
from pgtasks.server.catalog import OTHERS
from pgtasks.server.connection import Connection
from pgtasks.server.identity import Identity, comment_and_stamp, system_identifier, valid
from pgtasks.server.lock import Lock
from pgtasks.server.quoting import quoted
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Created:
    """The result of a create; `note` says why it leaves an existing database alone."""

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
    """Return the plan of a create for a database with this identity."""
    name, environment = target.database, target.environment
    if identity is None:
        return Created(name, environment, created=True, stamped=True)
    if identity.stamp is not None:
        return Created(name, environment, False, False, f"stamped {identity.stamp.environment!r}")
    if identity.empty:
        return Created(name, environment, created=False, stamped=True)
    note = f"with content and no stamp: {typed.task('env.stamp')} marks it as this environment's"
    return Created(name, environment, False, False, note)


def create(lock: Lock) -> Created:
    """Create the target's database, empty and in UTF-8, and stamp it, unless it exists.

    The caller holds the lock, so that of two runs only one creates it. Raises Unreachable for a
    database that an interrupted DROP left.
    """
    conn, target = lock.connection, lock.target
    identity = reach.identify(target)
    valid(identity, target)
    plan = left_to_do(target, identity)
    with telling(lambda: _left(target)):
        _carry_out(conn, target, plan)
    return plan


def _left(target: Target) -> str:
    """Return whether the database is there after a signal."""
    found = reach.identify(target)
    if found is None:
        return f"{target.database!r} does not exist"
    return f"{target.database!r} exists" + ("" if found.stamp else ", without a stamp")


def _carry_out(conn: Connection, target: Target, plan: Created) -> None:
    if plan.created:
        connection.execute(conn, _create_statement(target))
    if plan.stamped:
        # a kill between these two leaves an empty database, which the next create stamps
        text = "" if plan.created else comment_and_stamp(conn, target.database)[0]
        new_stamp = Stamp(target.environment, target.database, system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(target.database, text, new_stamp))


def namesakes(conn: Connection, target: Target) -> list[str]:
    """Return the other databases of the server with a stamp of this environment.

    If the folder of a project was renamed, and thus the default name, one of them is the old one.
    """
    databases = connection.rows(
        conn,
        f"SELECT datname, {stamp.COMMENT} FROM pg_database WHERE datname <> %s ORDER BY datname",
        (target.database,),
        into=tuple[str, str | None],
    )
    stamps = ((name, stamp.split(comment)[1]) for name, comment in databases)
    return [
        name
        for name, their_stamp in stamps
        if their_stamp
        and (their_stamp.environment, their_stamp.database) == (target.environment, name)
    ]


def _create_statement(target: Target) -> sql.Composed:
    return sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
        sql.Identifier(target.database), sql.Identifier(target.template)
    )


@dataclass(frozen=True)
class Dropped:
    """The result of a drop. `existed` is false if there was nothing to drop."""

    database: str
    existed: bool
    bytes: int | None = None
    sessions: int = 0
    beside: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()  # of the dropped database and the kept ones: an undo trusts them
    system: str = ""  # of the server, the only one where they count
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.existed:
            return [f"{self.database!r} is not there, nothing to drop", *self.beside]
        size = f", {report.size(self.bytes)}" if self.bytes is not None else ""
        ended = f", ended {report.plural(self.sessions, 'session')}" if self.sessions else ""
        if self.dry:
            ends = ended.replace("ended", "end")
            return [f"would drop {self.database!r}{size}{ends}", *self.beside]
        return [f"dropped {self.database!r}{size}{ended}", *self.beside]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "database": self.database,
            "existed": self.existed,
            "bytes": self.bytes,
            "sessions": self.sessions,
            **({"owners": list(self.owners), "system": self.system} if self.existed else {}),
            "dry": self.dry,
        }


def left_to_drop(lock: Lock) -> Dropped:
    """Return the plan of a drop.

    Raises Refused for the maintenance database, and if PostgreSQL would refuse the drop.
    """
    conn, target = lock.connection, lock.target
    name = target.database
    if name == target.maintenance:
        raise Refused(
            f"{name!r} is the maintenance database that locks are held in, "
            "it is not pgtasks' to drop"
        )
    leftovers = recover.look(conn, target)
    beside = tuple(kept.lines(leftovers.kept))
    if leftovers.missing:
        return Dropped(name, existed=False, beside=beside, dry=True)
    size, sessions, template, owner = connection.rows(
        conn,
        _SIZE_AND_SESSIONS,
        {"name": name, "own": account.end_of_names()},
        into=tuple[int | None, int, bool, str],
    )[0]
    refuse_obstacles(conn, name, template=template)
    owners = tuple(sorted({owner, *(side.owner for side in leftovers.kept)}))
    system = system_identifier(conn)
    return Dropped(name, True, size, sessions, beside, owners, system, dry=True)


def refuse_obstacles(
    conn: Connection, name: str, *, template: bool, subscriptions: bool = True
) -> None:
    """Raise Refused if PostgreSQL would refuse to drop a database.

    Without `subscriptions` these are no obstacle, for one who drops them first.
    """
    obstacles = [
        *([_TEMPLATE.format(quoted(name))] if template else []),
        *attached.keep_from_dropping(conn, name, subscriptions=subscriptions),
    ]
    if len(obstacles) == 1:
        raise Refused(f"cannot drop {name!r}: {obstacles[0]}")
    if obstacles:
        number = report.plural(len(obstacles), "thing")
        raise Refused(f"cannot drop {name!r}: {number} stand in the way", hint="\n".join(obstacles))


def drop(lock: Lock) -> Dropped:
    """Drop the target's database and end its sessions; databases kept for undo stay.

    Raises Refused as `left_to_drop` does.
    """
    decided = left_to_drop(lock)
    if decided.existed:
        drop_plainly(lock.connection, lock.target.database)
    return replace(decided, dry=False)


_TEMPLATE = "it is a template database: ALTER DATABASE {} IS_TEMPLATE false"

_SIZE_AND_SESSIONS = (
    "SELECT CASE WHEN has_database_privilege(d.oid, 'CONNECT')"
    " OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END,"
    # an autovacuum worker has no role
    f" (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND {OTHERS}),"
    " d.datistemplate, pg_get_userbyid(d.datdba) FROM pg_database d WHERE d.datname = %(name)s"
)
