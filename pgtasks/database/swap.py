"""The swap: both renames and the statements that belong to them, in one statement string.

RENAME locks a database, makes new sessions wait, and waits up to 5 s for the existing sessions to
end. The string is sent to the server as a whole, on the connection that holds the lock, while a
second connection ends sessions until it returns. Nothing is committed before its end: a kill at
any moment leaves the old names or the new ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg2
from psycopg2 import sql

from pgtasks.database import properties
from pgtasks.database.ending import SessionEnder
from pgtasks.database.properties import DatabaseProperties
from pgtasks.database.side import Side, side_name
from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable
from pgtasks.report import typed
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.server.identity import glimpse, refuse_other, system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

_PATIENCE = 10.0  # seconds for a session whose connection is lost to end
_SESSION = "SELECT pid FROM pg_stat_activity WHERE pid = %s"
_COMMENT = f"SELECT {stamp.COMMENT} FROM pg_database WHERE datname = %s"


@dataclass(frozen=True)
class Swapped:
    """The result of a swap: the kept database (empty if nothing was replaced) and the seconds."""

    kept: str
    seconds: float


def swap_in(
    lock: Lock, target: Target, side: str, mark: Stamp, *, facts: DatabaseProperties, replaces: bool
) -> Swapped:
    """Give the side database the target's name; keep the replaced one as NAME__old_ID.

    `facts` are the properties of the target (or the saved ones of a lost database), `mark` is its
    new stamp.
    """
    kept = side_name(target.database, "old", mark.run) if replaces else ""
    live = replace(mark, role="live", run="", kept_owner=_kept_owner(lock, target, facts.owner))
    statements = [
        *(_put_away(lock, target, kept, mark.run) if replaces else ()),
        _rename(side, target.database),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            sql.Identifier(target.database), sql.Literal(facts.connection_limit)
        ),
        *properties.late_statements(target.database, facts),
        stamp.comment_statement(target.database, facts.comment, live),
    ]
    names = (target.database, side) if replaces else (side,)
    return Swapped(kept, _run(lock, names, statements))


def swap_back(lock: Lock, target: Target, kept: Side, run: str, *, replaces: bool) -> Swapped:
    """Give a kept database its name back; keep the current one under the ID `run`."""
    away = side_name(target.database, "old", run) if replaces else ""
    mark = _live_mark(lock, target, kept)
    statements = [
        *(_put_away(lock, target, away, run) if replaces else ()),
        _rename(kept.name, target.database),
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(target.database)),
        stamp.comment_statement(target.database, kept.text, mark),
    ]
    names = (target.database, kept.name) if replaces else (kept.name,)
    return Swapped(away, _run(lock, names, statements))


def _live_mark(lock: Lock, target: Target, kept: Side) -> Stamp:
    owner = _kept_owner(lock, target, kept.owner)
    if kept.stamp is not None:
        # if nothing is replaced, its note on another database stays true
        owner = owner or kept.stamp.kept_owner
        return replace(kept.stamp, role="live", run="", clone="", kept_owner=owner)
    system = system_identifier(lock.connection)
    return Stamp(target.environment, target.database, system, kept_owner=owner)


def _kept_owner(lock: Lock, target: Target, owner: str) -> str:
    """Return the owner of the replaced target, if it is not `owner`."""
    replaced = properties.owner(lock.connection, target.database)
    return "" if replaced == owner else replaced


def _put_away(lock: Lock, target: Target, kept: str, run: str) -> list[sql.Composable]:
    """Return the statements that turn the target into a kept database, closed and stamped.

    Raises Refused if it is not the database that the guard allowed to be replaced.
    """
    comment = connection.row(lock.connection, _COMMENT, (target.database,), into=tuple[str | None])
    now = glimpse(lock.connection, target.database)
    if now is None or comment is None:
        raise Failed(f"database {target.database!r} was dropped or renamed meanwhile")
    if lock.allowed is not None:
        refuse_other(lock.allowed, now, target.database)
    mark = now.stamp or Stamp(target.environment, target.database, now.system)
    mark = replace(mark, database=target.database, system=now.system, role="old", run=run)
    return [
        _rename(target.database, kept),
        _still(kept, now.oid, comment[0]),
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(kept)),
        stamp.comment_statement(kept, now.comment, mark),
    ]


def _still(name: str, oid: int, comment: str | None) -> sql.Composed:
    """Return the statement that divides by zero if a database has another OID or comment.

    Nobody can change them any more: RENAME has locked the database.
    """
    return sql.SQL(
        f"SELECT 1 / count(*) FROM pg_database WHERE datname = {{}} AND oid = {{}}"
        f" AND {stamp.COMMENT} IS NOT DISTINCT FROM {{}}"
    ).format(sql.Literal(name), sql.Literal(oid), sql.Literal(comment))


def _rename(before: str, after: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
        sql.Identifier(before), sql.Identifier(after)
    )


def _run(lock: Lock, names: Sequence[str], statements: Sequence[sql.Composable]) -> float:
    """Send the string and return its seconds; if it raises Failed, nothing has changed.

    Raises Unreachable if the connection is lost, and the swap done all the same or its end unknown.
    """
    conn = lock.connection
    query = "SELECT oid FROM pg_database WHERE datname = ANY(%s)"
    oids = connection.rows(conn, query, (list(names),), into=int)
    before, pid = _named(conn, oids), conn.info.backend_pid
    text = sql.SQL(";\n").join(
        [
            sql.SQL("BEGIN"),
            # the transaction of a lost client must not keep the names locked
            sql.SQL("SET LOCAL idle_in_transaction_session_timeout = '5s'"),
            *statements,
            sql.SQL("COMMIT"),
        ]
    )
    with SessionEnder(lock.target, oids) as ender:
        boundary("swap.ready")
        began = time.monotonic()
        try:
            _execute(conn, lock.target, text)
        except Refused:
            _roll_back(conn)
            raise
        except PgtasksError as exc:
            _roll_back(conn)
            if conn.closed:  # the answer to COMMIT may be what was lost
                _refuse_done(lock, pid, before, exc)
            raise _rolled_back(exc, ender.fault) from None
        seconds = time.monotonic() - began
    boundary("swap.done")
    return seconds


def _named(conn: Connection, oids: Sequence[int]) -> Mapping[int, str]:
    query = "SELECT oid, datname FROM pg_database WHERE oid = ANY(%s)"
    return dict(connection.rows(conn, query, (list(oids),), into=tuple[int, str]))


def _refuse_done(lock: Lock, pid: int, before: Mapping[int, str], exc: PgtasksError) -> None:
    """Raise Unreachable unless another session sees that the session has ended and changed nothing.

    A server goes on with a string that it has, whatever happens to who sent it.
    """
    target = lock.target
    check, undo = typed.task("db.check"), typed.task("db.undo")
    unknown = f"whether {target.database!r} was replaced is unknown, {check} says what there is"
    try:
        with connection.session(target.at(target.maintenance), purpose="swap") as conn:
            deadline = time.monotonic() + _PATIENCE
            while connection.row(conn, _SESSION, (pid,), into=int):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            else:
                if _named(conn, list(before)) == before:
                    return
                unknown = f"the swap is done all the same, {undo} takes it back"
    except PgtasksError:
        pass  # it cannot be reached
    raise Unreachable(f"the connection was lost during the swap, {unknown}", hint=exc.message)


def _execute(conn: Connection, target: Target, text: sql.Composed) -> None:
    with translated(), conn.cursor() as cursor:
        try:
            cursor.execute(text)
        except psycopg2.errors.DivisionByZero:  # of _still
            raise Refused(
                f"database {target.database!r} was replaced or stamped anew since the swap began: "
                "run the task again"
            ) from None


def _rolled_back(exc: PgtasksError, fault: PgtasksError | None) -> PgtasksError:
    """Return the error of a swap with that of ending the sessions."""
    failure = Failed(f"the swap was rolled back, everything is as before: {exc.message}")
    failure.hint = "\n".join(filter(None, [exc.hint, fault.message if fault else ""]))
    return failure


def _roll_back(conn: Connection) -> None:
    try:
        conn.rollback()
        with conn.cursor() as cursor:
            cursor.execute("ROLLBACK")
    except psycopg2.Error:
        pass  # the connection is lost, and its transaction rolled back
