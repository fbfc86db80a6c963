"""The identity of a database: its name, its server, its stamp, whether it is empty."""

from __future__ import annotations

from dataclasses import dataclass

from pgtasks.errors import Refused, Unreachable
from pgtasks.report import typed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.silence import ANSWER
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Identity:
    """The identity of a database, as read from a connection."""

    database: str
    system: str
    user: str
    comment: str
    stamp: Stamp | None
    empty: bool
    standby: bool = False
    invalid: bool = False  # left by an interrupted DROP DATABASE; read from another database
    oid: int = 0  # a database that is renamed keeps it

    @property
    def foreign(self) -> bool:
        """Whether the stamp belongs to another database or another server."""
        stamp = self.stamp
        return stamp is not None and (stamp.database, stamp.system) != (self.database, self.system)


def system_identifier(conn: Connection) -> str:
    """Return the server's system identifier, as `pg_controldata` prints it."""
    query = "SELECT system_identifier::text FROM pg_control_system()"
    return connection.value(conn, query, into=str, limit=ANSWER)


def moment(conn: Connection) -> str:
    """Return the server's time at the beginning of the transaction, in UTC, for a stamp."""
    query = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    return connection.value(conn, query, into=str, limit=ANSWER)


def comment_and_stamp(conn: Connection, database: str) -> tuple[str, Stamp | None]:
    """Return the comment of a database of the server without its stamp, and the stamp."""
    query = f"SELECT {stamp.COMMENT} FROM pg_database WHERE datname = %s"
    comment = connection.row(conn, query, (database,), into=tuple[str | None])
    return stamp.split(comment[0] if comment else None)


def identify(conn: Connection) -> Identity:
    """Read the database, server and stamp of a connection."""
    seen = connection.row(
        conn,
        f"SELECT datname, current_user, {stamp.COMMENT}, pg_is_in_recovery(), oid::bigint"
        " FROM pg_database WHERE datname = current_database()",
        into=tuple[str, str, str | None, bool, int],
        limit=ANSWER,
    )
    if seen is None:
        raise Unreachable("the database was renamed meanwhile")
    database, user, comment, standby, oid = seen
    text, its_stamp = stamp.split(comment)
    system, empty = system_identifier(conn), _is_empty(conn)
    return Identity(database, system, user, text, its_stamp, empty, standby, oid=oid)


def glimpse(conn: Connection, database: str) -> Identity | None:
    """Return the identity of a database, read from another one; None if it does not exist."""
    seen = connection.row(
        conn,
        f"SELECT current_user, {stamp.COMMENT}, pg_is_in_recovery(),"
        " datconnlimit = -2, oid::bigint FROM pg_database WHERE datname = %s",
        (database,),
        into=tuple[str, str | None, bool, bool, int],
        limit=ANSWER,
    )
    if seen is None:
        return None
    user, comment, standby, invalid, oid = seen
    text, its_stamp = stamp.split(comment)
    return Identity(
        database, system_identifier(conn), user, text, its_stamp, True, standby, invalid, oid
    )


def refuse_other(allowed: Identity | None, now: Identity | None, database: str) -> None:
    """Raise Refused if a database is not the one any more that the guard allowed a task to use.

    It may have been dropped, renamed, replaced by another one, or stamped anew meanwhile. None
    stands for a database that does not exist.
    """
    again = "since the guard looked at it: run the task again"
    if now is None and allowed is not None:
        raise Refused(f"database {database!r} was dropped or renamed {again}")
    if now is None:
        return
    if allowed is None:
        raise Refused(f"database {database!r} was created {again}")
    if (now.oid, now.system) != (allowed.oid, allowed.system):
        raise Refused(f"{database!r} is the name of another database {again}")
    if now.stamp != allowed.stamp:
        raise Refused(f"database {database!r} was stamped anew {again}")


# Objects created after initdb have OIDs from 16384 on (FirstNormalObjectId in access/transam.h).
# Objects of extensions and temporary tables of other sessions do not count.
_RELATIONS = """
SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.deptype = 'e')
)
"""
_OTHERS = """
SELECT EXISTS (
    SELECT FROM pg_proc p WHERE p.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
        AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
) OR EXISTS (
    SELECT FROM pg_type t WHERE t.oid >= 16384 AND t.typtype IN ('d', 'e', 'r')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
        AND d.objid = t.oid AND d.deptype = 'e')
) OR EXISTS (
    SELECT FROM pg_foreign_data_wrapper w WHERE w.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_foreign_data_wrapper'::regclass
        AND d.objid = w.oid AND d.deptype = 'e')
) OR EXISTS (SELECT FROM pg_foreign_server) OR EXISTS (SELECT FROM pg_largeobject_metadata)
OR EXISTS (SELECT FROM pg_subscription s JOIN pg_database b ON b.oid = s.subdbid
    WHERE b.datname = current_database())
"""


def _is_empty(conn: Connection) -> bool:
    """Return whether the database has no objects of users."""
    # most have a table: the plan for all that others may have takes longer than to ask again
    return not any(connection.value(conn, query, into=bool) for query in (_RELATIONS, _OTHERS))


def valid(identity: Identity | None, target: Target) -> None:
    """Raise Unreachable for a database that an interrupted DROP left, with the ways out."""
    if identity is not None and identity.invalid:
        raise Unreachable(
            f"{target}: database {target.database!r} is invalid, an interrupted DROP DATABASE left "
            f"it without its content: {typed.task('db.drop')} drops the rest, "
            f"{typed.task('db.restore')} replaces it"
        )


def present(identity: Identity | None, target: Target) -> Identity:
    """Return the identity of a database that must be there, else raise Unreachable."""
    valid(identity, target)
    if identity is None:
        raise Unreachable(
            f"{target}: database {target.database!r} does not exist, "
            f"make it with {typed.task('db.create')}"
        )
    return identity
