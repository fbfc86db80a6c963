"""The preflight of a restore: find everything that would stop it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from pgtasks.backup.foreign.contents import Examined
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.database import obstacles
from pgtasks.database.obstacles import Change
from pgtasks.report import typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import identifier

IN_PLACE = "--in-place"  # what a role without CREATEDB may do


def check(
    plan: RestorePlan, conn: Connection, free: int | None, *, as_superuser: bool = False
) -> None:
    """Raise Refused with all obstacles; `conn` is in the maintenance database.

    `free` is the number of free bytes on the server's disk, None if unknown.
    """
    obstacles.refuse("restore", _obstacles(plan, conn, free, as_superuser=as_superuser))


def _obstacles(
    plan: RestorePlan, conn: Connection, free: int | None, *, as_superuser: bool
) -> Iterator[str]:
    """Yield one line for each obstacle, with the way out."""
    instead = "" if plan.into or plan.foreign or not plan.replaces else IN_PLACE
    yield from obstacles.rights(conn, plan.target, plan.facts.owner, instead=instead)
    if not as_superuser:
        yield from demanded(plan)
    yield from roles(conn, plan)
    if isinstance(plan.backup, Dump):
        yield from outside(plan.backup.held, plan.left.names)
        yield from _rows_alone(plan.backup)
    yield from extensions(conn, plan)
    yield from obstacles.of_server(conn, _change(plan, free))


def extensions(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    """Yield the extensions that are not available, with the flag that omits one."""
    known = {entry.tag for entry in plan.archive if entry.desc == "EXTENSION"}
    for name, version in sorted(plan.extensions.items()):
        for line in obstacles.extensions(conn, {name: version}):
            flag = f"--leave-out {shlex.quote(f'extension {name}')}"
            way = f": {flag} restores without it and the rows of its tables"
            yield f"{line}{way if name in known else ''}"


def _change(plan: RestorePlan, free: int | None) -> Change:
    return Change(
        plan.target,
        plan.facts,
        plan.backup.manifest.database_bytes,
        free,
        plan.replaces,
        plan.leave_behind,
    )


def demanded(plan: RestorePlan) -> Iterator[str]:
    """Yield the objects that need a superuser, with the way out."""
    for need in plan.rights.needs:
        yield f"{need}{', or --as-superuser' if plan.rights.superuser else ''}"


def roles(conn: Connection, plan: RestorePlan) -> Iterator[str]:
    """Yield the roles that a load needs and does not have, with the ways out."""
    if plan.no_owner and _absent(conn, plan.facts.owner):
        yield f"role {plan.facts.owner!r} does not exist here"
    for role in plan.rights.absent:
        if role in plan.role_map.names.values():
            yield f"role {role!r} of --map-role does not exist here: create it, or name another"
            continue
        yield f"role {role!r} does not exist here: {_ways(plan, role)}"
    for owner in plan.rights.shut_out:
        yield (
            f"role {owner!r} owns objects in the backup and may not create any in their schema: "
            "leave owners and grants out with --no-owner, or connect as a superuser"
        )
    for owner in plan.rights.not_mine:
        yield (
            f"role {owner!r} owns objects in the backup and this role is no member of it: "
            "grant membership, or leave owners and grants out with --no-owner"
        )


def _ways(plan: RestorePlan, role: str) -> str:
    """Return the ways out where a role is missing."""
    if plan.script:
        return "create it, or leave owners and grants out with --no-owner"
    how = "" if plan.foreign else " (--create-roles does)"
    if plan.target.embedded:  # where only a superuser may create roles
        how = f" ({typed.task('setup')} makes those that sql/roles names)"
    quoted = identifier(role)
    name = quoted if "=" in role or '"' in role else role
    given = shlex.quote(f"{name}=ROLE")
    return (
        f"create it{how}, give what it has to another with --map-role {given}, or leave grants "
        "out with --no-acl, owners too with --no-owner"
    )


def outside(held: Examined, left: Collection[str]) -> Iterator[str]:
    """Yield what a dump holds that reaches out of its database, with the flag that omits it."""
    for name, line in held.outside.items():
        if name not in left:
            flag = f"--leave-out {shlex.quote(name)}"
            yield f"{name} (line {line}) reaches out of the database, {flag} restores without it"


def _rows_alone(dump: Dump) -> Iterator[str]:
    """Yield that a dump has no tables for its rows, where its entries say so."""
    kinds = {entry.desc for entry in dump.archive}
    if "TABLE DATA" in kinds and not kinds & {"TABLE", "EXTENSION"}:
        yield (
            f"{dump.shown} has rows and no tables for them (pg_dump --data-only): take a dump with "
            "the schema, or load it by hand into tables that are there"
        )


def _absent(conn: Connection, role: str) -> bool:
    query = "SELECT true FROM pg_roles WHERE rolname = %s"
    return not connection.row(conn, query, (role,), into=bool)
