"""Run a copy from beginning to end, or make only its plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pgtasks.copy import merge, survey
from pgtasks.copy.build import Built, arrive, build, clear
from pgtasks.copy.options import CopyOptions
from pgtasks.copy.outcome import Copied
from pgtasks.copy.plan import CopyPlan
from pgtasks.database import attached, forget, intact, obstacles, recover, swap
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, room
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Origin
from pgtasks.settings.target import Target


def copy(
    origin: Origin,
    lock: Lock,
    host: Host,
    options: CopyOptions,
    *,
    console: Console,
    agreed: Callable[[CopyPlan], bool],
) -> Copied | CopyPlan:
    """Copy a database over the lock's target, if the plan is agreed to; else return the plan.

    Both are reached from this machine; `host` is that of the target. `agreed` is called between the
    plan and the first write. Raises NotProven if the result differs from the source; the target is
    then unchanged. The source is only read.
    """
    began = time.monotonic()
    _check_room(origin.target, lock, options)

    beside = recover.look(lock.connection, lock.target)
    make = merge.make_plan if options.scope.of_two else survey.make_plan
    plan = make(origin, lock, host, options, beside)
    if not agreed(plan):
        return plan
    for line in recover.heal(lock):
        console.say(line)
    boundary("copy.checked")
    built, swapped = _replaced(plan, lock, console)
    boundary("copy.swapped")
    subscriptions = attached.read(lock.connection, lock.target.database).subscriptions
    disabled = tuple(each.name for each in subscriptions if not each.enabled)
    trimmed = forget.trim(lock)
    return Copied(built, swapped, trimmed, disabled, time.monotonic() - began)


def _check_room(source: Target, lock: Lock, options: CopyOptions) -> None:
    """Raise Unreachable if one of the servers allows too few sessions."""
    # beside the lock: workers, vacuumdb or the proof, pg_dump, one that ends sessions, the flusher
    place = lock.target.at(lock.target.maintenance)
    needed, jobs = options.jobs + 5, options.jobs
    if options.scope.of_two:  # its rows are read too
        needed += 2 * jobs + 4
    room.check(lock.connection, place, "the copy", within=0, besides=needed, jobs=jobs)
    with connection.session(source, read_only=True, purpose="db.copy") as conn:
        # workers and proof, the snapshot, the watch, pg_dump of the schema or of large objects
        needed = 2 * options.jobs + 4
        room.check(conn, source, "the copy", within=needed, jobs=jobs)


def _replaced(plan: CopyPlan, lock: Lock, console: Console) -> tuple[Built, swap.Swapped]:
    """Build, prove and swap."""
    before = intact.StateBefore.look(lock, replaces=plan.replaced is not None)
    try:
        built = build(plan, lock, console)
        boundary("copy.proven")
        built = arrive(built, lock, console)
        replaces = plan.replaced is not None and not before.gone(lock, console.say)
        if replaces:
            leave_behind = plan.options.leave_behind
            obstacles.refuse_new("copy", lock.connection, plan.target, leave_behind=leave_behind)
        swapped = swap.swap_in(
            *(lock, plan.target, plan.side, replace(plan.stamp, taken=built.loaded.taken)),
            facts=plan.facts,
            replaces=replaces,
        )
    except BaseException as exc:
        clear(plan, lock)
        before.tell(lock, exc)
        raise
    return built, swapped
