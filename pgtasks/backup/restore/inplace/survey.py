"""Make the plan of a restore in place, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pgtasks import report
from pgtasks.backup.restore import masked, preflight, remarks
from pgtasks.backup.restore.inplace import clear
from pgtasks.backup.restore.inplace import standing as live
from pgtasks.backup.restore.inplace.plan import InPlacePlan
from pgtasks.backup.restore.inplace.standing import Standing
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.plan import RestorePlan, losses
from pgtasks.backup.restore.survey import draft
from pgtasks.backup.store.backup import Backup
from pgtasks.database import attached, obstacles
from pgtasks.database.leaving import LeftOut
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Refused
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry

_SHOWN = 9
_PER_TABLE = 3  # locks of a new table: itself, its TOAST table, the index of that
_ABOUT = ("ACL", "COMMENT", "SECURITY LABEL")
_RELATIONS = ("INDEX", "CONSTRAINT", "SEQUENCE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")


def make_plan(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    archive: Sequence[Entry],
    beside: Leftovers,
) -> InPlacePlan:
    """Return the plan, raising Refused with all obstacles."""
    conn, target = lock.connection, lock.target
    if beside.missing or beside.invalid:
        raise Refused(f"{target} does not exist: --in-place replaces the content of one that does")
    with connection.session(target, read_only=True, purpose="db.restore") as session:
        kept = live.kept_extensions(session)
    base, others = draft(lock, host, backup, options, archive, beside, kept=kept)
    if base.rights.superuser:
        raise Refused(
            f"--in-place is for roles that may not create databases, {base.rights.user!r} may: "
            f"{typed.task('db.restore')} without it keeps what it replaces, for db.undo"
        )
    if base.left.checks:
        raise Refused(
            f"--leave-out {str(base.left.checks[0])!r}: its table is made with it; without "
            "--in-place a restore drops it before the rows come"
        )
    base = replace(base, target=replace(target, role=base.rights.role), jobs=1)
    with connection.session(base.target, read_only=True, purpose="db.restore") as session:
        standing = live.read(session)
        existing = _existing(base.left.kept(archive), standing)
        numbers = {entry.number for entry in existing}
        entries = tuple(e for e in base.left.kept(archive) if e.number not in numbers)
        base = _without(base, numbers)
        free = obstacles.free_bytes(conn, target, host)
        lines = _obstacles(base, standing, entries, conn, free)
        obstacles.refuse("restore", lines)
        base = replace(base, losses=losses(session, backup))
    plan = InPlacePlan(base, standing, entries, existing, backs_up=options.backup_first)
    said = (*remarks.notes(conn, base, free, host), *others, *_notes(plan, lock))
    return replace(plan, notes=said)


def _without(base: RestorePlan, numbers: set[int]) -> RestorePlan:
    """Return the plan without what exists; it is not named as something that is missing."""
    return replace(base, left=LeftOut(base.left.names, base.left.numbers | numbers))


def _existing(archive: Sequence[Entry], standing: Standing) -> tuple[Entry, ...]:
    """Return the entries of what stays in the database, with what only its owner may do."""
    extensions = {name for name, _ in standing.extensions}
    schemas = standing.remaining_schemas
    return tuple(entry for entry in archive if _stands(entry, standing, extensions, schemas))


def _stands(
    entry: Entry, standing: Standing, extensions: set[str], schemas: dict[str, live.Schema]
) -> bool:
    if entry.desc == "EXTENSION":
        return entry.tag in extensions
    if entry.desc == "SCHEMA":
        return entry.tag in schemas and not entry.definition.startswith(b"-- *not* ")
    if entry.desc in ("TABLE DATA", "SEQUENCE SET"):
        return (entry.namespace, entry.tag) in standing.of_extensions
    if entry.desc in _ABOUT:
        kind, _, name = entry.tag.partition(" ")
        name = name.strip('"').replace('""', '"')
        if kind == "EXTENSION":
            return name in extensions
        return kind == "SCHEMA" and name in schemas and not schemas[name].own
    return False


def _obstacles(
    plan: RestorePlan,
    standing: Standing,
    entries: Sequence[Entry],
    conn: Connection,
    free: int | None,
) -> Iterator[str]:
    name, manifest = plan.target.database, plan.backup.manifest
    yield from obstacles.membership(conn, plan.target, plan.facts.owner)
    yield from preflight.demanded(plan)
    yield from preflight.roles(conn, plan)
    yield from preflight.extensions(conn, plan)
    yield from _of_others(standing)
    for identity in clear.unknown(standing):
        yield f"{identity} is of a kind that is not dropped here: drop it first"
    attachments = attached.read(conn, name)
    for subscription in attachments.subscriptions:
        yield f"subscription {subscription.name!r} of {name!r} writes there: drop it first"
    if attachments.prepared:
        names = ", ".join(map(repr, attachments.prepared))
        yield f"prepared transactions in {name!r} hold locks ({names}): finish them first"
    encoding = plan.backup.database().encoding
    if encoding not in ("", _encoding(conn, name)):
        yield (
            f"the backup has encoding {encoding}, {name!r} has {_encoding(conn, name)}: a database "
            "keeps its encoding"
        )
    if standing.large[1] and any(entry.desc.startswith("BLOB") for entry in entries):
        number = report.plural(standing.large[1], "large object")
        yield f"{number} in {name!r} of other roles could not be told from those of the backup"
    yield from _locks(conn, standing, entries)
    yield from obstacles.disk(free, manifest.database_bytes)


def _of_others(standing: Standing) -> Iterator[str]:
    """Yield what others have made that depends on what would go."""
    for what, owner in standing.dependent[:_SHOWN]:
        yield f"{what} is of role {owner!r} and depends on what would be dropped"
    if (more := len(standing.dependent) - _SHOWN) > 0:
        yield f"and {report.plural(more, 'more object')} of other roles depend on it"


def _encoding(conn: Connection, name: str) -> str:
    query = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s"
    return connection.value(conn, query, (name,), into=str)


def _locks(conn: Connection, standing: Standing, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield whether one transaction could not hold the locks of all that goes and comes."""
    new = sum(_PER_TABLE if e.desc == "TABLE" else e.desc in _RELATIONS for e in entries)
    large = standing.large[0] + sum(entry.desc == "BLOB" for entry in entries)
    needed, room = standing.relations + new + large, catalog.lock_room(conn)
    if needed > room:
        yield (
            f"one transaction would hold about {needed:,} locks, the server has room for {room:,}: "
            "raise max_locks_per_transaction"
        )


def _notes(plan: InPlacePlan, lock: Lock) -> Iterator[str]:
    base, target = plan.base, plan.target
    if obstacles.may_create(lock.connection):
        yield (
            f"{base.rights.user!r} may create databases: without --in-place what is replaced is "
            "kept for db.undo"
        )
    if base.backup.manifest.environment != target.environment and not target.protected:
        yield masked.AS_IT_IS
    if rows := [e for e in plan.existing if e.desc == "TABLE DATA"]:
        yield f"rows of {rows[0].tag!r} stay: its extension does"
    if slots := attached.read(lock.connection, target.database).slots:
        names = ", ".join(slot.name for slot in slots)
        yield f"replication slot {names} gets all of it as changes"
    if base.backup.proof() is None:
        yield "the backup has no proof: what is loaded cannot be compared before the commit"
