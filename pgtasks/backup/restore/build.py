"""Create, load and prove the side database of a restore; drop it if that fails."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pgtasks import report
from pgtasks.backup.restore import counted, load, prove, trying
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.prove import Proven
from pgtasks.database import drop, intact, lay, loader, obstacles, side
from pgtasks.errors import Failed, Refused
from pgtasks.host.base import Host
from pgtasks.report import Console, Say, typed
from pgtasks.report.boundaries import boundary
from pgtasks.server.connection import Connection
from pgtasks.server.lock import Lock
from pgtasks.server.proof.early import EarlyReader
from pgtasks.server.proof.toc import Entry
from pgtasks.server.stamp import Stamp


def build(plan: RestorePlan, lock: Lock, host: Host, console: Console) -> Proven:
    """Build the side database and prove it."""
    conn = lock.connection
    prepare(plan, conn, console.say)
    # what a dump in SQL says of an object is several statements, which may end a transaction
    if not plan.script:
        with logged_in(plan, conn, console.say) as entered:
            obstacles.refuse("restore", trying.obstacles(entered))
    with brought(plan, host, console) as ready:
        return _filled(ready, lock, host, console)


@contextmanager
def logged_in(
    plan: RestorePlan, conn: Connection, say: Say, *, reads_all: bool = False
) -> Iterator[RestorePlan]:
    """Give the load its own login, if it must not have a superuser's connection."""
    if not plan.rights.held:
        yield plan
        return
    login = loader.login_or_refuse(
        *(conn, plan.target, plan.side, plan.run, plan.rights.role), say=say, reads_all=reads_all
    )
    with login as entered:
        yield replace(plan, login=entered)


@contextmanager
def brought(plan: RestorePlan, host: Host, console: Console) -> Iterator[RestorePlan]:
    """Copy the backup to the host of pg_restore for the length of a block, if it is elsewhere."""
    if plan.at_hand(host):
        yield plan
        return
    from pgtasks.backup.store import remote, transfer

    home = remote.of(host, plan.target.ssh)
    if home is None:
        yield plan
        return
    began, size = time.monotonic(), plan.backup.manifest.size
    with ExitStack() as stack:
        with console.progress("send", size) as progress:
            lent = stack.enter_context(transfer.lent(plan.backup, home, progress=progress))
        seconds = report.duration(time.monotonic() - began)
        console.say(f"sent to {host.name}: {report.size(size)} in {seconds}, every byte as written")
        ready = replace(plan, dump=lent.dump)
        boundary("restore.sent")
        yield ready


def _filled(plan: RestorePlan, lock: Lock, host: Host, console: Console) -> Proven:
    """Load the side database and prove it."""
    conn, say = lock.connection, console.say
    before = intact.look(conn, plan.side)
    began = time.monotonic()
    with logged_in(plan, conn, say) as entered:
        said, early = _load(entered, host, conn, console)
    say(f"loaded in {report.duration(time.monotonic() - began)}")
    began = time.monotonic()
    with logged_in(plan, conn, say, reads_all=_has_forced_policies(plan)) as entered:
        archive = restored_entries(plan)
        with console.progress("prove") as progress:
            if plan.foreign:
                proven = counted.prove(entered, plan.foreign, said, progress=progress)
            else:
                proven = prove.prove(
                    *(entered, host, archive, lambda: _anew(plan, lock, host)),
                    progress=progress,
                    early=early,
                )
    verb = "counted" if plan.foreign else "proven"
    say(f"{verb} in {report.duration(time.monotonic() - began)}: {proven.sentence()}")
    for line in () if plan.foreign else proven.unproven:  # the result says them
        say(f"  not proven: {line}")
    for each in proven.accepted:
        say(f"  accepted: {each}")
    for name in proven.unused:
        say(f"  --accept {name!r}: nothing of that name differs")
    for change in intact.put_back(conn, before) if before else ():
        say(f"  put back: {change}, which the load had changed")
    boundary("restore.proven")
    return proven


def _load(
    plan: RestorePlan, host: Host, conn: Connection, console: Console
) -> tuple[Sequence[str], EarlyReader | None]:
    """Load the side database; return what a dump in SQL had that was left out, and what was read.

    Tables are read for the proof as soon as their rows are in, where pg_restore names them.
    """
    if plan.script:
        from pgtasks.backup.restore import script

        said = script.run(plan, plan.script, host, conn, console)
        load.gather(plan, host)
        return said, None
    proof = plan.backup.proof() if plan.jobs > 1 and not plan.foreign else None
    try:
        if proof is None:
            load.run_restore(plan, host, conn, console)
            return (), None
        with EarlyReader(plan.loading, format=proof.format, purpose="db.restore") as early:
            load.run_restore(plan, host, conn, console, early=early)
        return (), early
    except load.Deadlocked as exc:
        if plan.jobs == 1:
            raise
        console.say(f"{exc.message}: once more with one job")
        drop.drop(conn, plan.target, plan.side)
        prepare(plan, conn, console.say)
        load.run_restore(replace(plan, jobs=1), host, conn, console)
        return (), None


def _has_forced_policies(plan: RestorePlan) -> bool:
    """Return whether row policies apply to a table's owner too."""
    return any(b"FORCE ROW LEVEL SECURITY" in entry.definition for entry in plan.archive)


def restored_entries(plan: RestorePlan) -> list[Entry]:
    """Return the archive entries that are restored."""
    kept = plan.role_map.entries(plan.left.kept(plan.archive))
    if not plan.no_tablespaces:
        return kept
    return [replace(entry, rest=("", *entry.rest[1:])) for entry in kept]


def prepare(plan: RestorePlan, conn: Connection, say: Say) -> None:
    """Create the side database, ready for the load."""
    try:
        side.create(conn, plan.target, plan.facts, mark(plan), owner=plan.facts.owner)
    except Failed as exc:
        raise _of_locale(exc, plan) from None
    lay.lay(
        *(conn, plan.target, plan.side, plan.facts),
        leave_behind=plan.leave_behind,
        purpose="db.restore",
        say=say,
    )


def _of_locale(failure: Failed, plan: RestorePlan) -> Failed | Refused:
    """Return the error of CREATE DATABASE, with a way out if the saved locale is missing."""
    named = re.search(r"locale|collat|\bICU\b", failure.message, re.IGNORECASE)
    if plan.replaces or not named:
        return failure
    create, drop_ = typed.task("db.create"), typed.task("db.drop")
    first = f"{drop_}, then {create}," if plan.invalid else create
    return Refused(
        f"the database's locale cannot be had here ({failure.message}): {first} makes the "
        f"database with this server's, then {typed.task('db.restore')} replaces its content"
    )


def _anew(plan: RestorePlan, lock: Lock, host: Host) -> list[Entry]:
    """Load the archive's schema into an empty database and return how pg_dump prints it."""
    scratch = replace(plan, run=side.new_run_id(lock.connection, plan.target))
    try:
        prepare(scratch, lock.connection, _silent)
        with logged_in(scratch, lock.connection, report.say) as entered:
            load.load_schema(entered, host)
            boundary("restore.anew")
            return prove.described(entered, host)
    finally:
        clear(scratch, lock)


def _silent(line: str) -> None:
    """Print nothing."""


def mark(plan: RestorePlan) -> Stamp:
    """Return the stamp of the side database."""
    return Stamp(
        plan.target.environment,
        plan.target.database,
        plan.system,
        origin=plan.origin,
        taken="" if plan.foreign else plan.backup.manifest.snapshot_time,
        lacks="\n".join(plan.missing),
        role="new",
        run=plan.run,
    )


def clear(plan: RestorePlan, lock: Lock) -> None:
    """Drop the side database of a failed run."""
    drop.clear(lock.connection, plan.target, plan.side)
