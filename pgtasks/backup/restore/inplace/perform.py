"""Restore in place from beginning to end, or make only the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pgtasks import report
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore import build, statistics
from pgtasks.backup.restore.commit import Commit
from pgtasks.backup.restore.inplace import compare, survey, write
from pgtasks.backup.restore.inplace.outcome import RestoredInPlace
from pgtasks.backup.restore.inplace.plan import InPlacePlan
from pgtasks.backup.restore.inplace.write import Written
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.perform import checked, create_roles
from pgtasks.backup.store.backup import Backup, reading
from pgtasks.database import recover
from pgtasks.errors import Failed, Refused, Unreachable
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.identity import identify, refuse_other
from pgtasks.server.interrupt import cancelling
from pgtasks.server.lock import Lock
from pgtasks.server.statistics import Missing, missing

_SETTINGS = (
    f"SET search_path = {connection.PATH}; SET row_security = off; SET quote_all_identifiers = off;"
    " SET standard_conforming_strings = on"
)


def restore_in_place(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    *,
    console: Console,
    agreed: Callable[[InPlacePlan], str | None],
) -> RestoredInPlace | InPlacePlan:
    """Restore a backup into the lock's target itself; return the plan if it is not agreed to.

    `agreed` is called between the plan and the first write, and returns the ID of a backup taken
    before, an empty text without one, None for no. Raises Refused where something of other roles
    depends on what would go, NotProven if the rows differ from the backup: nothing is changed then.
    """
    began = time.monotonic()
    if isinstance(backup, Dump):
        raise Refused(
            f"--in-place is for backups: {backup.shown} has no proof that could be compared before "
            "the commit, and there is no undo"
        )
    beside = recover.look(lock.connection, lock.target)
    with reading(backup):
        archive = checked(lock, host, backup, options, console)
        plan = survey.make_plan(lock, host, backup, options, archive, beside)
    before = agreed(plan)
    if before is None:
        return plan
    for line in recover.heal(lock):
        console.say(line)
    boundary("in-place.checked")
    create_roles(plan.base, lock, console)
    name = plan.target.database
    commit = Commit(f"{name!r} is as it was", f"{name!r} is restored", repr(name))
    try:
        with reading(backup):
            written = _written(plan, lock, host, commit, console)
        compared = compare.schema(plan, host)
    except (KeyboardInterrupt, Unreachable) as exc:
        raise commit.ended(exc, lock.target) from None
    accepted, notes = compared
    for line in notes:
        console.say(f"  not proven: {line}")
    seconds = time.monotonic() - began
    return RestoredInPlace(plan, written, before, (*written.accepted, *accepted), notes, seconds)


def _written(
    plan: InPlacePlan, lock: Lock, host: Host, commit: Commit, console: Console
) -> Written:
    with build.brought(plan.base, host, console) as ready, _session(plan, lock) as conn:
        written = write.write(replace(plan, base=ready), conn, lock, host, commit, console)
        console.say(f"committed, after {report.duration(written.locked)}")
        try:
            _gather(plan, conn)
        except Failed as exc:
            console.say(f"warning: no statistics were gathered: {exc.message}")
        return written


def _gather(plan: InPlacePlan, conn: Connection) -> None:
    """Gather statistics, but those that the backup has brought."""
    known = statistics.carried(plan.base, plan.entries)
    found = missing(conn, known) if known else Missing([], [])
    if found.tables or found.parents or not known:
        connection.execute(conn, f"ANALYZE {', '.join([*found.tables, *found.parents])}")


@contextmanager
def _session(plan: InPlacePlan, lock: Lock) -> Iterator[Connection]:
    """Open the session of the transaction, in the database that the guard has allowed.

    It has the settings of the database, as a load has, but those that its own queries need.
    """
    with connection.session(plan.target, purpose="db.restore", own_path=True) as conn:
        connection.execute(conn, _SETTINGS)
        if lock.allowed is not None:
            refuse_other(lock.allowed, identify(conn), plan.target.database)
        with cancelling([conn]):
            yield conn
