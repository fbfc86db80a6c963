"""The preflight of a restore: find everything that would stop it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg2 import sql

from pgtasks import report
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.database import attached, properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed, Refused
from pgtasks.host.local import Host
from pgtasks.report import typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target


def check(
    plan: RestorePlan, conn: Connection, free: int | None, *, as_superuser: bool = False
) -> None:
    """Raise Refused with all obstacles; `conn` is in the maintenance database.

    `free` is the number of free bytes on the server's disk, None if unknown.
    """
    refuse(obstacles(plan, conn, free, as_superuser=as_superuser))


def refuse(obstacles: Iterable[str]) -> None:
    """Raise Refused with the obstacles, if there are any."""
    messages = list(obstacles)
    if len(messages) == 1:
        raise Refused(f"cannot restore: {messages[0]}")
    if messages:
        raise Refused(
            f"cannot restore: {len(messages)} things stand in the way", hint="\n".join(messages)
        )


def obstacles(
    plan: RestorePlan, conn: Connection, free: int | None, *, as_superuser: bool
) -> Iterator[str]:
    """Yield one line for each obstacle, with the way out."""
    yield from _rights(conn, plan)
    if not as_superuser:
        yield from demanded(plan)
    yield from _roles(conn, plan)
    yield from _extensions(conn, plan)
    if plan.replaces:
        yield from _sessions(conn, plan.target)
        yield from attached.keep_from_putting_away(
            conn, plan.target, leave_behind=plan.leave_behind
        )
        if not plan.leave_behind:
            yield from _not_carried(conn, plan)
    yield from _disk(plan, free)


def is_superuser(conn: Connection) -> bool:
    """Return whether the connection's role is a superuser."""
    return bool(
        connection.value(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    )


def _rights(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    query = "SELECT rolcreatedb OR rolsuper, rolname FROM pg_roles WHERE rolname = current_user"
    may_create, user = connection.rows(conn, query, into=tuple[bool, str])[0]
    if not may_create:
        yield f"role {user!r} may not create databases: ALTER ROLE {user} CREATEDB"
    if plan.target.database == plan.target.maintenance:
        yield (
            f"{plan.target.database!r} is the maintenance database that locks are held in, "
            "name another one in `maintenance`"
        )
    for owner in _not_member(conn, [plan.facts.owner]):
        yield f"role {user!r} is no member of {owner!r}, which owns {plan.target.database!r}"


def _not_member(conn: Connection, roles: Iterable[str]) -> list[str]:
    return connection.rows(
        conn,
        "SELECT r FROM unnest(%s::text[]) r WHERE to_regrole(quote_ident(r)) IS NOT NULL"
        " AND NOT pg_has_role(to_regrole(quote_ident(r))::oid, 'MEMBER')",
        (list(roles),),
        into=str,
    )


def _roles(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    if plan.no_owner and _absent(conn, plan.facts.owner):
        yield f"role {plan.facts.owner!r} does not exist here"
    for role in plan.rights.absent:
        yield (
            f"role {role!r} does not exist here: create it (globals.sql in the backup says how), "
            "or leave owners and grants out with --no-owner"
        )
    for owner in plan.rights.not_mine:
        yield (
            f"role {owner!r} owns objects in the backup and this role is no member of it: "
            "grant membership, or leave owners and grants out with --no-owner"
        )


def _absent(conn: Connection, role: str) -> bool:
    return not connection.value(conn, "SELECT true FROM pg_roles WHERE rolname = %s", (role,))


def _extensions(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    proof = plan.backup.proof()
    for name, version in sorted((proof.extensions if proof else {}).items()):
        query = "SELECT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = %s)"
        if not connection.value(conn, query, (name,)):
            yield f"extension {name!r} (version {version}) is not available on this server"


def demanded(plan: RestorePlan) -> Iterator[str]:
    """Yield the objects that need a superuser, with the way out."""
    for need in plan.rights.needs:
        yield f"{need}{', or --as-superuser' if plan.rights.superuser else ''}"


def _sessions(conn: Connection, target: Target) -> Iterator[str]:
    rows = connection.rows(
        conn,
        "SELECT coalesce(a.usename, '?'), count(*) FROM pg_stat_activity a"
        " LEFT JOIN pg_roles r ON r.oid = a.usesysid"
        " WHERE a.datname = %s AND a.backend_type IS DISTINCT FROM 'autovacuum worker'"
        " AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        " AND (coalesce(r.rolsuper, true)"
        "  OR NOT (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))"
        " GROUP BY 1 ORDER BY 1",
        (target.database,),
        into=tuple[str, int],
    )
    for user, number in rows:
        yield (
            f"{report.plural(number, 'session')} of role {user!r} in {target.database!r} cannot be "
            "ended by this role: grant it pg_signal_backend (sessions of superusers end by hand)"
        )


def _not_carried(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    """Apply the target's own settings and grants again, in a transaction that is rolled back."""
    for fault in trial(conn, plan.target.database, plan.facts):
        yield f"{fault}: run it as a role that may, or go without with --leave-behind"


def trial(conn: Connection, name: str, facts: DatabaseProperties) -> list[str]:
    """Return the properties that this role may not set on the database `name`."""
    statements = [
        *properties.laying_statements(name, facts),
        *properties.late_statements(name, facts),
    ]
    faults = []
    connection.execute(conn, "BEGIN")
    try:
        for statement in statements:
            if fault := attempt(conn, statement):
                faults.append(fault)
    finally:
        connection.execute(conn, "ROLLBACK")
    return faults


def attempt(conn: Connection, statement: sql.Composed) -> str:
    """Run a statement after a savepoint; return its error, empty if there is none."""
    text = statement.as_string(conn)
    connection.execute(conn, "SAVEPOINT attempt")
    try:
        connection.execute(conn, statement)
    except Failed as exc:
        connection.execute(conn, "ROLLBACK TO attempt")
        return f"{text} ({exc.message})"
    return ""


def _disk(plan: RestorePlan, free: int | None) -> Iterator[str]:
    needed = plan.backup.manifest.database_bytes
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
        folder = connection.value(conn, "SHOW data_directory")
    except Failed:
        return None  # the role may not read it
    return host.free_bytes(folder)
