"""Judge whether server, database and role are ready for the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.database import recover
from pgtasks.database.aside import Aside
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Refused
from pgtasks.health import finding, leftovers
from pgtasks.health.connection import ConnectionStep, Diagnosis
from pgtasks.health.finding import Finding
from pgtasks.host.installations import NEWEST
from pgtasks.report import typed
from pgtasks.server import guard
from pgtasks.server.guard import Access, Evidence
from pgtasks.server.identity import Identity
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target

_BESIDE_JOBS = 3  # connections of a restore beside those of its jobs


@dataclass(frozen=True)
class ServerFacts:
    """Facts about the server; `free` is the number of connections available to this role."""

    version: str
    major: int
    standby: bool
    connections: int
    free: int


@dataclass(frozen=True)
class Role:
    """The connecting role and its rights on the database; `signals` to end sessions."""

    name: str
    superuser: bool
    createdb: bool
    owner: str
    owns: bool
    signals: bool
    owner_superuser: bool


@dataclass(frozen=True)
class Content:
    """Facts about the content of the database."""

    identity: Identity
    encoding: str
    collation: str
    bytes: int
    unreadable: tuple[str, ...]
    lacking: tuple[str, ...]  # objects that the last restore left out


@dataclass(frozen=True)
class Readiness:
    """All facts about a target. `content` is None if it accepts no connections."""

    target: Target
    server: ServerFacts
    role: Role
    content: Content | None
    leftovers: Leftovers
    logins: tuple[str, ...]  # that killed restores left
    running: str  # holder of the target's lock, if any
    asides: tuple[Aside, ...]
    scratches: tuple[str, ...]  # that killed runs of feature checks left on the server
    backups: tuple[Finding, ...]  # damaged, lossy and interrupted ones
    tools: tuple[Finding, ...]
    steps: tuple[ConnectionStep, ...] = ()  # of the connection, where they were asked for
    project: tuple[Finding, ...] = ()  # the files of the project, with --all

    def findings(self) -> list[Finding]:
        """Return the findings, with the way out for each problem."""
        return [
            _version(self.server),
            *_connections(self),
            *_database(self),
            *_stamp(self),
            *_rights(self),
            *self.tools,
            *self.project,
            *leftovers.findings(self.leftovers, self.logins, self.backups, running=self.running),
            *leftovers.scratches(self.scratches),
            *leftovers.beside(self.asides),
        ]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        steps = Diagnosis(self.steps).lines() if self.steps else []
        return [*steps, finding.table(self.findings())]

    def summary(self) -> str:
        """Return one line: `PostgreSQL 15.4, 12 MB, noted: stamp`."""
        held = f", {report.size(self.content.bytes)}" if self.content else ""
        return f"PostgreSQL {self.server.version}{held}{finding.noted(self.findings())}"

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
            "findings": [vars(each) for each in self.findings()],
            **(Diagnosis(self.steps).as_json() if self.steps else {}),
        }

    def check(self) -> None:
        """Raise Failed if some task cannot work, Refused if the stamp is another environment's."""
        faults, kind = finding.faults(self.findings())
        if faults:
            first = f"{faults[0].subject}: {faults[0].text}"
            number = report.plural(len(faults), "fault")
            line = first if len(faults) == 1 else f"{number}, the first: {first}"
            raise kind(line, details=self.as_json())


def _version(server: ServerFacts) -> Finding:
    text = f"PostgreSQL {server.version}"
    if server.major > NEWEST:
        text += f": newer than the tested versions, up to {NEWEST}"
        return Finding("server", "note", text)
    if server.standby:
        return Finding("server", "note", f"{text}, a standby, which is read-only")
    return Finding("server", "ok", text)


def _connections(readiness: Readiness) -> Iterator[Finding]:
    wanted = readiness.target.jobs + _BESIDE_JOBS
    text = f"{readiness.server.free} free, {readiness.server.connections} in use"
    if readiness.server.free < wanted:
        text += f": a restore with jobs {readiness.target.jobs} needs {wanted}"
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
        yield Finding("database", "note", f"{text}: not UTF8, other databases may reject its text")


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
            yield Finding("left out", "note", f"{name}: the restore left it out")
    elif identity.empty:
        yield Finding("stamp", "note", f"none: {typed.task('db.create')} stamps an empty database")
    else:
        text = f"none, so it counts as protected: {typed.task('env.stamp')} stamps it"
        yield Finding("stamp", "note", text)


def _rights(readiness: Readiness) -> Iterator[Finding]:
    role = readiness.role
    if readiness.target.reader == readiness.target.user:
        writes = role.superuser or role.owns
        text = ", can write: use a read-only role" if writes else ", used for reads"
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
    """Return the steps to a new data folder with a plain role; the old one is kept."""
    steps = (
        typed.task("db.backup"),
        typed.inv("server.stop"),
        "mv .pgtasks .pgtasks-before",
        typed.task("db.restore", "--no-owner"),
    )
    return f"with whose rights the code of a backup would run: {' && '.join(steps)}"


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
        grant = f"ALTER ROLE {quoted(role.name)} CREATEDB"
        yield f"may not create databases: db.restore works with --in-place alone ({grant})"
    if not role.owns:
        grant = f"GRANT {quoted(role.owner)} TO {quoted(role.name)}"
        yield f"is not a member of {role.owner}, the owner: no restore, no stamp ({grant})"
    if not role.signals:
        grant = f"GRANT pg_signal_backend TO {quoted(role.name)}"
        yield f"can only end sessions of its own roles ({grant})"
