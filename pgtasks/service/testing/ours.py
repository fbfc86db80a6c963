"""Tell the databases that tests have made from others of the same name: by owner and stamp."""

from __future__ import annotations

from psycopg2 import sql

from pgtasks.database import drop as drops
from pgtasks.database import side
from pgtasks.errors import Refused
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import system_identifier
from pgtasks.server.stamp import Stamp, comment_statement
from pgtasks.settings.target import Target

_FACTS = (
    "SELECT datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user), datconnlimit = %s,"
    f" {stamp.COMMENT} FROM pg_database WHERE datname = %s"
)


def marking(conn: Connection, target: Target) -> sql.Composed:
    """Return the statements that stamp a database that was made with the limit `side.BEGUN`."""
    mark = Stamp(target.environment, target.database, system_identifier(conn))
    return sql.SQL(";").join(
        [
            sql.SQL("BEGIN"),
            comment_statement(target.database, "", mark),
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(
                sql.Identifier(target.database)
            ),
            sql.SQL("COMMIT"),
        ]
    )


def is_ours(conn: Connection, target: Target) -> bool | None:
    """Return whether tests have made a database, None if it does not exist."""
    facts = connection.row(
        conn, _FACTS, (side.BEGUN, target.database), into=tuple[bool, bool, str | None]
    )
    if facts is None:
        return None
    mine, begun, comment = facts
    text, mark = stamp.split(comment)
    known = mark and (mark.environment, mark.database) == (target.environment, target.database)
    return mine and bool(begun or (known and not text))


def drop(conn: Connection, target: Target) -> None:
    """Drop a database that tests have made, if it exists; raises Refused for another one."""
    ours = is_ours(conn, target)
    if ours is False:
        raise Refused(
            f"database {target.database!r} has the name of one for tests, and was not made by "
            "them: rename or drop it"
        )
    if ours:
        drops.drop_plainly(conn, target.database)
