"""Create a login role for a load, if a superuser restores for a plain owner.

SET ROLE in a superuser's session does not protect: code in the backup could reset it. So the
sessions of the load log in as a role that is created for them, a member of the owner only. The
loaded code runs as that role, and can open other sessions as it, so the proof uses another role.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable
from pgtasks.report import typed
from pgtasks.server import connection, lock
from pgtasks.server.connection import Connection
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

# The comment of our login roles, because a name proves nothing. A role that may comment on another
# role (CREATEROLE with ADMIN OPTION, or a superuser) may also drop it.
MARK = "pgtasks: login of a restore"
_OWNS = (
    "it owns something and can be anything else no more: REASSIGN OWNED BY or DROP OWNED BY in the "
    "database where that is, then"
)


def _drops() -> str:
    return f"{typed.task('db.recover')} drops it"


class RoleDenied(Failed):
    """The role cannot be created, or cannot connect."""


def name(database: str, run: str) -> str:
    """Return the beginning of the login names of one run on one database."""
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
    """Create a login with the rights of `owner` for the length of a block.

    Yields the target with that login. With `reads_all`, row policies do not apply to it, if the
    connecting role may grant that: for a proof, never while rows are loaded. Raises RoleDenied if
    the role cannot be created or cannot connect, for example with peer authentication only.
    """
    role, password = _name(target.database, run), secrets.token_urlsafe(24)
    # the server and its log see only a verifier, as with psql's \password
    verifier = encrypt_password(password, role, conn, "scram-sha-256")
    _make(conn, role, verifier, owner, reads_all=reads_all)
    try:
        login_target = replace(
            target, user=role, password=Secret(password), passfile="", password_command=""
        )
        try:
            connection.connect(login_target.at(side), purpose="db.restore").close()
        except Unreachable as exc:
            raise RoleDenied(exc.message) from None
        yield login_target
    except BaseException:
        with suppress(PgtasksError):  # if the server is lost, the next run drops the role
            _dropped(conn, role, say)
        raise
    _dropped(conn, role, say)


@contextmanager
def login_or_refuse(
    conn: Connection,
    target: Target,
    side: str,
    run: str,
    owner: str,
    *,
    say: Callable[[str], None],
    reads_all: bool = False,
) -> Iterator[Target]:
    """Create a login as `login` does, raising Refused with the ways out if that is impossible."""
    with ExitStack() as stack:
        try:
            entered = stack.enter_context(
                login(conn, target, side, run, owner, say=say, reads_all=reads_all)
            )
        except RoleDenied as exc:
            # never with SET ROLE: code that makes the login fail would get a session of this role
            raise Refused(
                f"a load as {owner!r} alone needs a way in for a role of its own "
                f"({exc.message}): connect as {owner!r} itself (`user`), have "
                "pg_hba.conf take a password for such a role, or let the load have the rights of "
                "a superuser with --as-superuser"
            ) from None
        yield entered


def _name(database: str, run: str) -> str:
    # one run creates several, and a role that could not be dropped keeps its name
    return f"{name(database, run)}{secrets.token_hex(2)}"


def _make(conn: Connection, role: str, verifier: str, owner: str, *, reads_all: bool) -> None:
    attempts = [" BYPASSRLS", ""] if reads_all else [""]
    while attempts:
        try:
            connection.execute(conn, _statements(role, verifier, owner, attempts.pop(0)))
        except Failed as exc:
            if not attempts:
                raise RoleDenied(exc.message) from None
        else:
            return


def _statements(role: str, verifier: str, owner: str, attribute: str) -> sql.Composed:
    # both or none, in one transaction. The creating role is a member of the login, so that it needs
    # no other right to end the sessions of the login.
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
    """End the sessions of a login and drop it; return whether it was dropped.

    Code of a backup can have created objects that it owns, and can have logged in as it. A login
    that cannot be dropped loses its rights and its right to log in.
    """
    rows = connection.rows(
        conn,
        "SELECT oid, rolbypassrls FROM pg_roles WHERE rolname = %s",
        (role,),
        into=tuple[int, bool],
    )
    for oid, reads_all in rows:
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
    """Return the statements that take all rights from a login."""
    identifier = sql.Identifier(role)
    groups = connection.rows(
        conn,
        "SELECT DISTINCT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        " WHERE m.member = %s",
        (oid,),
        into=str,
    )
    # a role that may not grant BYPASSRLS may not name it either
    no_more = sql.SQL("NOLOGIN PASSWORD NULL" + (" NOBYPASSRLS" if reads_all else ""))
    statements = [sql.SQL("ALTER ROLE {} {}").format(identifier, no_more)]
    statements += [
        sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), identifier) for group in groups
    ]
    return sql.SQL("; ").join(statements)


def left(conn: Connection, database: str) -> list[str]:
    """Return the logins that runs on a database left, if the caller holds the lock."""
    roles = connection.rows(
        conn,
        "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
        " AND shobj_description(oid, 'pg_authid') = %s",
        (_start(database), MARK),
        into=str,
    )
    return [role for role in roles if re.fullmatch(r".*_[0-9]{12}([0-9a-f]{2}){1,3}", role)]


def heal(conn: Connection, database: str) -> list[str]:
    """Drop the logins of killed runs; return a line for each, also for those that stay."""
    return [_healed(conn, role) for role in left(conn, database)]


def _healed(conn: Connection, role: str) -> str:
    description = f"role {role!r}, the login of a restore that was interrupted"
    try:
        is_dropped = drop(conn, role)
    except Failed as exc:
        return f"left {description}: {exc.message}"
    if is_dropped:
        return f"dropped {description}"
    return f"left {description}: {_OWNS} {_drops()}"
