"""Run a restore from beginning to end, or make only its plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pgtasks import report
from pgtasks.backup import verify
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore import masked, prove
from pgtasks.backup.restore.build import build, clear, mark, restored_entries
from pgtasks.backup.restore.masked import Masked
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.outcome import Restored
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.prove import Proven
from pgtasks.backup.restore.survey import make_plan
from pgtasks.backup.store.backup import Backup, reading
from pgtasks.database import attached, drop, forget, intact, obstacles, recover, roles, swap
from pgtasks.database.forget import Trimmed
from pgtasks.database.swap import Swapped
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import room
from pgtasks.server import stamp as stamps
from pgtasks.server.identity import glimpse
from pgtasks.server.lock import Lock
from pgtasks.server.proof.toc import Entry


def restore(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    *,
    console: Console,
    agreed: Callable[[RestorePlan], bool],
) -> Restored | RestorePlan:
    """Restore a backup into the lock's target, if the plan is agreed to; else return the plan.

    `agreed` is called between the plan and the first write. Raises NotProven if the backup is
    damaged or the result differs from it; the target is then unchanged.
    """
    with _readied(lock, host, backup, console) as ready:
        return _restored(lock, host, ready, options, console=console, agreed=agreed)


@contextmanager
def _readied(lock: Lock, host: Host, backup: Backup, console: Console) -> Iterator[Backup]:
    """Provide a backup for the length of a block; the dump of somebody else is read first."""
    if not isinstance(backup, Dump):
        yield backup
        return
    from pgtasks.backup.foreign.reading import readied

    conn, target = lock.connection, lock.target
    free = obstacles.free_bytes(conn, target, host)
    began = time.monotonic()
    with readied(backup, target, conn, host, free, console) as dump:
        size = f"{report.size(dump.held.bytes)} of SQL"
        if not dump.plain:
            size = f"{report.size(dump.manifest.size)}, which is {size},"
        console.say(f"read: {size} in {report.duration(time.monotonic() - began)}")
        yield dump


def _restored(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    *,
    console: Console,
    agreed: Callable[[RestorePlan], bool],
) -> Restored | RestorePlan:
    began = time.monotonic()
    if isinstance(backup, Dump) and backup.form.kind == "tar":
        options = replace(options, jobs=1)  # pg_restore reads a tar with one only
    beside = recover.look(lock.connection, lock.target)
    with reading(backup):
        archive = checked(lock, host, backup, options, console)
        plan = make_plan(lock, host, backup, options, archive, beside)
    if options.masks is not None:
        masked.refuse(options.masks, plan.target)
        plan = replace(plan, notes=(*plan.notes, *masked.notes(options)))
    elif _comes_unmasked(backup, plan):
        plan = replace(plan, notes=(*plan.notes, masked.AS_IT_IS))
    if not agreed(plan):
        return _with_untried(plan)
    for line in recover.heal(lock):
        console.say(line)
    boundary("restore.checked")
    create_roles(plan, lock, console)
    with reading(backup):
        plan, proven, swapped, made = _replaced(plan, options, lock, host, console)
    boundary("restore.swapped")
    subscriptions = attached.read(lock.connection, plan.result.database).subscriptions
    disabled = tuple(each.name for each in subscriptions if not each.enabled)
    trimmed = Trimmed(()) if plan.into else forget.trim(lock)
    return Restored(plan, proven, swapped, trimmed, disabled, time.monotonic() - began, made)


def create_roles(plan: RestorePlan, lock: Lock, console: Console) -> None:
    """Create the roles of the plan, which stay also if the restore fails."""
    if plan.roles:
        roles.create(lock.connection, plan.roles, passwords=plan.with_passwords)
        console.say(f"created roles, which stay: {', '.join(repr(r.name) for r in plan.roles)}")


def _comes_unmasked(backup: Backup, plan: RestorePlan) -> bool:
    """Return whether rules of another environment could mask it."""
    own = backup.manifest.environment == plan.target.environment
    return not (own or plan.target.protected or isinstance(backup, Dump))


def checked(
    lock: Lock, host: Host, backup: Backup, options: RestoreOptions, console: Console
) -> list[Entry]:
    """Verify a backup and return the entries of its archive, raising NotProven.

    Raises Unreachable if the server has no room for the sessions of a restore.
    """
    # beside the lock: of pg_restore or the proof, of pg_dump, one that ends sessions
    needed = options.jobs + 3
    place = lock.target.at(lock.target.maintenance)
    room.check(lock.connection, place, "the restore", within=0, besides=needed, jobs=options.jobs)
    # else every byte is checked during the transfer, or was read before
    if backup.host == host and not isinstance(backup, Dump):
        _verify(host, backup, options, console)
    return prove.archived(backup, options.accept)


def _verify(host: Host, backup: Backup, options: RestoreOptions, console: Console) -> None:
    with console.progress("verify", backup.manifest.size) as progress:
        verified = verify.verify(backup, host, read=False, jobs=options.jobs, progress=progress)
    files, size = report.plural(verified.files, "file"), report.size(verified.bytes)
    console.say(f"intact: {files}, {size}, read in {report.duration(verified.seconds)}")


def _with_untried(plan: RestorePlan) -> RestorePlan:
    """Return a plan with a note on the extensions, which are tried after the question."""
    entries = restored_entries(plan)
    untried = ", ".join(entry.tag for entry in entries if entry.desc == "EXTENSION")
    notes = (f"not tried under --dry: CREATE EXTENSION {untried}",) if untried else ()
    return replace(plan, notes=(*plan.notes, *notes))


def _replaced(
    plan: RestorePlan, options: RestoreOptions, lock: Lock, host: Host, console: Console
) -> tuple[RestorePlan, Proven, Swapped, Masked | None]:
    """Build, prove and swap; the plan that is returned knows if the target is gone meanwhile."""
    stays = bool(plan.into) and glimpse(lock.connection, plan.target.database) is not None
    before = intact.StateBefore.look(lock, replaces=stays or (plan.replaces and not plan.invalid))
    try:
        proven = build(plan, lock, host, console)
        made = None
        if options.masks is not None:
            made = masked.masked(plan, options, lock, host, console)
        if before.gone(lock, console.say):
            plan = replace(plan, replaces=False)
        if plan.replaces and not plan.invalid:
            obstacles.refuse_new(
                "restore", lock.connection, plan.result, leave_behind=plan.leave_behind
            )
        return plan, proven, _swap(plan, lock, made), made
    except BaseException as exc:
        clear(plan, lock)
        before.tell(lock, exc)
        raise


def _swap(plan: RestorePlan, lock: Lock, made: Masked | None) -> Swapped:
    if plan.invalid:  # it cannot be renamed, and has no content to keep
        drop.drop_plainly(lock.connection, plan.target.database)
    side, stamp = (made.side, made.stamp) if made else (plan.side, mark(plan))
    if plan.into:
        named = stamps.beside(plan.target.environment)
        stamp = replace(stamp, environment=named, database=plan.into)
    return swap.swap_in(lock, plan.result, side, stamp, facts=plan.facts, replaces=plan.replaces)
