"""Check whether a target is ready for the tasks: read the facts about server, database, role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgtasks.database import aside, create, lacking, loader, recover, scratch
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Unreachable, VersionMismatch
from pgtasks.health import leftovers
from pgtasks.health.connection import ConnectionStep
from pgtasks.health.finding import Finding
from pgtasks.health.readiness import Content, Readiness, Role, ServerFacts
from pgtasks.host import tools
from pgtasks.host.local import HERE
from pgtasks.report import typed
from pgtasks.server import catalog, connection, lock
from pgtasks.server.connection import Connection
from pgtasks.server.identity import identify, present
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


def examine(
    reached: Reached, backups: Path, *, steps: tuple[ConnectionStep, ...] = ()
) -> Readiness:
    """Check everything that the tasks require, without changing anything.

    Raises Unreachable if the database does not exist.
    """
    target, conn = reached.target, reached.maintenance()
    beside = recover.look(conn, target)
    if beside.missing:
        _raise_missing(conn, beside, target)
    server = _ask_server(conn)
    return Readiness(
        target=target,
        server=server,
        role=_ask_role(conn, target),
        content=None if beside.closed or beside.invalid else _ask_database(target),
        leftovers=beside,
        logins=tuple(loader.left(conn, target.database)),
        running=lock.held(conn, target.database),
        asides=tuple(aside.find(conn, target)),
        scratches=tuple(each.database for each in scratch.left(conn, target)),
        backups=(
            *leftovers.broken(target, backups),
            *leftovers.lossy(target, backups),
            *leftovers.interrupted(reached, backups),
        ),
        tools=tuple(_tools(reached, server.major)),
        steps=steps,
    )


def _raise_missing(conn: Connection, beside: Leftovers, target: Target) -> None:
    """Raise Unreachable for a missing database, naming a kept or similar one."""
    missing = f"database {target.database!r} does not exist"
    if beside.kept:
        raise Unreachable(
            f"{missing}, {beside.kept[-1].name!r} is kept: "
            f"{typed.task('db.recover')} gives it its name back"
        )
    if beside.alone:
        other = beside.alone[-1]
        way = f"{typed.task('db.create')} creates it"
        raise Unreachable(f"{missing}: {way}; {other.name!r} is there, {other.alone}")
    if target.embedded and (names := create.namesakes(conn, target)):
        raise Unreachable(
            f"{missing}: {typed.task('db.create')} creates it; {', '.join(map(repr, names))} is "
            f"on this server, stamped {target.environment!r}: if that is the one you mean, correct "
            "`database` in the settings"
        )
    present(None, target)


def _ask_server(conn: Connection) -> ServerFacts:
    version, standby, used, free = connection.rows(
        conn,
        "SELECT current_setting('server_version'), pg_is_in_recovery(), used.all,"
        " current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        # since PostgreSQL 16
        " - coalesce(current_setting('reserved_connections', true)::int, 0) - used.all"
        " FROM (SELECT sum(numbackends)::int AS all FROM pg_stat_database) used",
        into=tuple[str, bool, int, int],
    )[0]
    return ServerFacts(version.split()[0], conn.server_version // 10000, standby, used, free)


def _ask_role(conn: Connection, target: Target) -> Role:
    rows = connection.rows(
        conn,
        "SELECT r.rolname AS name, r.rolsuper AS superuser,"
        " r.rolcreatedb OR r.rolsuper AS createdb, pg_get_userbyid(d.datdba) AS owner,"
        " pg_has_role(d.datdba, 'USAGE') AS owns,"
        " pg_has_role('pg_signal_backend', 'USAGE') AS signals, o.rolsuper AS owner_superuser"
        " FROM pg_roles r, pg_database d JOIN pg_roles o ON o.oid = d.datdba"
        " WHERE r.rolname = current_user AND d.datname = %s",
        (target.database,),
        into=Role,
    )
    if not rows:  # dropped between two queries
        present(None, target)
    return rows[0]


def _ask_database(target: Target) -> Content:
    with connection.session(target, read_only=True, purpose="db.check") as conn:
        encoding, collation, size = connection.rows(
            conn,
            "SELECT pg_encoding_to_char(encoding), datcollate, pg_database_size(oid)"
            " FROM pg_database WHERE datname = current_database()",
            into=tuple[str, str, int],
        )[0]
        identity = identify(conn)
        return Content(
            *(identity, encoding, collation, size, tuple(catalog.unreadable(conn))),
            lacking=lacking.lacking(conn, identity.stamp),
        )


def _tools(reached: Reached, major: int) -> Iterator[Finding]:
    """Yield the tools for a dump of this server, and with SSH the psql on this machine."""
    target = reached.target
    on = f" on {target.ssh}" if target.ssh else ""
    try:
        toolsets = tools.available(reached.host, target)
        yield Finding("tools", "ok", f"{tools.for_dump(toolsets, major, target)}{on}")
    except VersionMismatch as exc:
        yield Finding("tools", "fault", exc.message)
    if not target.ssh:
        return
    try:
        own = tools.for_psql(tools.available(HERE, target), major, target.here())
        yield Finding("psql", "ok", f"{own} on this machine")
    except VersionMismatch:
        text = "none on this machine: db.run, db.shell and seed.load need one"
        yield Finding("psql", "note", text)
