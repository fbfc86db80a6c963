"""A login of a load's own, where a superuser restores for a plain owner.

SET ROLE in a superuser's session holds nothing: what the backup's source wrote could set it back.
So the load's sessions log in as a role that was made for them, a member of the owner and no more.
The loaded code can be that role, and log in as it elsewhere: so the proof has another one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.report import typed
from pgtasks.server import connection, lock
from pgtasks.server.connection import Connection
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

# The comment of a login of ours: a name alone is no identity. Who may comment on another's role
# (CREATEROLE with ADMIN OPTION, or a superuser) may drop that role himself.
MARK = "pgtasks: login of a restore"
_OWNS = (
    "it owns something and can be anything else no more: REASSIGN OWNED BY or DROP OWNED BY in the "
    "database where that is, then"
)


def _drops() -> str:
    return f"{typed.task('db.recover')} drops it"


class NoLogin(Failed):
    """Report a server that does not let such a role in."""


def name(database: str, run: str) -> str:
    """Return how the names of the logins of one run on one database begin."""
    return f"{_start(database)}{run}"


def _start(database: str) -> str:
    return f"pgtasks_load_{lock.key(database):08x}_"


@contextmanager
def login(
    conn: Connection,
    target: Target,
    side: str,
    run: str,
    owner: str,
    *,
    say: Callable[[str], None],
    reads_all: bool = False,
) -> Iterator[Target]:
    """Make a login that may do what `owner` may, for the length of a block.

    What is yielded is the target as it reaches it. With `reads_all` row policies hide nothing from
    it, where the connecting role may give that: for a proof, never while rows are loaded. Raises
    NoLogin where it cannot be made or the server does not let it in, such as by peer
    authentication alone.
    """
    role, password = _name(target.database, run), secrets.token_urlsafe(24)
    # the server and its log see a verifier, as psql's \password sends it
    verifier = encrypt_password(password, role, conn, "scram-sha-256")
    _make(conn, role, verifier, owner, reads_all=reads_all)
    try:
        found = replace(
            target, user=role, password=Secret(password), passfile="", password_command=""
        )
        try:
            connection.connect(found.at(side), purpose="db.restore").close()
        except Unreachable as exc:
            raise NoLogin(exc.message) from None
        yield found
    except BaseException:
        with suppress(PgtasksError):  # a lost server is no news here; the next run drops it
            _dropped(conn, role, say)
        raise
    _dropped(conn, role, say)


def _name(database: str, run: str) -> str:
    # one run makes several, and one that could not be dropped keeps its name
    return f"{name(database, run)}{secrets.token_hex(2)}"


def _make(conn: Connection, role: str, verifier: str, owner: str, *, reads_all: bool) -> None:
    attempts = [" BYPASSRLS", ""] if reads_all else [""]
    while attempts:
        try:
            connection.execute(conn, _statements(role, verifier, owner, attempts.pop(0)))
        except Failed as exc:
            if not attempts:
                raise NoLogin(exc.message) from None
        else:
            return


def _statements(role: str, verifier: str, owner: str, attribute: str) -> sql.Composed:
    # both or none: one statement list, one transaction. Who makes it is a member of it, so that no
    # other right is needed to end its sessions.
    return sql.SQL(
        "CREATE ROLE {0} LOGIN{1} PASSWORD {2} IN ROLE {3} ROLE CURRENT_USER;"
        " COMMENT ON ROLE {0} IS {4}"
    ).format(
        sql.Identifier(role),
        sql.SQL(attribute),
        sql.Literal(verifier),
        sql.Identifier(owner),
        sql.Literal(MARK),
    )


def _dropped(conn: Connection, role: str, say: Callable[[str], None]) -> None:
    if not drop(conn, role):
        say(f"warning: left role {role!r}, the login of this restore: {_OWNS} {_drops()}")


def drop(conn: Connection, role: str) -> bool:
    """Drop a login, its sessions first, and return whether it is gone.

    What a backup ran can have made it an owner of something, and can have logged in as it. One that
    cannot be dropped has no rights and no way in any more.
    """
    found = connection.rows(
        conn, "SELECT oid, rolbypassrls FROM pg_roles WHERE rolname = %s", (role,)
    )
    for oid, reads_all in found:
        connection.execute(conn, _closing(conn, role, oid, reads_all=reads_all))
        with suppress(Failed):  # without the role they have no rights
            connection.execute(
                conn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = %s",
                (oid,),
            )
    try:
        connection.execute(conn, sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
    except Failed:
        return False
    return True


def _closing(conn: Connection, role: str, oid: int, *, reads_all: bool) -> sql.Composed:
    """Return what takes a login all that it has."""
    identifier = sql.Identifier(role)
    groups = connection.rows(
        conn,
        "SELECT DISTINCT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        " WHERE m.member = %s",
        (oid,),
    )
    # who may not give BYPASSRLS may not name it either
    no_more = sql.SQL("NOLOGIN PASSWORD NULL" + (" NOBYPASSRLS" if reads_all else ""))
    statements = [sql.SQL("ALTER ROLE {} {}").format(identifier, no_more)]
    statements += [
        sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), identifier)
        for (group,) in groups
    ]
    return sql.SQL("; ").join(statements)


def left(conn: Connection, database: str) -> list[str]:
    """Return the logins that runs on a database left; where the lock is held, all of them."""
    found = connection.rows(
        conn,
        "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
        " AND shobj_description(oid, 'pg_authid') = %s",
        (_start(database), MARK),
    )
    return [role for (role,) in found if re.fullmatch(r".*_[0-9]{12}([0-9a-f]{2}){1,3}", role)]


def heal(conn: Connection, database: str) -> list[str]:
    """Drop what killed runs left, and return what was done; what may not be dropped is named."""
    return [_healed(conn, role) for role in left(conn, database)]


def _healed(conn: Connection, role: str) -> str:
    what = f"role {role!r}, the login of a restore that was interrupted"
    try:
        gone = drop(conn, role)
    except Failed as exc:
        return f"left {what}: {exc.message}"
    if gone:
        return f"dropped {what}"
    return f"left {what}: {_OWNS} {_drops()}"
