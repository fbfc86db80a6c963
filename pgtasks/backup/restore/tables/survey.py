"""Make the plan of a restore of single tables, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pgtasks import report
from pgtasks.backup.restore import masked, preflight
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.plan import Loss, RestorePlan, rows_now
from pgtasks.backup.restore.survey import draft
from pgtasks.backup.restore.tables import standing as live
from pgtasks.backup.restore.tables.choice import Choice, chosen, is_partitioned, name_of, nodes
from pgtasks.backup.restore.tables.plan import TablesPlan
from pgtasks.backup.restore.tables.standing import Standing
from pgtasks.backup.store.backup import Backup
from pgtasks.database import obstacles, properties, rights
from pgtasks.database.leaving import LeftOut
from pgtasks.database.recover import Leftovers
from pgtasks.errors import Refused
from pgtasks.host.base import Host
from pgtasks.report import typed
from pgtasks.server import catalog, connection
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.proof import Proof, TableProof, entries
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified, quoted

_KINDS = {"r": "a table", "p": "a partitioned table", "v": "a view", "m": "a materialized view"}
# what an entry needs, by its kind, and the function that finds it by name
_FINDERS = {
    **dict.fromkeys(("TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX"), "to_regclass"),
    **dict.fromkeys(("TYPE", "DOMAIN"), "to_regtype"),
    **dict.fromkeys(("FUNCTION", "PROCEDURE"), "to_regprocedure"),
    "EXTENSION": "extension",
}
_UNSEEN = "not looked at under --dry: the types of columns, and rows that a foreign key would miss"


def make_plan(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    archive: Sequence[Entry],
    beside: Leftovers,
) -> TablesPlan:
    """Return the plan, raising Refused with all obstacles."""
    conn, target = lock.connection, lock.target
    if beside.missing or beside.invalid:
        whole = typed.task("db.restore")
        raise Refused(f"{target} does not exist: {whole} without --only-table creates it")
    choice = chosen(conn, archive, options.only_tables)
    base = _base(lock, host, backup, options, choice, beside)
    with connection.session(target, read_only=True, purpose="db.restore") as session:
        standing = live.read(session, choice.names)
        made = tuple(each for each in choice.tables if standing.find(name_of(each)) is None)
        known = {name_of(each) for each in choice.tables}
        extra = [each for each in standing.filled if (each.schema, each.name) not in known]
        plan = TablesPlan(
            base=base,
            choice=choice,
            standing=standing,
            made=made,
            role="",
            held=False,
            losses=(),
            extra=tuple(map(str, extra)),
            backs_up=options.backup_first,
            expected=_expected(backup.proof(), choice, standing),
        )
        lines = [*_of_base(plan, conn, options), *_of_tables(plan), *_missing(plan, session)]
        writer = _writer(plan, conn, session, options)
        obstacles.refuse("restore", [*lines, *writer.obstacles])
        plan = replace(plan, losses=tuple(_losses(plan, session)))
    plan = replace(plan, role=writer.role, held=writer.held)
    return replace(plan, notes=tuple(_notes(plan, options, host)))


def unlooked(plan: TablesPlan) -> TablesPlan:
    """Return a plan with a note on what only a run can look at."""
    return replace(plan, notes=(*plan.notes, _UNSEEN))


def _base(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    choice: Choice,
    beside: Leftovers,
) -> RestorePlan:
    """Return the plan of the side database, into which only what rows need is loaded."""
    conn, target = lock.connection, lock.target
    wanted = choice.loaded()
    owner = properties.owner(conn, target.database)
    # who owns what is in the side database does not matter, but it must not be a superuser
    plain = not rights.roles(conn, {owner})[owner].superuser
    options = replace(options, no_owner=options.no_owner or plain)
    part = [entry for entry in choice.archive if entry.number in wanted]
    plan, _ = draft(lock, host, backup, options, part, beside, whole=False)
    left = frozenset(entry.number for entry in choice.archive if entry.number not in wanted)
    return replace(
        plan, archive=choice.archive, left=LeftOut((), left), replaces=False, replaced=None
    )


def _expected(proof: Proof | None, choice: Choice, standing: Standing) -> Proof | None:
    """Return the part of the proof that is about the tables; live partitions alone become empty."""
    if proof is None:
        return None
    names = {name_of(entry) for entry in choice.filled}
    tables = [each for each in proof.tables if (each.schema, each.name) in names]
    known = {(each.schema, each.name) for each in tables} | names
    empty = [
        TableProof(each.schema, each.name, 0, "0")
        for each in standing.filled
        if (each.schema, each.name) not in known
    ]
    return replace(
        proof,
        tables=(*tables, *empty),
        sequences=(),
        extensions={},
        schema=None,
        large_objects=None,
        of_extensions={},
        unproven=tuple(
            each
            for each in proof.unproven
            if each.object in {f"table {qualified(*name)}" for name in names}
        ),
        computed={},
    )


def _of_base(plan: TablesPlan, conn: Connection, options: RestoreOptions) -> Iterator[str]:
    base = plan.base
    yield from obstacles.rights(conn, base.target, base.facts.owner)
    if not options.as_superuser:
        yield from preflight.demanded(base)
    yield from preflight.roles(conn, base)
    proof = base.backup.proof()
    loaded = {entry.tag for entry in base.left.kept(base.archive) if entry.desc == "EXTENSION"}
    versions = proof.extensions if proof else {}
    yield from obstacles.extensions(conn, {each: versions.get(each, "?") for each in loaded})


def _of_tables(plan: TablesPlan) -> Iterator[str]:
    """Yield what keeps a table from being replaced or created."""
    choice, standing = plan.choice, plan.standing
    with_rows = {name_of(each) for each in choice.archive if each.desc == "TABLE DATA"}
    for entry in choice.tables:
        name, here = qualified(*name_of(entry)), standing.find(name_of(entry))
        kind = "p" if is_partitioned(entry) else "r"
        if here is None:
            yield from _of_partition(plan, entry)
        elif here.extension:
            yield f"{name} belongs to an extension here, which fills it itself"
        elif here.kind != kind:
            now = _KINDS.get(here.kind, "something else")
            yield f"{name} is {_KINDS[kind]} in the backup, {now} in the database"
        if kind == "r" and name_of(entry) not in with_rows:
            yield f"the backup has no rows of {name}: they were left out"
    for each in standing.tables:
        if each.kind == "f":
            yield f"{each} is a foreign table: its rows are on another server"
    for constraint in standing.leading:
        if constraint.silent:
            yield (
                f"foreign key {constraint.key} is not enforced, a trigger of it is disabled: "
                "ENABLE TRIGGER ALL, or drop it, first"
            )


def _of_partition(plan: TablesPlan, entry: Entry) -> Iterator[str]:
    above = plan.choice.parent(entry)
    if above is not None and above not in plan.made:
        yield (
            f"partition {qualified(*name_of(entry))} of {qualified(*name_of(above))} does not exist"
            " here: create it, or restore the backup beside the database with --into"
        )


def _missing(plan: TablesPlan, session: Connection) -> Iterator[str]:
    """Yield what tables to create need and the database does not have."""
    choice = plan.choice
    for table in plan.made:
        parts = {each.number: each for each in choice.parts(table)}
        needed = {number for each in parts.values() for number in each.needs} - parts.keys()
        made = {number for each in plan.made for number in (p.number for p in choice.parts(each))}
        for number in sorted(needed - made):
            each = choice.by_number.get(number)
            if each is not None and not _is_here(session, each):
                name = entries.name((each.desc, each.namespace, each.tag))
                yield (
                    f"table {qualified(*name_of(table))} needs {name}, which is not here: "
                    "create it first"
                )


def _is_here(session: Connection, entry: Entry) -> bool:
    """Return whether the database has what an entry makes, as far as it can be looked up."""
    finder = _FINDERS.get(entry.desc)
    if finder is None:
        return True  # the server says so
    if finder == "extension":
        query = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = %s)"
        return connection.value(session, query, (entry.tag,), into=bool)
    signed = finder == "to_regprocedure"
    name, _, arguments = entry.tag.partition("(")
    text = qualified(entry.namespace, name if signed else entry.tag)
    text += f"({arguments}" if signed else ""
    query = f"SELECT {finder}(%s) IS NOT NULL"
    return connection.value(session, query, (text,), into=bool)


@dataclass(frozen=True)
class _Writer:
    role: str = ""
    held: bool = False
    obstacles: tuple[str, ...] = ()


def _writer(
    plan: TablesPlan, conn: Connection, session: Connection, options: RestoreOptions
) -> _Writer:
    """Return the role of the session that writes: the owner of the tables.

    `session` is in the target, `conn` in the maintenance database.
    """
    user, superuser = plan.base.rights.user, plan.base.rights.superuser
    owners = plan.standing.owners | ({plan.base.facts.owner} if plan.made else set())
    known = rights.roles(conn, owners)
    if superuser and options.as_superuser:
        return _Writer()
    if not superuser:
        lines = tuple(
            f"{owner!r} owns a table of these, or one that refers to them, and this role is no "
            "member of it"
            for owner in sorted(owners)
            if not known[owner].mine
        )
        one = next(iter(owners)) if len(owners) == 1 else ""
        return _Writer("" if one == user else one, obstacles=lines)
    if all(known[owner].superuser for owner in owners):
        return _Writer(
            obstacles=tuple(
                f"table {name} uses types or functions of a plain role, which would run with the "
                "rights of a superuser: --as-superuser lets them"
                for name in live.foreign_code(session, plan.standing)
            )
        )
    if len(owners) > 1:
        listed = ", ".join(map(repr, sorted(owners)))
        why = f"these tables, and those that refer to them, belong to {listed}: one session"
        why += " with the rights of one owner cannot write all, --as-superuser can"
        return _Writer(obstacles=(why,))
    return _Writer(next(iter(owners)), held=True)


def _losses(plan: TablesPlan, session: Connection) -> Iterator[Loss]:
    """Yield the rows of each table now and in the backup; `session` is in the target."""
    own = {str(each) for each in plan.standing.filled}
    relations = [each for each in catalog.relations(session, "r") if str(each) in own]
    now = rows_now(session, relations)
    saved = {str(each): each.rows for each in (plan.expected.tables if plan.expected else ())}
    for name in sorted({*own, *(qualified(*name_of(each)) for each in plan.choice.filled)}):
        rows, estimated = now.get(name, (None, False))
        yield Loss(name, rows, saved.get(name), estimated=estimated)


def _notes(plan: TablesPlan, options: RestoreOptions, host: Host) -> Iterator[str]:
    base = plan.base
    manifest, target = base.backup.manifest, plan.target
    if not base.at_hand(host):
        yield f"{report.size(manifest.size)} go to {host.name} first"
    if plan.made and base.doubt:
        yield f"{base.doubt}: what it defines for a new table runs here, as {_runs_as(plan)}"
    if plan.made:
        yield f"new tables belong to {_runs_as(plan)}"
    if manifest.environment != target.environment:
        yield f"the backup is of environment {manifest.environment!r}"
        if not target.protected:
            yield masked.AS_IT_IS
    if plan.standing.triggers:
        number = report.plural(len(plan.standing.triggers), "trigger")
        yield f"{number} of these tables do not fire"
    for name in plan.extra:
        yield f"partition {name} is not in the backup: it will be empty"
    for key in _keys_of_others(plan):
        yield f"foreign key {key} is not made again: that table is none of the new ones"
    if plan.expected is None or plan.expected.unproven:
        yield "the backup has no proof of all these rows: they are compared with what was loaded"


def _keys_of_others(plan: TablesPlan) -> Iterator[str]:
    """Yield the foreign keys of the backup that lead to new tables from others.

    Such a key went with the table that is created again, and belongs to another one.
    """
    made = {*map(name_of, plan.made)}
    for entry in plan.choice.archive:
        for node in nodes(entry)[:1] if made and entry.desc == "FK CONSTRAINT" else ():
            child = (node.relation.schemaname, node.relation.relname)
            for command in node.cmds:
                key = getattr(command.alter_table_cmd, "def").constraint
                parent = (key.pktable.schemaname, key.pktable.relname)
                if parent in made and child not in made:
                    names = qualified(*child), qualified(*parent)
                    yield f"{quoted(key.conname)} of {names[0]}, to {names[1]},"


def _runs_as(plan: TablesPlan) -> str:
    return repr(plan.role or plan.base.rights.user)
