"""Whether a target is ready for the tasks: what its server, its database and its role say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.store import remote
from pgtasks.backup.store.local import LocalStore
from pgtasks.database import kept, lacking, loader, recover
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Failed, PgtasksError, Refused, Unreachable, VersionMismatch
from pgtasks.health.connection import ConnectionStep, Diagnosis
from pgtasks.host import tempfiles, tools
from pgtasks.host.installations import NEWEST
from pgtasks.host.local import HERE
from pgtasks.report import typed
from pgtasks.server import catalog, connection, guard, lock
from pgtasks.server.connection import Connection
from pgtasks.server.guard import Access, Evidence
from pgtasks.server.identity import Identity, identify, present
from pgtasks.server.quoting import quoted
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

_BESIDE_JOBS = 3  # connections of a restore beside those of its jobs


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `state` is ok, note or fault (some task cannot work)."""

    subject: str
    state: str
    text: str


@dataclass(frozen=True)
class ServerFacts:
    """What the server says of itself; `free` connections are those that this role may take."""

    version: str
    major: int
    standby: bool
    connections: int
    free: int


@dataclass(frozen=True)
class Role:
    """The connecting role, and what it may do with the database; `signals`: end sessions."""

    name: str
    superuser: bool
    createdb: bool
    owner: str
    owns: bool
    signals: bool
    owner_superuser: bool


@dataclass(frozen=True)
class Content:
    """What is known of a database from within."""

    identity: Identity
    encoding: str
    collation: str
    bytes: int
    unreadable: tuple[str, ...]
    lacking: tuple[str, ...]  # that the last restore left out


@dataclass(frozen=True)
class Readiness:
    """All that was found out about a target. `content` is None where nobody gets in."""

    target: Target
    server: ServerFacts
    role: Role
    content: Content | None
    leftovers: Leftovers
    logins: tuple[str, ...]  # that killed restores left
    running: str  # who holds the target's lock, if anybody does
    backups: tuple[Finding, ...]  # damaged and interrupted ones
    tools: tuple[Finding, ...]
    steps: tuple[ConnectionStep, ...] = ()  # of the connection, where they were asked for

    def findings(self) -> list[Finding]:
        """Return what was looked at, each with the way out where something is wrong."""
        return [
            _version(self.server),
            *_connections(self),
            *_database(self),
            *_stamp(self),
            *_rights(self),
            *self.tools,
            *_leftovers(self),
        ]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        steps = Diagnosis(self.steps).lines() if self.steps else []
        rows = map(_row, self.findings())
        return [*steps, report.table(("what", "", "found"), rows, runs_on=True)]

    def summary(self) -> str:
        """Return what one line says: `PostgreSQL 15.4, 12 MB, noted: stamp`."""
        held = f", {report.size(self.content.bytes)}" if self.content else ""
        noted = [finding.subject for finding in self.findings() if finding.state == "note"]
        return f"PostgreSQL {self.server.version}{held}" + (
            f", noted: {', '.join(noted)}" if noted else ""
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        content = self.content
        its_stamp = content.identity.stamp if content else None
        return {
            "environment": self.target.environment,
            "database": self.target.database,
            "user": self.role.name,
            "protected": self.target.protected,
            "server": self.server.version,
            "encoding": content.encoding if content else None,
            "bytes": content.bytes if content else None,
            "stamp": its_stamp.environment if its_stamp else None,
            "free_connections": self.server.free,
            "findings": [vars(finding) for finding in self.findings()],
            **({"steps": [vars(step) for step in self.steps]} if self.steps else {}),
        }

    def check(self) -> None:
        """Raise Failed where some task cannot work."""
        faults = [finding for finding in self.findings() if finding.state == "fault"]
        if faults:
            first = f"{faults[0].subject}: {faults[0].text}"
            number = report.plural(len(faults), "fault")
            line = first if len(faults) == 1 else f"{number}, the first: {first}"
            raise Failed(line, details=self.as_json())


def _row(finding: Finding) -> tuple[str, str, str]:
    return finding.subject, finding.state, finding.text


def _version(server: ServerFacts) -> Finding:
    text = f"PostgreSQL {server.version}"
    if server.major > NEWEST:
        text += f": newer than what is tested, {NEWEST}"
        return Finding("server", "note", text)
    if server.standby:
        return Finding("server", "note", f"{text}, a standby: it can be read, not written")
    return Finding("server", "ok", text)


def _connections(readiness: Readiness) -> Iterator[Finding]:
    wanted = readiness.target.jobs + _BESIDE_JOBS
    text = f"{readiness.server.free} free, {readiness.server.connections} in use"
    if readiness.server.free < wanted:
        text += f": a restore with jobs {readiness.target.jobs} takes {wanted}"
        yield Finding("connections", "fault", text)
    else:
        yield Finding("connections", "ok", text)


def _database(readiness: Readiness) -> Iterator[Finding]:
    content = readiness.content
    if readiness.leftovers.invalid:
        text = recover.what_invalid_needs(readiness.leftovers, readiness.target.database)
        yield Finding("database", "fault", text)
        return
    if content is None:
        yield Finding(
            "database", "fault", f"refuses connections: {typed.task('db.recover')} opens it"
        )
        return
    text = f"{content.encoding}, {content.collation}, {report.size(content.bytes)}"
    if content.identity.empty:
        text += ", empty"
    if content.encoding == "UTF8":
        yield Finding("database", "ok", text)
    else:
        yield Finding(
            "database", "note", f"{text}: not UTF8, other databases may not take its text"
        )


def _stamp(readiness: Readiness) -> Iterator[Finding]:
    if readiness.content is None:
        return
    target, identity = readiness.target, readiness.content.identity
    try:
        guard.decide(
            Evidence(
                *(Access.READ, target.environment, target.database, False, identity, False),
                lineage=target.lineage,
            )
        )
    except Refused as exc:
        yield Finding("stamp", "fault", exc.message)
        return
    if identity.stamp is not None:
        yield Finding("stamp", "ok", identity.stamp.environment)
        for name in readiness.content.lacking:
            yield Finding("left out", "note", f"{name}: the restore went without it")
    elif identity.empty:
        yield Finding("stamp", "note", f"none: {typed.task('db.create')} stamps an empty database")
    else:
        text = f"none, so it counts as protected: {typed.task('env.stamp')} says what it is"
        yield Finding("stamp", "note", text)


def _rights(readiness: Readiness) -> Iterator[Finding]:
    role = readiness.role
    if readiness.target.reader == readiness.target.user:
        writes = role.superuser or role.owns
        text = ", can write: name one that cannot" if writes else ", which reads here"
        yield Finding("role", "note" if writes else "ok", f"{role.name}, the reader{text}")
        yield from _unreadable(readiness)
        return
    if role.superuser:
        yield Finding("role", "ok", f"{role.name}, superuser")
    lacking = list(_lacking(role))
    if lacking:
        yield Finding("role", "note", f"{role.name} " + "; ".join(lacking))
    elif not role.superuser:
        yield Finding("role", "ok", f"{role.name}, owns the database, may create databases")
    if role.owner_superuser and readiness.target.embedded:
        yield Finding("owner", "note", f"{role.owner}, a superuser, {_moved()}")
    yield from _unreadable(readiness)


def _moved() -> str:
    """Return the way into a data folder with a plain role of its own; the one before stays."""
    steps = (
        typed.task("db.backup"),
        typed.inv("server.stop"),
        "mv .pgtasks .pgtasks-before",
        typed.task("db.restore", "--no-owner"),
    )
    return f"as whom all that a restore brings would run: {' && '.join(steps)}"


def _unreadable(readiness: Readiness) -> Iterator[Finding]:
    role = readiness.role
    unreadable = readiness.content.unreadable if readiness.content else ()
    if unreadable:
        number = report.plural(len(unreadable), "object")
        text = f"{role.name} cannot read {number}, the first is {unreadable[0]}: no backup"
        yield Finding("reading", "fault", f"{text} (GRANT pg_read_all_data TO {quoted(role.name)})")


def _lacking(role: Role) -> Iterator[str]:
    if role.superuser:
        return
    if not role.createdb:
        yield f"may not create databases: no restore (ALTER ROLE {quoted(role.name)} CREATEDB)"
    if not role.owns:
        grant = f"GRANT {quoted(role.owner)} TO {quoted(role.name)}"
        yield f"is no member of {role.owner}, the owner: no restore, no stamp ({grant})"
    if not role.signals:
        grant = f"GRANT pg_signal_backend TO {quoted(role.name)}"
        yield f"ends sessions of its own roles alone ({grant})"


def _leftovers(readiness: Readiness) -> Iterator[Finding]:
    beside, recover_ = readiness.leftovers, typed.task("db.recover")
    for half in beside.half_built:
        if readiness.running:  # and may be building it
            yield Finding("running", "note", f"{half.name!r}, not finished: {readiness.running}")
            continue
        when = "" if half.stamp else " if it is empty, as no stamp says whose it is"
        text = f"{half.name!r}, half built: {recover_} drops it{when}"
        yield Finding("left over", "note", text)
    for broken in beside.broken:
        text = f"{broken.name!r}, invalid by an interrupted DROP DATABASE: {recover_} drops it"
        yield Finding("left over", "note", text)
    for login in readiness.logins:
        if readiness.running:
            yield Finding(
                "running", "note", f"role {login!r}, a login of a restore: {readiness.running}"
            )
            continue
        text = f"role {login!r}, the login of a restore: {recover_} drops it, or says why not"
        yield Finding("left over", "note", text)
    yield from readiness.backups
    for other in beside.alone:
        yield Finding("left alone", "note", f"{other.name!r}: {other.alone}")
    for number, side in enumerate(reversed(beside.kept)):
        undo = typed.task("db.undo", f"--to {side.run}" if number else "")
        yield Finding("kept", "note", f"{side}: for {undo}, until {typed.task('db.forget')}")
    for line in kept.crowd(beside.kept):
        yield Finding("kept", "note", line)


def examine(reached: Reached, backups: Path) -> Readiness:
    """Look at everything that the tasks rest on; nothing is changed.

    Raises Unreachable where the database does not exist.
    """
    target = reached.target
    conn = reached.maintenance()
    beside = recover.look(conn, target)
    if beside.missing and beside.kept:
        raise Unreachable(
            f"database {target.database!r} does not exist, {beside.kept[-1].name!r} is kept: "
            f"{typed.task('db.recover')} gives it its name back"
        )
    if beside.missing and beside.alone:
        other = beside.alone[-1]
        raise Unreachable(
            f"database {target.database!r} does not exist: "
            f"{typed.task('db.create')} makes it; "
            f"{other.name!r} is there, {other.alone}"
        )
    if beside.missing:
        present(None, target)
    server, role = _ask_server(conn), _ask_role(conn, target)
    logins = tuple(loader.left(conn, target.database))
    running = lock.held(conn, target.database)
    return Readiness(
        target=target,
        server=server,
        role=role,
        content=None if beside.closed or beside.invalid else _ask_database(target),
        leftovers=beside,
        logins=logins,
        running=running,
        backups=(*_broken(target, backups), *_interrupted(reached, backups)),
        tools=tuple(_tools(reached, server.major)),
    )


def _broken(target: Target, backups: Path) -> Iterator[Finding]:
    """Yield the backups of this machine that cannot be restored; the newest of all is a fault."""
    contents = LocalStore(backups).list()
    own = contents.of(target.environment, target.database)
    broken = contents.broken_of(target.environment, target.database)
    newest = max((*(each.id for each in own), *(each.name for each in broken)), default="")
    for each in broken:
        text = f"{each.name} cannot be read: {each.error.message}"
        yield Finding("backup", "fault" if each.name == newest else "note", text)
    for backup in own:
        if when := backup.checks.damaged:
            text = f"{backup.id} was damaged at {when}: {backup.checks.damage}"
            yield Finding("backup", "fault" if backup.id == newest else "note", text)


def _interrupted(reached: Reached, backups: Path) -> Iterator[Finding]:
    """Yield what interrupted runs left in folders, here and on the database host."""
    left = [*LocalStore(backups).list().interrupted]
    try:
        store = remote.of(reached.host, reached.target.ssh)
        left += store.list().interrupted if store else []
    except PgtasksError as exc:
        yield Finding("left over", "note", f"not looked for on the host: {exc.message}")
    for path in left:
        yield Finding(
            "left over", "note", f"{path}, an interrupted backup: {typed.task('db.recover')}"
        )
    for file in tempfiles.left(tempfile.gettempdir()):
        holds = ", which may hold a password" if file.suffix == ".pgpass" else ""
        text = f"{file}, of a killed run{holds}: {typed.task('db.recover')} removes it"
        yield Finding("left over", "note", text)


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
    if not rows:  # dropped between two looks
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
    """Yield which tools would dump this server, and over SSH the psql on this machine."""
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
