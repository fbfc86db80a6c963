"""All that a restore needs to know, found out before anything is touched."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pgtasks import report
from pgtasks.backup.format.backup import Backup
from pgtasks.backup.restore import demands, leaving, preflight, trying
from pgtasks.backup.restore.options import Options
from pgtasks.backup.restore.plan import Plan, losses
from pgtasks.backup.restore.rights import Rights, Wish, decide
from pgtasks.backup.restore.rights import roles as known_roles
from pgtasks.database import properties, recover, side
from pgtasks.database.properties import DatabaseFacts, Setting
from pgtasks.host import tools
from pgtasks.host.local import Host
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

Archive = Sequence[Entry]


def make_plan(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: Options,
    archive: Archive,
    *,
    replaces: bool,
) -> Plan:
    """Find out all that a restore needs and raise what stands in its way; nothing is touched."""
    target, conn = lock.target, lock.connection
    manifest = backup.manifest
    found, major = tools.available(host, target), conn.server_version // 10000
    beside = recover.look(conn, target)
    toolset = tools.for_restore(
        found,
        major,
        manifest.dump_tool[0],
        manifest.compression.partition(":")[0],
        target,
    )
    rights = decide(
        conn,
        _wish(conn, target, backup, options, archive, replaces=not beside.missing),
        lambda grants: demands.demanding(conn, target, backup, archive, grants=grants),
    )
    standing = not beside.missing  # one that is invalid still says what belongs to it
    spaces = trying.tablespaces(conn, archive, rights.role or rights.user)
    facts, withheld = _facts(conn, target, backup, rights, options, replaces=standing)
    facts, home = _placed(conn, facts, rights.user)
    plan = Plan(
        target=target,
        backup=backup,
        tools=toolset,
        facts=facts,
        system=stamp.system_identifier(conn),
        run=side.new_run_id(conn, target),
        replaces=replaces,
        invalid=beside.invalid,
        jobs=options.jobs,
        rights=rights,
        no_owner=rights.mapped,
        leave_behind=options.leave_behind,
        dump=backup.dump,
        accept=options.accept,
        reader=tools.for_description(found, major, manifest.dump_tool[0], target),
        major=major,
        doubt=options.doubt,
        withheld=withheld,
        left=leaving.left(archive, options.leave_out, _unusable(conn, rights, archive)),
        archive=archive,
        no_tablespaces=bool(spaces),
    )
    free = preflight.free_bytes(conn, target, host)
    if free is not None:  # what an interrupted run left goes before anything is built
        free += sum(half.bytes or 0 for half in beside.half_built)
    notes = [*_notes(conn, plan, free, host), *_not_here(spaces), *home]
    plan = replace(plan, notes=tuple(notes), losses=_losses(plan))
    preflight.check(plan, conn, free, as_superuser=options.as_superuser)
    return plan


def _wish(
    conn: Connection,
    target: Target,
    backup: Backup,
    options: Options,
    archive: Archive,
    *,
    replaces: bool,
) -> Wish:
    """Return who shall own the result, as far as it is known without the server's roles."""
    saved, made = backup.database(), backup.manifest
    owner = properties.owner(conn, target.database) if replaces else saved.owner
    home = (made.environment, made.database) == (target.environment, target.database)
    return Wish(
        owner="" if options.no_owner and not replaces else owner,
        roles=(
            *saved.roles,
            *(() if replaces else (saved.owner,)),
            *(role for _, roles in leaving.policies(archive) for role in roles if _is_own(role)),
        ),
        # pg_depend knows nothing of what the first superuser owns, the archive does
        owners=tuple(sorted({entry.owner for entry in archive if _is_own(entry.owner)})),
        own=options.known and home,
        elsewhere=made.environment != target.environment and not target.protected,
        no_owner=options.no_owner,
        keep_owners=options.keep_owners,
        as_superuser=options.as_superuser,
    )


def _unusable(conn: Connection, rights: Rights, archive: Archive) -> set[int]:
    """Return the policies for roles that are not here, where nobody asks for these roles."""
    found = list(leaving.policies(archive)) if rights.mapped else []
    known = known_roles(conn, {role for _, roles in found for role in roles})
    return {
        entry.number
        for entry, roles in found
        if any(_is_own(role) and role not in known for role in roles)
    }


def _is_own(role: str) -> bool:
    return bool(role) and not role.startswith("pg_")  # no role of a user's own is called so


def _facts(
    conn: Connection,
    target: Target,
    backup: Backup,
    rights: Rights,
    options: Options,
    *,
    replaces: bool,
) -> tuple[DatabaseFacts, tuple[Setting, ...]]:
    """Return what the side database gets, and which settings it does not get unless asked for.

    The target's own facts, or those that the backup saved.
    """
    saved = backup.database()
    if replaces:
        own = properties.read(conn, target.database)
        return replace(own, encoding=saved.encoding), ()
    facts = replace(saved, name=target.database)
    if rights.mapped:
        settings = tuple(setting for setting in saved.settings if not setting.role)
        facts = replace(facts, owner=rights.owner, grants=None, settings=settings)
    if options.known or options.with_settings:
        return facts, ()
    laid = tuple(setting for setting in facts.settings if not properties.leads(setting))
    return replace(facts, settings=laid), tuple(filter(properties.leads, facts.settings))


def _placed(
    conn: Connection, facts: DatabaseFacts, user: str
) -> tuple[DatabaseFacts, Sequence[str]]:
    """Return the facts with a tablespace that `user` has here, and a note where it is another."""
    default = "pg_default"  # CREATE DATABASE does not name it, so that nobody needs a right to it
    if facts.tablespace == default or not trying.unusable(conn, [facts.tablespace], user):
        return facts, ()
    note = f"the database's tablespace {facts.tablespace!r} is not here to use: it is in {default}"
    return replace(facts, tablespace=default), (note,)


def _notes(conn: Connection, plan: Plan, free: int | None, host: Host) -> list[str]:
    notes = []
    if not plan.at_hand(host):
        notes.append(f"{report.size(plan.backup.manifest.size)} go to {host.name} first")
    if plan.doubt:
        notes.append(
            f"{plan.doubt}: restoring it runs what its maker wrote (to look first: pg_restore -f -"
            f" {shlex.quote(str(plan.dump))} | less)"
        )
    notes += plan.rights.lines()
    saved, now = plan.backup.database(), plan.facts
    manifest = plan.backup.manifest
    if manifest.environment != plan.target.environment:
        notes.append(f"the backup is of environment {manifest.environment!r}")
    for what in ("collate", "ctype", "provider", "locale"):
        before, after = getattr(saved, what), getattr(now, what)
        if before != after:
            notes.append(f"{what} is {after!r} here, it was {before!r}: sort orders may differ")
    here = conn.server_version // 10000
    if manifest.major != here:
        notes.append(f"the backup is of PostgreSQL {manifest.major}, this is {here}")
    if free is None:
        notes.append("the free space of the server's disk cannot be known from here")
    if manifest.schema_only:
        notes.append("the backup has the schema only, no rows")
    if manifest.excluded_data:
        notes.append(f"the backup has no rows of {', '.join(manifest.excluded_data)}")
    return notes


def _not_here(spaces: Sequence[str]) -> Iterator[str]:
    if spaces:
        names = ", ".join(map(repr, spaces))
        yield f"tablespace {names} is not here to use: all goes to the database's own"


def _losses(plan: Plan) -> Any:
    if not plan.replaces:
        return ()
    with connection.session(plan.target, read_only=True, purpose="db.restore") as conn:
        return losses(conn, plan.backup)
