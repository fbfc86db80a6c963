"""Run a drill from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from psycopg2 import sql

from pgtasks import report
from pgtasks.backup.drill import amcheck, assertions, roles
from pgtasks.backup.drill.assertions import Asserted, Assertion
from pgtasks.backup.drill.outcome import Drilled
from pgtasks.backup.drill.place import Place, refuse_source
from pgtasks.backup.restore import load, perform
from pgtasks.backup.restore.build import build, clear
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.prove import Proven
from pgtasks.backup.restore.survey import make_plan
from pgtasks.backup.store.backup import Backup, reading
from pgtasks.backup.store.faults import Dropped
from pgtasks.database import loader, properties, recover
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import journal
from pgtasks.host.base import Host
from pgtasks.report import CONSOLE, Console, account
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_READS_ALL = "pg_read_all_data"


@dataclass(frozen=True)
class Rehearsal:
    """A backup that was restored and proven; its database is still there."""

    plan: RestorePlan
    proven: Proven
    unproven: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def drill(
    place: Place,
    backup: Backup,
    kept: Backup,
    options: RestoreOptions,
    checks: Sequence[Assertion],
    *,
    console: Console,
) -> Drilled:
    """Restore a backup into a disposable database, prove it, run the assertions, and drop it.

    The result is recorded beside `kept`, of which `backup` may be a copy. Raises NotProven if the
    restore is not what the backup's proof says; of findings, the result knows.
    """
    began, reached = time.monotonic(), place.reached
    assert reached is not None
    with reached.lock("backup.drill") as lock, _recorded(kept), reading(kept):
        refuse_source(lock.connection, backup.manifest, place.words)
        for line in recover.sweep(lock):
            console.say(line)
        built = restored(place, lock, reached.host, backup, options, console)
        try:
            boundary("drill.restored")
            asserted = _asserted(place, built.plan, checks, console)
            boundary("drill.asserted")
            superuser, side = place.superuser, built.plan.side
            checked = amcheck.run(superuser, reached.host, side, jobs=options.jobs)
            boundary("drill.checked")
        finally:
            clear(built.plan, lock)
        boundary("drill.dropped")
    seconds = time.monotonic() - began
    done = Drilled(
        kept,
        place.words,
        built.proven,
        built.unproven,
        built.notes,
        asserted,
        checked,
        built.seconds,
        seconds,
    )
    _record(done)
    return done


@contextmanager
def _recorded(backup: Backup) -> Iterator[None]:
    """Record beside the backup that its drill failed, if the block raises that it did.

    What was refused, or could not be reached, is no result of a drill.
    """
    try:
        with telling(lambda: "no result of the drill was recorded"):
            yield
    except NotProven as exc:
        _record_failure(backup, exc.message, proven=None, proven_by="")
        raise
    except Dropped:
        raise
    except Failed as exc:
        _record_failure(backup, exc.message)
        raise


def _record_failure(backup: Backup, failure: str, **more: str | None) -> None:
    backup.record(failed=journal.now(), failure=failure, **more)


def _record(done: Drilled) -> None:
    if done.faults:
        _record_failure(done.backup, "; ".join(done.faults), proven=None, proven_by="")
    elif done.compared:
        now, took = journal.now(), round(done.recovery, 3)
        proven = {"proven": now, "proven_by": account.who()}
        done.backup.record(**proven, drilled=now, recovery=took, failed=None, failure="")


def restored(
    place: Place, lock: Lock, host: Host, backup: Backup, options: RestoreOptions, console: Console
) -> Rehearsal:
    """Restore and prove the backup as db.restore does, up to the swap."""
    began = time.monotonic()
    archive = perform.checked(lock, host, backup, options, console)
    if place.own and place.superuser:
        as_superuser = options.as_superuser
        roles.create(place.superuser, backup, archive, as_superuser=as_superuser)
    plan, notes = _planned(place, lock, host, backup, options, archive)
    for note in plan.notes:
        console.say(f"note     {note}")
    noting = _Noting(console.quiet, console)
    try:
        proven = _built(plan, lock, host, noting)
    except load.Denied as exc:
        if plan.no_owner:
            raise _without_flag(exc, place, options) from None
        console.say(f"once more, without owners and grants: {exc.message}")
        began = time.monotonic()
        owned_by_one = replace(options, no_owner=True)
        plan, notes = _planned(place, lock, host, backup, owned_by_one, archive)
        notes = (f"owners and grants, which were left out: {exc.message}", *notes)
        noting = _Noting(console.quiet, console)
        try:
            proven = _built(plan, lock, host, noting)
        except load.Denied as denied:
            raise _without_flag(denied, place, options) from None
    unproven = (*notes, *noting.left, *proven.unproven)
    return Rehearsal(plan, proven, unproven, notes, time.monotonic() - began)


def _built(plan: RestorePlan, lock: Lock, host: Host, console: Console) -> Proven:
    """Build and prove the disposable database, or drop it."""
    try:
        return build(plan, lock, host, console)
    except BaseException as exc:
        clear(plan, lock)
        if type(exc) is Failed:  # a drill leaves nothing out
            words = exc.message.replace(": --leave-out", ": db.restore --leave-out", 1)
            raise Failed(words, hint=exc.hint) from None
        raise


@dataclass(frozen=True)
class _Noting(Console):
    """A console that remembers which properties of the database were left behind."""

    heard: Console = CONSOLE  # the one that prints
    left: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        if line.startswith("left behind: "):
            self.left.append(line)
        self.heard.say(line)


def _planned(
    place: Place,
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    archive: list[Entry],
) -> tuple[RestorePlan, tuple[str, ...]]:
    """Return the plan of a new database beside that of the place, and what it cannot prove.

    Where owners and grants cannot be restored, they are left out.
    """
    conn, notes = lock.connection, []
    # the database of the place stays as it is, as if there were none
    beside = replace(recover.look(conn, lock.target), missing=True, invalid=False)
    try:
        plan = make_plan(lock, host, backup, options, archive, beside)
    except Refused as whole:
        owned_by_one = replace(options, no_owner=True)
        try:
            plan = make_plan(lock, host, backup, owned_by_one, archive, beside)
        except Refused:
            raise _with_way_out(whole, place, options) from None
        reason = "; ".join(whole.hint.splitlines()) or whole.message
        notes.append(f"owners and grants, which were left out: {reason}")
    facts = _with_locale_of_here(conn, plan.facts)
    if facts.locale_of() != plan.facts.locale_of():
        before, now = plan.facts.locale or plan.facts.collate, facts.collate
        notes.append(f"sort orders: locale {before!r} is not here, {now!r} was used")
    # of any origin: the assertions look names up with it, in sessions of a plain role
    path = (setting for setting in plan.withheld if setting.name == "search_path")
    facts = replace(facts, settings=(*facts.settings, *path))
    return replace(plan, facts=facts), tuple(notes)


def _without_flag(denied: load.Denied, place: Place, options: RestoreOptions) -> Failed:
    """Return the error of a load without owners and grants: there is no --no-owner here."""
    way = "a plain role may not restore it"
    if place.own and not options.as_superuser:
        way += ": --as-superuser runs the code in the backup as a superuser of that server"
    return Failed(f"pg_restore failed, {way}", hint=denied.hint)


def _with_way_out(refused: Refused, place: Place, options: RestoreOptions) -> Refused:
    if not place.own or options.as_superuser:
        return refused
    words, ways = f"{refused.message}\n{refused.hint}", []
    if "superuser" in words:
        ways.append("--as-superuser runs the code in the backup as a superuser of that server")
    if "disk" in words:
        ways.append("TMPDIR names the folder for the data of that server")
    return Refused(refused.message, hint="\n".join(filter(None, (refused.hint, *ways))))


def _with_locale_of_here(conn: Connection, facts: DatabaseProperties) -> DatabaseProperties:
    """Return the properties with the server's own locale, if it lacks that of the backup."""
    ctype = replace(facts, collate=facts.ctype, provider="libc")
    if properties.has_locale(conn, facts) and properties.has_locale(conn, ctype):
        return facts
    here = properties.read(conn, "template0")
    locale = here.collate if here.encoding == facts.encoding and here.provider == "libc" else "C"
    facts = replace(facts, collate=locale, ctype=locale, provider="libc")
    return replace(facts, locale="", icu_rules="")


def _asserted(
    place: Place, plan: RestorePlan, checks: Sequence[Assertion], console: Console
) -> tuple[Asserted, ...]:
    if not checks:
        console.say("no assertions: there is no file in sql/drill")
        return ()
    with _reader(place, plan, console) as target:
        done = assertions.run(checks, target)
    for each in done:
        if each.holds:  # the result says of each other one what it has found
            console.say(f"holds in {report.duration(each.seconds)}: {each.name}")
    return done


@contextmanager
def _reader(place: Place, plan: RestorePlan, console: Console) -> Iterator[Target]:
    """Yield the restored database for a plain role that can read all of it.

    Code of the backup may run in its sessions, so that a superuser's must not be lent.
    """
    if not (place.superuser or plan.rights.superuser):
        yield plan.loading
        return
    admin = replace(place.superuser or plan.target, database=plan.target.database)
    role = _READS_ALL if place.superuser else plan.rights.role or _READS_ALL
    with connection.session(admin.at(admin.maintenance), purpose="backup.drill") as conn:
        grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}")
        names = map(sql.Identifier, (plan.side, role))
        connection.execute(conn, grant.format(*names))
        login = loader.login_or_refuse(
            *(conn, admin, plan.side, plan.run, role), say=console.say, reads_all=True
        )
        with login as entered:
            yield entered.at(plan.side)
