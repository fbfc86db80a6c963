"""Connections to PostgreSQL: only what the target says, settings pinned, errors in one line.

A session asks questions of ours: it finds names in pg_catalog alone, whatever the role, the
database or the server says, for whoever may create functions in a schema of the role's path could
run them as the role. What runs a user's own files connects with `own_path=True`, as the user's
application would, and is asked questions of ours within `pinned(...)` or with every name,
operator and cast qualified.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from pgtasks.errors import Failed, PgtasksError, Unreachable, VersionMismatch
from pgtasks.secret import redact
from pgtasks.target import Target

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

OLDEST, NEWEST = 14, 18  # majors of servers that are tested

# A database or role may set timeouts of its own: they would end a dump or a snapshot in the middle
# (those that not every server knows are set once it has said which one it is).
_NO_TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
# What names, literals and texts mean; no value has a blank, which options would need escaped.
# pg_temp stands last: unnamed it would come first, for tables and types.
PATH = "pg_catalog,pg_temp"
_PINNED = {
    "search_path": PATH,
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
    "bytea_output": "hex",
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read\\ committed",
    "default_transaction_deferrable": "off",
}
# what a dead line or server is noticed by, on either side
_KEEPALIVE = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
_CLIENT_LOOKED_FOR = "2s"
# SQLSTATEs after which there is no connection: lost, shut down, timed out
_ENDED = ("08", "57P", "25P03", "25P04")
_WAYS_OUT = {
    r"is not currently accepting connections": ": inv db.recover opens it",
    r'database "[^"]*" does not exist': ": inv db.create makes it",
}


class Session(Connection):
    """A connection of ours, which knows its target."""

    target: Target


class Tunnelled(Session):
    """A connection through a tunnel that is served by threads of this process."""

    def cancel(self) -> None:
        """Cancel the statement that runs, from another session.

        libpq's own way holds Python's lock until the server has closed that connection, and the
        tunnel's threads would wait for the lock: for ever.
        """
        known: dict[str, Any] = {**self.info.dsn_parameters, "password": self.info.password}
        with closing(psycopg2.connect(**known)) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (self.info.backend_pid,))


def application_name(purpose: str) -> str:
    """Return the name sessions show in pg_stat_activity: what, pid, who, where (63 bytes)."""
    host = socket.gethostname().split(".")[0]
    name = f"pgtasks {purpose} {os.getpid()} {_user()}@{host}"
    return name.encode("ascii", "replace").decode()[:63]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry, as in a container
        return str(os.getuid())


def conninfo(
    target: Target, *, read_only: bool = False, purpose: str = "", own_path: bool = False
) -> dict[str, str]:
    """Return libpq parameters for the target, each given, so that none is inherited."""
    target = target.here()
    options = [f"-c {name}=0" for name in _NO_TIMEOUTS]
    if not own_path:
        options += [f"-c {name}={setting}" for name, setting in _PINNED.items()]
    # said either way: a role or a database may have a default of its own
    options.append(f"-c default_transaction_read_only={'on' if read_only else 'off'}")
    parameters = {
        **target.parameters,
        **_KEEPALIVE,
        "host": target.host,
        "port": str(target.port),
        "dbname": target.database,
        "user": target.user,
        "client_encoding": "UTF8",
        "application_name": application_name(purpose),
        "options": " ".join(options),
    }
    if target.password is not None:
        parameters["password"] = target.password.reveal()
    elif target.passfile:
        parameters["passfile"] = target.passfile
    return parameters


def connect(
    target: Target, *, read_only: bool = False, purpose: str = "", own_path: bool = False
) -> Connection:
    """Connect in autocommit, raising Unreachable or VersionMismatch; the caller closes.

    `own_path` leaves search_path and what else a user's own files may lean on as the role has it.
    """
    parameters: dict[str, Any] = conninfo(
        target, read_only=read_only, purpose=purpose, own_path=own_path
    )
    try:
        kind = Tunnelled if target.end else Session
        connection: Session = psycopg2.connect(connection_factory=kind, **parameters)
    except psycopg2.Error as exc:
        raise Unreachable(unreachable_line(target, exc)) from None
    connection.target = target
    connection.autocommit = True
    try:
        execute(connection, _settings(connection.server_version))
        _let_go_of_the_dead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _settings(version: int) -> str:
    """Return what a session begins with, raising VersionMismatch for a server that is too old."""
    if version < OLDEST * 10000:
        found = f"{version // 10000}.{version % 10000}"
        raise VersionMismatch(
            f"the server is PostgreSQL {found}, servers {OLDEST} to {NEWEST} are supported"
        )
    since_17 = "SET transaction_timeout = 0" if version >= 170000 else ""
    return f"SET idle_session_timeout = 0; {since_17}"


def _let_go_of_the_dead(connection: Connection) -> None:
    """Let the server end a statement whose client is gone, where its system can tell (Linux)."""
    try:
        execute(connection, f"SET client_connection_check_interval = {_CLIENT_LOOKED_FOR!r}")
    except Failed:
        pass  # the statement then goes on to its end, and its work is rolled back


def unreachable_line(target: Target, exc: Exception) -> str:
    """Return libpq's own words in one line, the password left out; on a tunnel's fault that."""
    if target.place and target.place.fault:
        return f"{target}: {target.place.fault}"
    words = " ".join(redact(str(exc), target.password).split())
    # of several addresses tried, the last attempt says what the user can act on
    words = words.split("connection to server ")[-1]
    if words.startswith(("on socket", "at ")):
        words = "connection to server " + words
    way_out = next((way for sign, way in _WAYS_OUT.items() if re.search(sign, words)), "")
    return f"{target}: {words}{way_out}"


@contextmanager
def session(
    target: Target, *, read_only: bool = False, purpose: str = "", own_path: bool = False
) -> Iterator[Connection]:
    """Connect for the length of a block, as `connect` does."""
    connection = connect(target, read_only=read_only, purpose=purpose, own_path=own_path)
    try:
        yield connection
    finally:
        connection.close()


def own_path(connection: Connection) -> str:
    """Return the search_path that the role has in this database, whatever the session's is.

    Asked in a session that pins nothing: only the server knows all places that set it.
    """
    assert isinstance(connection, Session)
    with session(connection.target, read_only=True, purpose="path", own_path=True) as plain:
        return str(value(plain, "SHOW search_path"))


@contextmanager
def searching(connection: Connection, path: str) -> Iterator[None]:
    """Search for names along another path, for the length of a block that does not fail."""
    before = value(connection, "SHOW search_path")
    change = "SELECT pg_catalog.set_config('search_path', %s, false)"
    execute(connection, change, (path,))
    yield
    execute(connection, change, (before,))


def pinned(connection: Connection) -> AbstractContextManager[None]:
    """Search for names in pg_catalog alone, for questions of ours in a session of a user's own."""
    return searching(connection, PATH)


Statement = str | sql.Composable
Parameters = Sequence[Any] | Mapping[str, Any] | None


def execute(connection: Connection, statement: Statement, parameters: Parameters = None) -> None:
    """Run one statement, raising Failed with the server's words."""
    with translated(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def rows(
    connection: Connection, statement: Statement, parameters: Parameters = None
) -> list[tuple[Any, ...]]:
    """Return all rows of one query."""
    with translated(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def value(connection: Connection, statement: Statement, parameters: Parameters = None) -> Any:
    """Return the first column of the first row, None where there is no row."""
    found = rows(connection, statement, parameters)
    return found[0][0] if found else None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours: a lost server is Unreachable, the rest Failed."""
    try:
        yield
    except psycopg2.Error as exc:
        raise translate(exc) from None


def translate(exc: psycopg2.Error) -> PgtasksError:
    """Return our error for one of the driver's, its first line as the message.

    One that the driver raises about its own use is a bug of ours, and raised as it is.
    """
    if exc.pgcode is None and isinstance(exc, psycopg2.ProgrammingError):
        raise exc
    words = str(exc).strip() or exc.__class__.__name__
    first, _, rest = redact(words).partition("\n")
    if exc.pgcode is None or exc.pgcode.startswith(_ENDED):
        return Unreachable(f"the server ended the connection: {first}", hint=rest)
    return Failed(first[:1].lower() + first[1:] if first.startswith("ERROR") else first, hint=rest)
