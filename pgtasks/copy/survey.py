"""Collect everything that a copy needs, and refuse what would stop it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pgtasks.copy import schema, template, way
from pgtasks.copy.hosts import rows_way
from pgtasks.copy.mask import coverage
from pgtasks.copy.mask.masking import Masking
from pgtasks.copy.options import CopyOptions
from pgtasks.copy.part import selection as parts
from pgtasks.copy.part.selection import Part
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.snapshot import Snapshot
from pgtasks.copy.template import Candidate
from pgtasks.database import demands, leaving, obstacles, properties, replaced, side
from pgtasks.database.obstacles import Change
from pgtasks.database.properties import DatabaseProperties
from pgtasks.database.recover import Leftovers
from pgtasks.database.rights import LoadRequest, Rights, decide, roles
from pgtasks.errors import Refused, VersionMismatch
from pgtasks.host import tools
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe
from pgtasks.server.dump.source import Source, look
from pgtasks.server.identity import Identity, identify, refuse_other, system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry
from pgtasks.server.reach import Origin
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Itself:
    """The target of a copy that keeps its schema, and its identity."""

    target: Target
    allowed: Identity


def make_plan(
    source: Origin | Itself,
    lock: Lock,
    host: Host,
    options: CopyOptions,
    beside: Leftovers,
    *,
    more: Iterable[str] = (),
    needed: int | None = None,
) -> CopyPlan:
    """Return the plan of a copy, raising for obstacles and `more`, without changing anything.

    `host` is that of the target; `needed` are the bytes of the result, if not those of the source.
    """
    target, conn = lock.target, lock.connection
    seen = _look(source, lock, options)
    plan = _draft(source, lock, host, options, seen)
    free = obstacles.free_bytes(conn, target, host)
    if free is not None:  # what an interrupted run left is dropped before anything is built
        free += sum(half.bytes or 0 for half in beside.half_built)
    of_way = way.obstacles(plan, conn, seen.candidate, seen.facts)
    of_plan = _obstacles(plan, conn, free, seen.versions, needed)
    obstacles.refuse("copy", [*more, *of_way, *of_plan])
    plan = way.chosen(plan, conn, seen.candidate, seen.facts)
    missing = _spaces(plan.archive) - _usable(conn, plan)
    return replace(plan, notes=tuple(_notes(plan, seen.facts.locale_of(), missing, free)))


@dataclass(frozen=True)
class _Seen:
    """What a session in the source has read."""

    part: Part
    source: Source
    facts: DatabaseProperties
    versions: dict[str, str]
    masking: Masking
    candidate: Candidate


def _look(source: Origin | Itself, lock: Lock, options: CopyOptions) -> _Seen:
    origin, target, conn = source.target, lock.target, lock.connection
    with connection.session(origin, read_only=True, purpose="db.copy") as reading:
        refuse_other(source.allowed, identify(reading), origin.database)
        if isinstance(source, Origin):
            refuse_same(reading, conn, origin, target)
            refuse_newer(reading, conn, origin, target)
        part = parts.part(reading, options.scope)
        looked = part.of(look(reading))
        return _Seen(
            part,
            looked,
            properties.read(reading, origin.database),
            catalog.extensions(reading),
            coverage.planned(reading, options.masks, encoding=looked.encoding, without=part.oids),
            template.look(reading, conn, origin.database, waits=options.template),
        )


def _draft(
    source: Origin | Itself, lock: Lock, host: Host, options: CopyOptions, seen: _Seen
) -> CopyPlan:
    """Return the plan before obstacles, notes and way."""
    origin, target, conn = source.target, lock.target, lock.connection
    encoding = seen.source.encoding
    major = conn.server_version // 10000
    toolset = tools.for_restore(tools.available(HERE, target), major, major, "none", target)
    archive = describe.described(
        origin, HERE, toolset, encoding=encoding, options=schema.schema_options(toolset)
    )
    facts = replace(_facts(conn, target, seen.facts, options), encoding=encoding)
    named, versions = seen.facts.roles, seen.versions
    rights = _rights(conn, target, named, facts.owner, options, archive, versions)
    plan = CopyPlan(
        source=origin,
        allowed=source.allowed,
        target=target,
        options=options,
        tools=toolset,
        origin=seen.source,
        facts=facts,
        replaced=(replaced.settled if options.delta else replaced.look)(conn, target.database),
        system=system_identifier(conn),
        major=major,
        run=side.new_run_id(conn, target),
        rights=rights,
        archive=archive,
        absent=leaving.absent(conn, archive) if rights.mapped else frozenset(),
        part=seen.part,
        masking=seen.masking,
        rows_way=rows_way(origin, target, host, major=major, limited=options.rate is not None),
    )
    return replace(plan, no_tablespaces=_usable(conn, plan) != _spaces(archive))


def _facts(
    conn: Connection, target: Target, source: DatabaseProperties, options: CopyOptions
) -> DatabaseProperties:
    """Return the target's own properties, or those of a new database for the source's content."""
    if properties.owner(conn, target.database):
        return properties.read(conn, target.database)
    return properties.of_new(conn, target.database, source, owner=_owner(conn, source, options))


def _owner(conn: Connection, source: DatabaseProperties, options: CopyOptions) -> str:
    """Return the owner of a new database: the connecting role, or a plain one for a superuser."""
    user = connection.value(conn, "SELECT current_user", into=str)
    known = roles(conn, [user, source.owner])
    other = known.get(source.owner)
    if known[user].superuser and other and not other.superuser and not options.no_owner:
        return other.name
    return user


def revise(plan: CopyPlan, conn: Connection, source: Snapshot) -> None:
    """Raise Refused if the source's schema in its snapshot needs other rights than in the plan.

    `conn` is in the target's maintenance database.
    """
    versions = catalog.extensions(source.exporter)
    named = properties.read(source.exporter, plan.source.database).roles
    rights = _rights(
        *(conn, plan.target, named, plan.facts.owner, plan.options, source.archive, versions)
    )
    if rights != plan.rights:
        raise Refused(
            "the source was altered since the plan was shown, and needs other rights or roles now: "
            "run it again"
        )
    obstacles.refuse("copy", obstacles.extensions(conn, versions))


def refuse_same(reading: Connection, conn: Connection, origin: Target, target: Target) -> None:
    """Raise Refused if source and target are one database, whatever their names and addresses."""
    same_server = system_identifier(reading) == system_identifier(conn)
    name = connection.value(reading, "SELECT current_database()", into=str)
    if same_server and name == target.database:
        raise Refused(f"source and target are one database: {origin} and {target}")


def refuse_newer(reading: Connection, conn: Connection, origin: Target, target: Target) -> None:
    """Raise VersionMismatch if the source has a newer major version than the target."""
    older, newer = conn.server_version // 10000, reading.server_version // 10000
    if newer > older:
        raise VersionMismatch(
            f"{origin} is PostgreSQL {newer} and {target} is {older}: a copy goes into the "
            "same or a newer version"
        )


def _rights(
    conn: Connection,
    target: Target,
    named: Sequence[str],
    owner: str,
    options: CopyOptions,
    archive: Sequence[Entry],
    versions: Iterable[str],
) -> Rights:
    """Return the rights of the load: owners and grants are kept only where all roles exist."""
    of_entries = (role for _, roles in leaving.of_roles(archive) for role in roles)
    request = LoadRequest(
        owner=owner,
        roles=tuple(sorted({*named, *of_entries})),
        owners=tuple(sorted({entry.owner for entry in archive if leaving.is_own(entry.owner)})),
        own=False,
        elsewhere=not target.protected,
        no_owner=options.no_owner,
        keep_owners=options.keep_owners,
        as_superuser=options.as_superuser,
    )
    return decide(
        conn,
        request,
        lambda grants: demands.demanding(conn, target, versions, archive, grants=grants),
    )


def _spaces(archive: Iterable[Entry]) -> set[str]:
    return {entry.rest[0] for entry in archive if entry.rest} - {""}


def _usable(conn: Connection, plan: CopyPlan) -> set[str]:
    """Return the tablespaces of the source that exist and that the role of the load may use."""
    query = (
        "SELECT spcname FROM pg_tablespace WHERE spcname = ANY(%s)"
        " AND has_tablespace_privilege(%s, oid, 'CREATE')"
    )
    role = plan.rights.role or plan.rights.user
    return set(connection.rows(conn, query, (list(_spaces(plan.archive)), role), into=str))


def of_masks(masking: Masking, options: CopyOptions) -> Iterator[str]:
    """Yield that masks need a proof, if there is none."""
    if masking.masked and not options.proof:
        yield "without its proof nobody knows whether the masks changed the values: omit --no-proof"


def of_mappings(archive: Iterable[Entry], masking: Masking) -> Iterator[str]:
    """Yield that masks leave what holds passwords out, if the archive of the source has any."""
    if not masking.without_user_mappings:
        return
    kinds = {entry.desc for entry in archive if schema.has_password(entry)}
    if "USER MAPPING" in kinds:
        yield "without user mappings that have options, which hold passwords"
    if "SUBSCRIPTION" in kinds:
        yield "without subscriptions, which hold passwords"


def _obstacles(
    plan: CopyPlan,
    conn: Connection,
    free: int | None,
    versions: dict[str, str],
    needed: int | None,
) -> Iterator[str]:
    """Yield one line for each obstacle, with the way out."""
    yield from of_masks(plan.masking, plan.options)
    yield from plan.part.obstacles
    for table in _dependents(plan)[0]:
        yield f"{table} depends on a table that is left out: leave it out too, with --exclude"
    yield from obstacles.rights(conn, plan.target, plan.facts.owner)
    rights = plan.rights
    if not plan.options.as_superuser:
        for need in rights.needs:
            yield f"{need}{', or --as-superuser' if rights.superuser else ''}"
    for role in rights.absent:
        yield (
            f"role {role!r} of the source does not exist here: create it, or leave owners and "
            "grants out with --no-owner"
        )
    for owner in rights.not_mine:
        yield (
            f"role {owner!r} owns objects in the source and this role is no member of it: "
            "grant membership, or leave owners and grants out with --no-owner"
        )
    yield from obstacles.of_server(
        conn,
        Change(
            *(plan.target, plan.facts, plan.origin.bytes if needed is None else needed, free),
            replaces=plan.replaced is not None,
            leave_behind=plan.options.leave_behind,
            extensions=versions,
        ),
    )


def _dependents(plan: CopyPlan) -> tuple[list[str], list[str]]:
    """Return the tables that depend on tables left out, and everything else that does."""
    numbers = plan.part.entries(plan.archive)
    if not numbers:
        return [], []
    left = leaving.left(plan.archive, (), numbers).numbers
    return plan.part.dependents(entry for entry in plan.archive if entry.number in left)


def _notes(
    plan: CopyPlan, locale: Sequence[str], missing: Collection[str], free: int | None
) -> Iterator[str]:
    for line in plan.rights.lines():
        yield line.replace("of the backup ", "of the source ").replace("in the backup", "there")
    if others := _dependents(plan)[1]:
        yield f"without what depends on tables left out: {', '.join(others)}"
    unusable = leaving.naming(plan.archive, plan.absent)
    if left := leaving.left(plan.archive, (), unusable).names:
        yield f"without {', '.join(left)}: the role does not exist here"
    yield from of_mappings(plan.archive, plan.masking)
    if plan.rows_way.note and plan.way == "rows":
        yield plan.rows_way.note
    if plan.origin.major != plan.major:
        yield f"the source is PostgreSQL {plan.origin.major}, the target {plan.major}"
    if tuple(locale) != tuple(plan.facts.locale_of()):
        yield "the locales of source and target differ: sort orders may, too"
    if missing:
        names = ", ".join(map(repr, sorted(missing)))
        yield f"tablespace {names} is not here to use: all goes to the database's own"
    if plan.origin.unlogged:
        yield "the rows of unlogged tables are missing: a standby does not have them"
    if free is None:
        yield "the free space of the server's disk cannot be known from here"
