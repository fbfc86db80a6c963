"""Run a restore from beginning to end, or make only its plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pgtasks import report
from pgtasks.backup import verify
from pgtasks.backup.restore import intact, prove
from pgtasks.backup.restore.build import build, clear, mark, restored_entries
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.outcome import Restored
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.restore.survey import make_plan
from pgtasks.backup.store.base import Backup
from pgtasks.database import attached, drop, forget, recover, swap
from pgtasks.database.swap import Swapped
from pgtasks.host.local import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import room
from pgtasks.server.lock import Lock


def restore(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    *,
    console: Console,
    ask: Callable[[], None],
    dry: bool = False,
) -> Restored | RestorePlan:
    """Restore a backup into the lock's target; with `dry` return the plan.

    `ask` is called between the plan and the first write. Raises NotProven if the backup is damaged
    or the result differs from it; the target is then unchanged.
    """
    began, say = time.monotonic(), console.say
    target, conn = lock.target, lock.connection
    beside = recover.look(conn, target)
    replaces = not (beside.missing or beside.invalid)
    # beside the lock: of pg_restore or the proof, of pg_dump, one that ends sessions
    needed = options.jobs + 3
    place = target.at(target.maintenance)
    room.check(conn, place, "the restore", within=0, besides=needed, jobs=options.jobs)
    if backup.host == host:  # else every byte is checked during the transfer
        with console.progress("verify", backup.manifest.size) as progress:
            verified = verify.verify(backup, host, read=False, jobs=options.jobs, progress=progress)
        files, size = report.plural(verified.files, "file"), report.size(verified.bytes)
        say(f"intact: {files}, {size}, read in {report.duration(verified.seconds)}")
    archive = prove.archived(backup, options.accept)
    plan = make_plan(lock, host, backup, options, archive, replaces=replaces)
    if dry:
        untried = ", ".join(
            entry.tag for entry in restored_entries(plan) if entry.desc == "EXTENSION"
        )
        notes = (f"not tried under --dry: CREATE EXTENSION {untried}",) if untried else ()
        return replace(plan, notes=(*plan.notes, *notes))
    for line in plan.lines():
        say(line)
    ask()
    for line in recover.heal(lock):
        say(line)
    boundary("restore.checked")
    before = intact.Surroundings.look(lock, replaces=plan.replaces and not plan.invalid)
    try:
        proven = build(plan, lock, host, console)
        if before.gone(lock, say):
            plan = replace(plan, replaces=False)
        swapped = _swap(plan, lock)
    except BaseException as exc:
        clear(plan, lock)
        before.tell(lock, exc)
        raise
    boundary("restore.swapped")
    subscriptions = attached.read(conn, target.database).subscriptions
    disabled = tuple(each.name for each in subscriptions if not each.enabled)
    trimmed = forget.trim(lock)
    return Restored(plan, proven, swapped, trimmed, disabled, time.monotonic() - began)


def _swap(plan: RestorePlan, lock: Lock) -> Swapped:
    if plan.invalid:  # it cannot be renamed, and has no content to keep
        drop.drop_plainly(lock.connection, plan.target.database)
    return swap.swap_in(
        lock, plan.target, plan.side, mark(plan), facts=plan.facts, replaces=plan.replaces
    )
