"""A login of a load's own, where a superuser restores for a plain owner.

SET ROLE in a superuser's session holds nothing: what the backup's source wrote could set it back.
So the load's sessions log in as a role that was made for them, a member of the owner and no more.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from pgtasks import connection, lock
from pgtasks.connection import Connection
from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.secret import Secret
from pgtasks.target import Target

# The comment of a login of ours: a name alone is no identity. Who may comment on another's role
# (CREATEROLE with ADMIN OPTION, or a superuser) may drop that role himself.
MARK = "pgtasks: login of a restore"


class NoLogin(Failed):
    """Report a server that does not let such a role in."""


def name(database: str, run: str) -> str:
    """Return the name of the login of one run on one database."""
    return f"{_start(database)}{run}"


def _start(database: str) -> str:
    return f"pgtasks_load_{lock.key(database):08x}_"


@contextmanager
def login(conn: Connection, target: Target, side: str, run: str, owner: str) -> Iterator[Target]:
    """Make a login that may do what `owner` may, for the length of a block.

    What is yielded is the target as it reaches it. Raises NoLogin where the server has no way in
    for it, such as peer authentication alone.
    """
    role, password = name(target.database, run), secrets.token_urlsafe(24)
    # the server and its log see a verifier, as psql's \password sends it
    verifier = encrypt_password(password, role, conn, "scram-sha-256")
    try:
        connection.execute(conn, _statements(role, verifier, owner))
    except Failed as exc:
        raise NoLogin(exc.message) from None
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
            drop(conn, role)
        raise
    drop(conn, role)


def _statements(role: str, verifier: str, owner: str) -> sql.Composed:
    # both or none: one statement list, one transaction; BYPASSRLS for the proof alone: the load
    # sets the owner's role, which has its own
    return sql.SQL(
        "CREATE ROLE {0} LOGIN BYPASSRLS PASSWORD {1} IN ROLE {2}; COMMENT ON ROLE {0} IS {3}"
    ).format(sql.Identifier(role), sql.Literal(verifier), sql.Identifier(owner), sql.Literal(MARK))


def drop(conn: Connection, role: str) -> bool:
    """Drop a login and return whether it is gone; one that owns something may log in no more.

    What a backup ran can have made it an owner.
    """
    identifier = sql.Identifier(role)
    try:
        connection.execute(conn, sql.SQL("DROP ROLE IF EXISTS {}").format(identifier))
    except Failed:
        connection.execute(conn, sql.SQL("ALTER ROLE {} NOLOGIN").format(identifier))
        return False
    return True


def left(conn: Connection, database: str) -> list[str]:
    """Return the logins that killed runs on a database left; the lock is held, so all of them."""
    found = connection.rows(
        conn,
        "SELECT rolname FROM pg_roles WHERE rolcanlogin AND starts_with(rolname, %s)"
        " AND shobj_description(oid, 'pg_authid') = %s",
        (_start(database), MARK),
    )
    return [role for (role,) in found if re.fullmatch(r".*_[0-9]{12}[0-9a-f]{2}", role)]


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
    return f"left {what}: it owns something and may log in no more"
