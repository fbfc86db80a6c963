"""What stops a database from being built on a server and put in the place of another.

Each function takes a connection to any database of the server, and yields one line for each
obstacle, with the way out. Nothing is changed: what cannot be read is tried and rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from psycopg2 import sql

from pgtasks import report
from pgtasks.database import attached, properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed, Refused
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target

_CREATOR = (
    "SELECT rolname AS name, rolcreatedb OR rolsuper AS may_create,"
    " to_regrole(quote_ident(%s)) IS NULL"
    " OR pg_has_role(to_regrole(quote_ident(%s))::oid, 'MEMBER') AS member"
    " FROM pg_roles WHERE rolname = current_user"
)
_MAY_COPY = """
SELECT r.rolsuper OR r.rolcreatedb AND (d.datistemplate OR pg_has_role(d.datdba, 'USAGE'))
FROM pg_database d, pg_roles r WHERE d.datname = %s AND r.rolname = current_user
"""
_TEMPLATES = ("template0", "template1")
_EXTENSIONS = (
    "SELECT e FROM unnest(%s::text[]) e"
    " WHERE e NOT IN (SELECT name FROM pg_available_extension_versions)"
)
# An autovacuum worker has no role, and the server itself ends it. A plain role may not read the
# type of another role's backend.
_SESSIONS = (
    "SELECT coalesce(a.usename, '?') AS role, count(*) AS number FROM pg_stat_activity a"
    " LEFT JOIN pg_roles r ON r.oid = a.usesysid"
    " WHERE a.datname = %s AND a.usesysid IS NOT NULL"
    " AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    " AND (coalesce(r.rolsuper, true)"
    "  OR NOT (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))"
    " GROUP BY 1 ORDER BY 1"
)


@dataclass(frozen=True)
class Change:
    """A database to build, which gets the target's name.

    `facts` are its properties, `bytes` its size, and `extensions` the versions of its extensions by
    name. `free` is the number of free bytes on the server's disk, None if unknown. With
    `leave_behind`, slots stay with the database that is replaced, and properties may be lost.
    """

    target: Target
    facts: DatabaseProperties
    bytes: int
    free: int | None
    replaces: bool
    leave_behind: bool = False
    extensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Creator:
    """The connecting role; `member` is whether it is a member of the owner, if that exists."""

    name: str
    may_create: bool
    member: bool


@dataclass(frozen=True)
class Sessions:
    """The number of a role's sessions in a database that the connecting role cannot end."""

    role: str
    number: int


def refuse(verb: str, lines: Iterable[str]) -> None:
    """Raise Refused with the obstacles to a `verb` (restore, copy), one line each, if any."""
    messages = list(lines)
    if len(messages) == 1:
        raise Refused(f"cannot {verb}: {messages[0]}")
    if messages:
        raise Refused(
            f"cannot {verb}: {len(messages)} things stand in the way", hint="\n".join(messages)
        )


def refuse_new(verb: str, conn: Connection, target: Target, *, leave_behind: bool) -> None:
    """Raise Refused if something hangs on a target just before it is put away.

    Whoever subscribes, or prepares a transaction, may have done so since the plan was made.
    """
    refuse(verb, attached.keep_from_putting_away(conn, target, leave_behind=leave_behind))


def rights(conn: Connection, target: Target, owner: str, *, instead: str = "") -> Iterator[str]:
    """Yield what keeps the connecting role from creating the target for `owner`.

    `instead` is a flag that does without.
    """
    creator = _creator(conn, owner)
    if not creator.may_create:
        way = f", or {instead}, which has no undo" if instead else ""
        yield (
            f"role {creator.name!r} may not create databases: ALTER ROLE {quoted(creator.name)} "
            f"CREATEDB{way}"
        )
    if target.database == target.maintenance:
        yield (
            f"{target.database!r} is the maintenance database that locks are held in, "
            "name another one in `maintenance`"
        )
    yield from membership(conn, target, owner)


def membership(conn: Connection, target: Target, owner: str) -> Iterator[str]:
    """Yield whether the connecting role may not act as the owner of the target."""
    creator = _creator(conn, owner)
    if not creator.member:
        yield f"role {creator.name!r} is no member of {owner!r}, which owns {target.database!r}"


def may_create(conn: Connection) -> bool:
    """Return whether the connecting role may create databases."""
    return _creator(conn, "").may_create


def _creator(conn: Connection, owner: str) -> Creator:
    return connection.rows(conn, _CREATOR, (owner, owner), into=Creator)[0]


def may_copy(conn: Connection, database: str) -> bool:
    """Return whether the connecting role may have the server copy a database's files."""
    return connection.value(conn, _MAY_COPY, (database,), into=bool)


def of_server(conn: Connection, change: Change) -> Iterator[str]:
    """Yield what the server lacks for a change, and what the replaced database holds on to."""
    yield from extensions(conn, change.extensions)
    if change.replaces:
        yield from template(change.target)
        yield from sessions(conn, change.target)
        yield from attached.keep_from_putting_away(
            conn, change.target, leave_behind=change.leave_behind
        )
        if not change.leave_behind:
            yield from not_carried(conn, change.target.database, change.facts)
    yield from disk(change.free, change.bytes)


def extensions(conn: Connection, versions: Mapping[str, str]) -> Iterator[str]:
    """Yield the extensions that are not available on the server; `versions` is by name."""
    for name in sorted(connection.rows(conn, _EXTENSIONS, (list(versions),), into=str)):
        version = f" (version {versions[name]})" if versions[name] else ""
        yield f"extension {name!r}{version} is not available on this server"


def template(target: Target) -> Iterator[str]:
    """Yield whether a target is what CREATE DATABASE copies if no other template is named."""
    if target.database in _TEMPLATES:
        yield f"{target.database!r} is the server's template for new databases: name another one"


def sessions(conn: Connection, target: Target) -> Iterator[str]:
    """Yield the sessions in the target that the connecting role cannot end."""
    for others in connection.rows(conn, _SESSIONS, (target.database,), into=Sessions):
        yield (
            f"{report.plural(others.number, 'session')} of role {others.role!r} in "
            f"{target.database!r} cannot be ended by this role: grant it pg_signal_backend "
            "(sessions of superusers end by hand)"
        )


def not_carried(conn: Connection, database: str, facts: DatabaseProperties) -> Iterator[str]:
    """Yield the properties that the connecting role may not set on a database.

    They are set on the existing one, in a transaction that is rolled back.
    """
    statements = [
        *properties.laying_statements(database, facts),
        *properties.late_statements(database, facts),
    ]
    faults = []
    connection.execute(conn, "BEGIN")
    try:
        for statement in statements:
            if fault := _attempt(conn, statement):
                faults.append(fault)
    finally:
        connection.execute(conn, "ROLLBACK")
    for fault in faults:
        yield f"{fault}: run it as a role that may, or go without with --leave-behind"


def _attempt(conn: Connection, statement: sql.Composed) -> str:
    """Run a statement after a savepoint; return its error, empty if there is none."""
    text = statement.as_string(conn)
    connection.execute(conn, "SAVEPOINT attempt")
    try:
        connection.execute(conn, statement)
    except Failed as exc:
        connection.execute(conn, "ROLLBACK TO attempt")
        return f"{text} ({exc.message})"
    return ""


def disk(free: int | None, needed: int) -> Iterator[str]:
    """Yield whether the database does not fit on the server's disk; `free` is None if unknown."""
    if free is not None and free < needed:
        yield (
            f"the server's disk has {report.size(free)} free, the side database needs about "
            f"{report.size(needed)}: make room, {typed.task('db.forget')} drops kept databases"
        )


def free_bytes(conn: Connection, target: Target, host: Host) -> int | None:
    """Return the free bytes of the server's disk, None if they are unknown."""
    if not target.socket:
        return None
    try:
        folder = connection.value(conn, "SHOW data_directory", into=str)
    except Failed:
        return None  # the role may not read it
    return host.free_bytes(folder)
