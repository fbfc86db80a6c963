"""A restore from beginning to end, or its plan alone."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import (
    attached,
    connection,
    database,
    drop,
    forget,
    loader,
    recover,
    report,
    room,
    side,
    stamp,
    swap,
    tools,
)
from pgtasks.backup import depot, transfer, verify
from pgtasks.backup.store import Backup
from pgtasks.connection import Connection
from pgtasks.database import DatabaseFacts, Setting
from pgtasks.errors import Failed, Refused
from pgtasks.forget import Trimmed
from pgtasks.host import Host
from pgtasks.lock import Lock
from pgtasks.proof.toc import Entry
from pgtasks.restore import demands, leaving, load, preflight, prove, trying
from pgtasks.restore.plan import Plan, losses
from pgtasks.restore.prove import Proven
from pgtasks.restore.rights import Rights, Wish, decide
from pgtasks.restore.rights import roles as known_roles
from pgtasks.stamp import Stamp
from pgtasks.steps import reach
from pgtasks.swap import Swapped
from pgtasks.target import Target

Say = Callable[[str], None]
Archive = Sequence[Entry]


@dataclass(frozen=True)
class Options:
    """What the command line says of a restore."""

    jobs: int
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    leave_behind: bool = False
    accept: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    with_settings: bool = False
    known: bool = True  # the backup was made here, by the project's journal


@dataclass(frozen=True)
class Outcome:
    """What a restore did."""

    plan: Plan
    proven: Proven
    swapped: Swapped
    trimmed: Trimmed
    disabled: tuple[str, ...]  # subscriptions, as pg_dump saves them
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person reads."""
        plan = self.plan
        swapped = f"{self.proven.sentence()}, swapped in {report.duration(self.swapped.seconds)}"
        lines = [f"restored {plan.target.database!r} from {plan.origin}: {swapped}"]
        lines += [f"left out, and missing there until made: {it}" for it in plan.left.names]
        if self.swapped.kept:
            lines.append(f"the old one is kept as {self.swapped.kept!r}: inv db.undo takes it back")
        else:
            lines.append("there was no such database before, so there is nothing to undo")
        for name in self.disabled:
            way = "docs/restore.md says how it goes on"
            lines.append(f"subscription {name!r} is disabled, as pg_dump saves it: {way}")
        return [*lines, *self.trimmed.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return {
            **self.plan.as_json(),
            "tables": self.plan.backup.manifest.tables,
            "rows_restored": self.plan.backup.manifest.rows,
            "proven": self.proven.comparison is not None,
            "sentence": self.proven.sentence(),
            "unproven": list(self.proven.unproven),
            "accepted": [str(each) for each in self.proven.accepted],
            "owner": self.plan.facts.owner,
            "kept": self.swapped.kept,
            "swap_seconds": round(self.swapped.seconds, 4),
            **self.trimmed.as_json(),
            "disabled_subscriptions": list(self.disabled),
            "seconds": round(self.seconds, 3),
        }


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
        known=options.known,
        own=options.known and backup.manifest.environment == target.environment,
        withheld=withheld,
        left=leaving.left(archive, options.leave_out, _unusable(conn, rights, archive)),
        archive=archive,
        no_tablespaces=bool(spaces),
    )
    free = preflight.free_bytes(conn, target, host)
    if free is not None:  # what an interrupted run left goes before anything is built
        free += sum(half.bytes or 0 for half in beside.half_built)
    notes = [*_notes(conn, plan, free, host), *_not_here(spaces)]
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
    owner = database.owner(conn, target.database) if replaces else saved.owner
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


def _at_hand(plan: Plan, host: Host) -> bool:
    """Return whether the backup lies where pg_restore runs."""
    return plan.backup.host == host


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
        own = database.read(conn, target.database)
        return replace(own, encoding=saved.encoding), ()
    facts = replace(saved, name=target.database)
    if rights.mapped:
        settings = tuple(setting for setting in saved.settings if not setting.role)
        facts = replace(facts, owner=rights.owner, grants=None, settings=settings)
    if options.known or options.with_settings:
        return facts, ()
    laid = tuple(setting for setting in facts.settings if not database.leads(setting))
    return replace(facts, settings=laid), tuple(filter(database.leads, facts.settings))


def _notes(conn: Connection, plan: Plan, free: int | None, host: Host) -> list[str]:
    notes = []
    if not _at_hand(plan, host):
        notes.append(f"{report.size(plan.backup.manifest.size)} go to {host.name} first")
    if not plan.known:
        notes.append(
            "no run of this project made this backup, by its journal: restoring it runs what its "
            f"maker wrote (to look first: pg_restore -f - {shlex.quote(str(plan.dump))} | less)"
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


def restore(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: Options,
    *,
    say: Say,
    ask: Callable[[], None],
    dry: bool = False,
) -> Outcome | Plan:
    """Restore a backup into the lock's target; with `dry` return the plan.

    `ask` is called between the plan and the first thing that is written. Raises NotProven where
    backup or result is not what was saved; the target is then untouched.
    """
    began = time.monotonic()
    target, conn = lock.target, lock.connection
    beside = recover.look(conn, target)
    replaces = not (beside.missing or beside.invalid)
    # beside the lock: pg_restore's or the proof's, one that describes, one that ends sessions
    needed = options.jobs + 3
    place = target.at(target.maintenance)
    room.check(conn, place, "the restore", within=0, besides=needed, jobs=options.jobs)
    if backup.host == host:  # else every byte is read on its way there
        intact = verify.verify(backup, host, read=False, jobs=options.jobs)
        files, size = report.plural(intact.files, "file"), report.size(intact.bytes)
        say(f"intact: {files}, {size}, read in {report.duration(intact.seconds)}")
    archive = prove.archived(backup, options.accept)
    plan = make_plan(lock, host, backup, options, archive, replaces=replaces)
    if dry:
        untried = ", ".join(entry.tag for entry in _restored(plan) if entry.desc == "EXTENSION")
        notes = (f"not tried under --dry: CREATE EXTENSION {untried}",) if untried else ()
        return replace(plan, notes=(*plan.notes, *notes))
    for line in plan.lines():
        say(line)
    ask()
    for line in recover.heal(lock):
        say(line)
    reach("restore.checked")
    try:
        proven = _build(plan, lock, host, say)
        swapped = _swap(plan, lock)
    except BaseException:
        _clear(plan, lock)
        raise
    reach("restore.swapped")
    found = attached.read(conn, target.database).subscriptions
    disabled = tuple(each.name for each in found if not each.enabled)
    trimmed = forget.trim(lock)
    return Outcome(plan, proven, swapped, trimmed, disabled, time.monotonic() - began)


@contextmanager
def _brought(plan: Plan, lock: Lock, host: Host, say: Say) -> Iterator[Plan]:
    """Have the backup where pg_restore runs for the length of a block."""
    home = depot.of(plan.target)
    if _at_hand(plan, host) or home is None:
        yield plan
        return
    began, size = time.monotonic(), plan.backup.manifest.size
    with ExitStack() as stack:
        with report.Progress("send", size) as progress:
            lent = stack.enter_context(transfer.lent(plan.backup, home, progress=progress))
        seconds = report.duration(time.monotonic() - began)
        say(f"sent to {host.name}: {report.size(size)} in {seconds}, every byte as written")
        ready = replace(plan, dump=lent.dump)
        reach("restore.sent")
        yield ready


def _mark(plan: Plan) -> Stamp:
    return Stamp(
        plan.target.environment,
        plan.target.database,
        plan.system,
        origin=plan.origin,
        lacks="\n".join(plan.left.names),
        role="new",
        run=plan.run,
    )


def _build(plan: Plan, lock: Lock, host: Host, say: Say) -> Proven:
    """Build the side database and prove it."""
    conn = lock.connection
    _prepare(plan, conn, say)
    with _logged_in(plan, conn, say) as entered:
        preflight.refuse(trying.obstacles(entered))
        with _brought(entered, lock, host, say) as ready:
            return _filled(ready, lock, host, say)


@contextmanager
def _logged_in(plan: Plan, conn: Connection, say: Say) -> Iterator[Plan]:
    """Give the load a login of its own where a superuser's connection is to be kept from it."""
    if not plan.rights.held:
        yield plan
        return
    with ExitStack() as stack:
        try:
            login = loader.login(conn, plan.target, plan.side, plan.run, plan.rights.role)
            ready = replace(plan, login=stack.enter_context(login))
        except loader.NoLogin as exc:
            if not plan.own:
                raise Refused(
                    f"a load as {plan.rights.role!r} alone needs a way in for a role of its own "
                    f"({exc.message}): connect as that role (`user`), or let it have the rights "
                    "of a superuser with --as-superuser"
                ) from None
            say(f"note: the load takes {plan.rights.role!r}'s role by SET ROLE: {exc.message}")
            ready = plan
        yield ready


def _filled(plan: Plan, lock: Lock, host: Host, say: Say) -> Proven:
    """Load the side database and prove it."""
    conn = lock.connection
    began = time.monotonic()
    try:
        load.run_restore(plan, host, conn)
    except load.Deadlocked as exc:
        if plan.jobs == 1:
            raise
        say(f"{exc.message}: once more with one job")
        drop.drop(conn, plan.target, plan.side)
        _prepare(plan, conn, say)
        load.run_restore(replace(plan, jobs=1), host, conn)
    say(f"loaded in {report.duration(time.monotonic() - began)}")
    began = time.monotonic()
    proven = prove.prove(plan, host, _restored(plan), lambda: _anew(plan, lock, host))
    say(f"proven in {report.duration(time.monotonic() - began)}: {proven.sentence()}")
    for line in proven.unproven:
        say(f"  not proven: {line}")
    for each in proven.accepted:
        say(f"  accepted: {each}")
    for name in proven.unused:
        say(f"  --accept {name!r}: nothing of that name differs")
    reach("restore.proven")
    return proven


def _restored(plan: Plan) -> list[Entry]:
    """Return the archive's entries as they are restored."""
    kept = plan.left.kept(plan.archive)
    if not plan.no_tablespaces:
        return kept
    return [replace(entry, rest=("", *entry.rest[1:])) for entry in kept]


def _prepare(plan: Plan, conn: Connection, say: Say) -> None:
    """Create the side database, ready for the load."""
    side.create(conn, plan.target, plan.facts, _mark(plan), owner=plan.facts.owner)
    _lay(plan, conn, say)


def _lay(plan: Plan, conn: Connection, say: Say) -> None:
    """Lay grants and settings on the side database, before the load that may need them."""
    statements = database.laying_statements(plan.side, plan.facts)
    for statement in statements:
        try:
            connection.execute(conn, statement)
        except Failed as exc:
            text = statement.as_string(conn)
            if not plan.leave_behind:
                raise Refused(
                    f"cannot carry over: {text} ({exc.message}): run it as a role that may, "
                    "or go without with --leave-behind"
                ) from None
            say(f"left behind: {text} ({exc.message})")


def _anew(plan: Plan, lock: Lock, host: Host) -> list[Entry]:
    """Load the archive's schema into an empty database and return how the server prints it."""
    scratch = replace(plan, run=side.new_run_id(lock.connection, plan.target))
    try:
        _prepare(scratch, lock.connection, _silent)
        load.run_restore(scratch, host, lock.connection, schema_only=True)
        reach("restore.anew")
        return prove.described(scratch, host)
    finally:
        _clear(scratch, lock)


def _silent(line: str) -> None:
    """Say nothing."""


def _swap(plan: Plan, lock: Lock) -> Swapped:
    if plan.invalid:  # it cannot be renamed, and has no content that could be kept
        drop.drop_plainly(lock.connection, plan.target.database)
    return swap.swap_in(
        lock, plan.target, plan.side, _mark(plan), facts=plan.facts, replaces=plan.replaces
    )


def _clear(plan: Plan, lock: Lock) -> None:
    """Drop the side database of a run that failed; what cannot be dropped is left to recover."""
    try:
        drop.drop(lock.connection, plan.target, plan.side)
    except Failed as exc:
        report.say(f"warning: {plan.side!r} is left, inv db.recover drops it: {exc.message}")
    except Exception:
        report.say(f"warning: {plan.side!r} may be left, inv db.recover drops it")
