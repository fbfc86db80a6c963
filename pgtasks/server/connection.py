"""Connections to PostgreSQL, with only the target's parameters, pinned settings and plain errors.

A session looks up names in pg_catalog only, whatever search_path the role, the database or the
server sets: otherwise a role that may create functions in a schema of that path could run code as
our role. Sessions for a user's own files use `own_path=True`, as the user's application would. Our
own queries in such a session run within `pinned(...)`, or with every name, operator and cast
qualified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, overload

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from pgtasks.errors import Failed, Refused, Unreachable
from pgtasks.host import peer
from pgtasks.report import account
from pgtasks.server import errors
from pgtasks.server import session as sessions
from pgtasks.server.opening import admitted, opened
from pgtasks.server.records import Record, records
from pgtasks.server.session import Session
from pgtasks.server.silence import ANSWER
from pgtasks.settings import libpq
from pgtasks.settings.target import REQUIREPEER, Target

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor
PATH = sessions.PATH

# to detect a lost connection or server, on both sides
_KEEPALIVE = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
_REQUIRE_AUTH = 160000  # first version of libpq that supports it
_POOLED = (
    "the settings that a session begins with are not in force: a connection pooler (PgBouncer?) may"
    " be in between, name the server itself in `host` and `port`"
)
_NO_EVENT_TRIGGERS = " -c event_triggers=off"
# Whether a role may switch event triggers off, by address and role: the login of a role that may
# not would fail with that option. This is known after the first session, which is in the
# maintenance database.
_switches_off: dict[tuple[str, int, str], bool] = {}
# A database or role may have a timeout that ends our session before we can SET it. Servers below 17
# refuse a session that names it, so this is known after the first one.
_TRANSACTIONS_TIME_OUT = 170000
_NO_TRANSACTION_TIMEOUT = " -c transaction_timeout=0"
_time_out: set[tuple[str, int]] = set()


def conninfo(
    target: Target, *, read_only: bool = False, purpose: str = "", own_path: bool = False
) -> dict[str, str]:
    """Return libpq parameters for the target, all of them set, so that none is inherited."""
    known = peer.trusted(target)
    target = known.here()
    options = sessions.options(
        read_only=read_only,
        own_path=own_path,
        event_triggers=own_path or not switches_event_triggers_off(target),
        role=target.role,
        secrets=target.secrets,
    )
    parameters = {
        **(libpq.reading(target.parameters) if read_only else target.parameters),
        **_KEEPALIVE,
        "host": target.host,
        "port": str(target.port),
        "dbname": target.database,
        "user": target.user,
        "client_encoding": "UTF8",
        "application_name": account.application_name(purpose),
        "options": " ".join(filter(None, (target.parameters.get("options"), options)))
        + _without_timeout(target),
    }
    if (
        known.end
        and REQUIREPEER in known.parameters
        and psycopg2.extensions.libpq_version() >= _REQUIRE_AUTH
    ):
        # the socket could be replaced between the check and the connection
        parameters.setdefault("require_auth", "!password")
    if target.password is not None:
        parameters["password"] = target.password.reveal()
    elif target.passfile:
        parameters["passfile"] = target.passfile
    return parameters


def connect(
    target: Target, *, read_only: bool = False, purpose: str = "", own_path: bool = False
) -> Connection:
    """Connect in autocommit mode, raising Unreachable or VersionMismatch; the caller closes.

    `own_path` keeps the role's own search_path, and other settings that a user's files may need.
    """
    known = _server(target) in _time_out
    connection = _opened(target, read_only=read_only, purpose=purpose, own_path=own_path)
    connection.target, connection.tunnelled = target, target.end is not None
    if connection.server_version >= _TRANSACTIONS_TIME_OUT:
        _time_out.add(_server(target))
    connection.autocommit = True
    try:
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.keep_odd_bytes()
        path, reads_only, connection.pid, may_switch = _begun(connection, own_path=own_path)
    except BaseException as exc:
        connection.close()
        if type(exc) is Unreachable and not known and _server(target) in _time_out:
            return connect(target, read_only=read_only, purpose=purpose, own_path=own_path)
        raise
    if reads_only != ("on" if read_only else "off") or not (own_path or path == PATH):
        connection.close()
        raise Refused(f"{target}: {_POOLED}")
    _switches_off[_address(target)] = may_switch
    return connection


def _opened(target: Target, *, read_only: bool, purpose: str, own_path: bool) -> Session:
    parameters: dict[str, Any] = conninfo(
        target, read_only=read_only, purpose=purpose, own_path=own_path
    )
    try:
        return admitted(make_dsn(**parameters))
    except psycopg2.Error as exc:
        if "unsupported startup parameter" in str(exc):
            raise Refused(f"{target}: {_POOLED}") from None
        if _learned(target, str(exc)):
            return _opened(target, read_only=read_only, purpose=purpose, own_path=own_path)
        if "CONTEXT:" in str(exc) and not own_path:  # a function ran at the login
            parameters["options"] += _NO_EVENT_TRIGGERS
            with suppress(psycopg2.Error):
                return opened(make_dsn(**parameters))
        raise Unreachable(errors.unreachable(target, exc)) from None


def _begun(connection: Connection, *, own_path: bool) -> tuple[Any, ...]:
    version = connection.server_version
    try:
        return rows(connection, sessions.begin(version, own_path=own_path), limit=ANSWER)[0]
    except Failed:  # the statement of a lost client then runs to its end, and is rolled back
        statement = sessions.begin(version, own_path=own_path, look_for_client=False)
        return rows(connection, statement, limit=ANSWER)[0]


def _learned(target: Target, words: str) -> bool:
    """Return whether the error of a login says that a session must, or must not, name a timeout."""
    server = _server(target)
    if server in _time_out and 'parameter "transaction_timeout"' in words:
        _time_out.remove(server)  # another one is there now
        return True
    if server not in _time_out and "transaction timeout" in words:
        _time_out.add(server)
        return True
    return False


def _without_timeout(target: Target) -> str:
    return _NO_TRANSACTION_TIMEOUT if _server(target) in _time_out else ""


def _server(target: Target) -> tuple[str, int]:
    place = target.here()
    return place.host, place.port


def _address(target: Target) -> tuple[str, int, str]:
    place = target.here()
    return place.host, place.port, place.user


def switches_event_triggers_off(target: Target) -> bool:
    """Return whether the target's role may switch event triggers off (17 and later)."""
    return _switches_off.get(_address(target), False)


def of_programs(target: Target) -> str:
    """Return the PGOPTIONS, after a space, of programs that read or load a database.

    The settings of the role and the database do not change what they do, and event triggers do not
    fire if the role may switch them off.
    """
    off = _NO_EVENT_TRIGGERS if switches_event_triggers_off(target) else ""
    return f" {sessions.joined(sessions.OF_PROGRAMS)}{off}{_without_timeout(target)}"


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


def another(
    connection: Connection, *, read_only: bool = False, purpose: str = ""
) -> AbstractContextManager[Connection]:
    """Open one more session as the same role in the same database, for the length of a block."""
    assert isinstance(connection, Session)
    return session(connection.target, read_only=read_only, purpose=purpose)


def watched(connection: Connection) -> AbstractContextManager[None]:
    """Watch what is sent to the server in a block, raising SessionLost if it stops answering."""
    assert isinstance(connection, Session)
    return connection.watched()


def renew(connection: Connection) -> None:
    """Put back the settings and the role that a session with `own_path` began with."""
    begin = sessions.begin(connection.server_version, own_path=True, look_for_client=False)
    execute(connection, f"RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; {begin}")


def rename(connection: Connection, purpose: str) -> None:
    """Change the application_name of a session to another purpose."""
    name = account.application_name(purpose)
    value(connection, "SELECT set_config('application_name', %s, false)", (name,), limit=ANSWER)


def own_path(connection: Connection) -> str:
    """Return the role's own search_path in this database, not that of the session.

    This opens a session without pinned settings, because only the server knows all of its sources.
    """
    assert isinstance(connection, Session)
    with session(connection.target, read_only=True, purpose="path", own_path=True) as plain:
        return value(plain, "SHOW search_path", into=str)


@contextmanager
def searching(connection: Connection, path: str) -> Iterator[None]:
    """Use another search_path for the length of a block."""
    before = value(connection, "SHOW search_path", into=str)
    change = "SELECT pg_catalog.set_config('search_path', %s, false)"
    execute(connection, change, (path,))
    yield
    execute(connection, change, (before,))


def pinned(connection: Connection) -> AbstractContextManager[None]:
    """Look names up in pg_catalog only, for our own queries in a session with `own_path`."""
    return searching(connection, PATH)


Statement = str | sql.Composable
Parameters = Sequence[Any] | Mapping[str, Any] | None


def execute(connection: Connection, statement: Statement, parameters: Parameters = None) -> None:
    """Run one statement, raising Failed with the server's message.

    It may run as long as the server is alive, which `silence` checks.
    """
    with errors.translated(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@overload
def rows(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    into: type[Record],
    limit: float | None = None,
) -> list[Record]: ...
@overload
def rows(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    limit: float | None = None,
) -> list[tuple[Any, ...]]: ...
def rows(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    into: type[Any] | None = None,
    limit: float | None = None,
) -> list[Any]:
    """Return all rows of one query, raising Unreachable after `limit` seconds.

    `into` is the type of a row: a dataclass with the columns as attributes, a `tuple[int, str]`, or
    the type of the only column. `limit=ANSWER` is for queries that are short on a database of any
    size. Without a limit, a query may run as long as the server is alive.
    """
    with errors.translated(), connection.cursor() as cursor:
        if isinstance(cursor, sessions.Cursor):
            cursor.limit = limit
        cursor.execute(statement, parameters)
        fetched = _fetched(connection, cursor)
        return (
            fetched
            if into is None
            else records(fetched, [column.name for column in cursor.description or ()], into)
        )


def _fetched(connection: Connection, cursor: Cursor) -> list[tuple[Any, ...]]:
    try:
        return cursor.fetchall()
    except UnicodeDecodeError:
        if not isinstance(connection, Session):
            raise
        connection.keep_odd_bytes()
        cursor.scroll(0, mode="absolute")
        return cursor.fetchall()


def row(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    into: type[Record],
    limit: float | None = None,
) -> Record | None:
    """Return the first row, or None, as `rows` does."""
    return next(iter(rows(connection, statement, parameters, into=into, limit=limit)), None)


@overload
def value(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    into: type[Record],
    limit: float | None = None,
) -> Record: ...
@overload
def value(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    limit: float | None = None,
) -> object: ...
def value(
    connection: Connection,
    statement: Statement,
    parameters: Parameters = None,
    *,
    into: type[Any] | None = None,
    limit: float | None = None,
) -> Any:
    """Return the only column of the only row, raising Failed if it is not of the type `into`.

    Without `into` it returns the first column of the first row, or None. For a row that may be
    missing there is `row`.
    """
    if into is not None:
        (only,) = rows(connection, statement, parameters, into=into, limit=limit)
        return only
    fetched = rows(connection, statement, parameters, limit=limit)
    return fetched[0][0] if fetched else None
