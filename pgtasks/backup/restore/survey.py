"""Collect everything that a restore needs, before it changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pgtasks.backup.foreign import contents
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.restore import owners, preflight, remarks, rolemap, trying
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.plan import RestorePlan, losses
from pgtasks.backup.restore.rolemap import RoleMap
from pgtasks.backup.store.backup import Backup
from pgtasks.database import aside, demands, leaving, obstacles, properties, replaced, roles, side
from pgtasks.database.leaving import LeftOut
from pgtasks.database.properties import DatabaseProperties, Setting
from pgtasks.database.recover import Leftovers
from pgtasks.database.rights import LoadRequest, Rights, decide
from pgtasks.database.roles import SavedRole
from pgtasks.errors import Refused
from pgtasks.host import tools
from pgtasks.host.base import Host
from pgtasks.host.tools import Toolset
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.identity import system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

Archive = Sequence[Entry]


def make_plan(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    archive: Archive,
    beside: Leftovers,
) -> RestorePlan:
    """Return the plan of a restore, raising for obstacles, without changing anything."""
    conn = lock.connection
    if options.into:
        aside.refuse_name(conn, lock.target, options.into)
    plan, others = draft(lock, host, backup, options, archive, beside)
    if options.no_acl and plan.script:
        raise Refused("--no-acl is for archives of pg_dump: --no-owner leaves grants out of SQL")
    if options.into:  # nothing is replaced, and no session ended
        plan = replace(plan, into=options.into, replaces=False, replaced=None, invalid=False)
    free = obstacles.free_bytes(conn, plan.target, host)
    if free is not None:  # what an interrupted run left is dropped before anything is built
        free += sum(half.bytes or 0 for half in beside.half_built)
    said = (*remarks.notes(conn, plan, free, host), *others)
    plan = replace(plan, notes=said, losses=_losses(plan))
    preflight.check(plan, conn, free, as_superuser=options.as_superuser)
    return plan


def draft(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    archive: Archive,
    beside: Leftovers,
    *,
    whole: bool = True,
    kept: Collection[str] = (),
) -> tuple[RestorePlan, Sequence[str]]:
    """Return the plan without notes and losses, and remarks on tablespaces.

    `archive` is a part of the backup's if it is not `whole`, and needs only the roles it names.
    `kept` are extensions that stay as they are.
    """
    target, conn = lock.target, lock.connection
    toolset, reader = _tools(conn, target, host, backup)
    standing = not beside.missing  # an invalid database still has its properties
    if options.role_map:
        _refuse_map(backup, options, archive)
    left = _left(backup, archive, options.leave_out)
    loaded = left.kept(archive)  # what is left out demands no rights
    request = _request(conn, target, backup, options, loaded, replaces=standing, whole=whole)
    extensions = {
        name: version
        for name, version in _extensions(backup, archive, options, whole=whole).items()
        if name not in kept
    }
    made_roles, rights = _rights(conn, target, backup, options, loaded, extensions, request)
    if rights.mapped:
        absent = leaving.absent(conn, archive)
        left = _left(backup, archive, options.leave_out, absent)
    spaces = trying.tablespaces(conn, archive, rights.role or rights.user)
    facts, withheld = _facts(conn, target, backup, rights, options, replaces=standing)
    facts, home = _placed(conn, facts, rights.user)
    plan = RestorePlan(
        target=target,
        backup=backup,
        tools=toolset,
        reader=reader,
        major=conn.server_version // 10000,
        facts=facts,
        system=system_identifier(conn),
        run=side.new_run_id(conn, target),
        replaces=standing and not beside.invalid,
        invalid=beside.invalid,
        jobs=options.jobs,
        rights=rights,
        no_owner=rights.mapped,
        no_acl=options.no_acl,
        role_map=RoleMap() if rights.mapped else options.role_map,
        roles=made_roles,
        with_passwords=options.with_passwords,
        leave_behind=options.leave_behind,
        dump=backup.dump,
        accept=options.accept,
        doubt=options.doubt,
        withheld=withheld,
        left=left,
        archive=archive,
        replaced=replaced.look(conn, target.database) if standing and not beside.invalid else None,
        no_tablespaces=bool(spaces),
        extensions=extensions,
    )
    return plan, [*_not_here(spaces), *home]


def _extensions(
    backup: Backup, archive: Archive, options: RestoreOptions, *, whole: bool
) -> dict[str, str]:
    """Return the extensions that are created, by name."""
    made = {entry.tag for entry in archive if entry.desc == "EXTENSION"}
    return {
        name: version
        for name, version in extensions_of(backup).items()
        if (whole or name in made) and f"extension {name}" not in options.leave_out
    }


def _rights(
    conn: Connection,
    target: Target,
    backup: Backup,
    options: RestoreOptions,
    archive: Archive,
    extensions: Mapping[str, str],
    request: LoadRequest,
) -> tuple[tuple[SavedRole, ...], Rights]:
    """Return the roles to create, and the rights of the load once they are there."""

    def demanding(grants: bool) -> Iterator[str]:
        with_grants = grants and not options.no_acl
        return demands.demanding(
            conn, target, extensions, archive, grants=with_grants, way=leaving.way
        )

    made = _roles(conn, backup, options, request)
    with roles.assumed(conn, made):
        rights = decide(conn, request, demanding)
    if rights.mapped and made:  # nothing would belong to them
        return (), decide(conn, request, demanding)
    return made, rights


def extensions_of(backup: Backup) -> dict[str, str]:
    """Return the versions of the extensions of a backup by name, empty for those of a dump."""
    if isinstance(backup, Dump):
        return dict.fromkeys(backup.held.extensions, "")
    proof = backup.proof()
    return dict(proof.extensions) if proof else {}


def _left(
    backup: Backup, archive: Archive, wanted: Sequence[str], absent: Collection[str] = ()
) -> LeftOut:
    """Return what is left out, also what reaches out of the database of a dump.

    `absent` are the roles whose policies and user mappings cannot be restored.
    """
    outside = backup.held.outside if isinstance(backup, Dump) else {}
    named = tuple(name for name in outside if name in wanted)
    needless = contents.MAKES_OWN if isinstance(backup, Dump) and backup.held.own else ()
    others = [name for name in wanted if name not in (*outside, *needless)]
    left = leaving.left(archive, others, leaving.naming(archive, absent))
    if left.checks and isinstance(backup, Dump) and backup.plain:
        raise Refused(
            f"--leave-out {str(left.checks[0])!r}: a dump in SQL makes its table with it: take the "
            "constraint out of the file"
        )
    return replace(left, names=(*named, *left.names))


def _tools(
    conn: Connection, target: Target, host: Host, backup: Backup
) -> tuple[Toolset, Toolset | None]:
    """Return the tools of the load, and those that describe the side database."""
    toolsets, major = tools.available(host, target), conn.server_version // 10000
    manifest: Manifest = backup.manifest
    if isinstance(backup, Dump) and backup.plain:  # only statistics need a tool
        return tools.for_psql(toolsets, major, target), None
    dumper, compression = manifest.dump_tool[0], manifest.compression.partition(":")[0]
    return (
        tools.for_restore(toolsets, major, dumper, compression, target),
        tools.for_description(toolsets, major, dumper, target),
    )


def _request(
    conn: Connection,
    target: Target,
    backup: Backup,
    options: RestoreOptions,
    archive: Archive,
    *,
    replaces: bool,
    whole: bool,
) -> LoadRequest:
    """Return the owner of the result, as far as it is known without the server's roles."""
    saved, made = options.role_map.properties(backup.database()), backup.manifest
    owner = properties.owner(conn, target.database) if replaces else saved.owner
    home = (made.environment, made.database) == (target.environment, target.database)
    return LoadRequest(
        owner="" if options.no_owner and not replaces else owner,
        roles=(
            *((saved.owners if options.no_acl else saved.roles) if whole else ()),
            *(() if replaces else (saved.owner,)),
            *(options.role_map.of(each) for _, own in leaving.of_roles(archive) for each in own),
        ),
        # pg_shdepend does not list objects of the first superuser, the archive does
        owners=tuple(
            sorted({*map(options.role_map.of, filter(leaving.is_own, _owners(backup, archive)))})
        ),
        own=options.known and home,
        elsewhere=made.environment != target.environment and not target.protected,
        no_owner=options.no_owner,
        keep_owners=options.keep_owners,
        as_superuser=options.as_superuser,
        doubt=options.doubt,
        within=owners.within(conn, archive) if whole and not options.role_map else frozenset(),
    )


def _roles(
    conn: Connection, backup: Backup, options: RestoreOptions, request: LoadRequest
) -> tuple[SavedRole, ...]:
    """Return the roles to create: those that are needed, lacking here, and in the backup."""
    if not options.create_roles:
        return ()
    if isinstance(backup, Dump):
        raise Refused(f"--create-roles is for backups: {backup.shown} has no globals.sql")
    text = backup.globals()
    if not text:
        raise Refused("--create-roles: the backup has no globals.sql, its maker could not read it")
    return roles.lacking(conn, roles.saved(text), {*request.roles, *request.owners})


def _refuse_map(backup: Backup, options: RestoreOptions, archive: Archive) -> None:
    saved, owners = backup.database(), set(filter(leaving.is_own, _owners(backup, archive)))
    of_policies = (role for _, own in leaving.of_roles(archive) for role in own)
    of_settings = (each.role for each in saved.settings if each.role)
    known = {*saved.roles, *owners, *of_policies}
    if not isinstance(backup, Dump):  # else these are of the target
        known |= {saved.owner, *of_settings}
    rolemap.refuse(options.role_map, known, owners)


def _owners(backup: Backup, archive: Archive) -> set[str]:
    if not isinstance(backup, Dump):
        return {entry.owner for entry in archive}
    made = (entry.owner for entry in archive if entry.desc != "DATABASE")  # which is not created
    return {*backup.held.owners, *made}


def _facts(
    conn: Connection,
    target: Target,
    backup: Backup,
    rights: Rights,
    options: RestoreOptions,
    *,
    replaces: bool,
) -> tuple[DatabaseProperties, tuple[Setting, ...]]:
    """Return the properties of the side database, and the settings that it gets only if asked for.

    These are the target's own properties, or those of the backup.
    """
    saved = options.role_map.properties(backup.database())
    if replaces:
        own = properties.read(conn, target.database)
        return replace(own, encoding=saved.encoding), ()
    facts = replace(saved, name=target.database)
    if options.no_acl:
        facts = replace(facts, grants=None)
    if rights.mapped:
        settings = tuple(setting for setting in saved.settings if not setting.role)
        facts = replace(facts, owner=rights.owner, grants=None, settings=settings)
    if options.known or options.with_settings:
        return facts, ()
    applied = tuple(setting for setting in facts.settings if not properties.leads(setting))
    return replace(facts, settings=applied), tuple(filter(properties.leads, facts.settings))


def _placed(
    conn: Connection, facts: DatabaseProperties, user: str
) -> tuple[DatabaseProperties, Sequence[str]]:
    """Return the properties with a tablespace that `user` may use, and a note if it is another."""
    default = "pg_default"  # CREATE DATABASE does not name it, so that no right to it is needed
    if facts.tablespace == default or not trying.unusable(conn, [facts.tablespace], user):
        return facts, ()
    note = f"the database's tablespace {facts.tablespace!r} is not here to use: it is in {default}"
    return replace(facts, tablespace=default), (note,)


def _not_here(spaces: Sequence[str]) -> Iterator[str]:
    if spaces:
        names = ", ".join(map(repr, spaces))
        yield f"tablespace {names} is not here to use: all goes to the database's own"


def _losses(plan: RestorePlan) -> Any:
    if not plan.replaces:
        return ()
    with connection.session(plan.target, read_only=True, purpose="db.restore") as conn:
        return losses(conn, plan.backup)
