"""Restore single tables from beginning to end, or make only the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pgtasks import report
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore import build, load
from pgtasks.backup.restore.commit import Commit
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.perform import checked
from pgtasks.backup.restore.tables import survey, write
from pgtasks.backup.restore.tables.outcome import TablesRestored
from pgtasks.backup.restore.tables.plan import TablesPlan
from pgtasks.backup.restore.tables.write import Written
from pgtasks.backup.store.backup import Backup
from pgtasks.database import loader, recover
from pgtasks.errors import Refused, Unreachable
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.identity import identify, refuse_other
from pgtasks.server.interrupt import cancelling
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

_PURPOSE = "db.restore"


def restore_tables(
    lock: Lock,
    host: Host,
    backup: Backup,
    options: RestoreOptions,
    *,
    console: Console,
    agreed: Callable[[TablesPlan], str | None],
) -> TablesRestored | TablesPlan:
    """Restore tables of a backup into the lock's target; return the plan if it is not agreed to.

    `agreed` is called between the plan and the first write, and returns the ID of a backup taken
    before, an empty text without one, None for no. Raises Refused where rows of other tables
    depend on what would go, NotProven if the rows differ from the backup; nothing is changed then.
    """
    began = time.monotonic()
    options.check()
    if isinstance(backup, Dump):
        raise Refused(
            f"--only-table is for backups: {backup.shown} has no proof of its tables, db.restore "
            "without it takes all of the dump"
        )
    beside = recover.look(lock.connection, lock.target)
    archive = checked(lock, host, backup, options, console)
    plan = survey.make_plan(lock, host, backup, options, archive, beside)
    before = agreed(plan)
    if before is None:
        return survey.unlooked(plan)
    for line in recover.heal(lock):
        console.say(line)
    boundary("tables.checked")
    commit = Commit("the tables are as they were", "the tables are restored", "the tables")
    try:
        written = _written(plan, lock, host, commit, console)
    except (KeyboardInterrupt, Unreachable) as exc:
        raise commit.ended(exc, lock.target) from None
    finally:
        build.clear(plan.base, lock)
    return TablesRestored(plan, written, before, time.monotonic() - began)


def _written(plan: TablesPlan, lock: Lock, host: Host, commit: Commit, console: Console) -> Written:
    base, conn = plan.base, lock.connection
    build.prepare(base, conn, console.say)
    began = time.monotonic()
    with build.brought(base, host, console) as ready:
        with build.logged_in(ready, conn, console.say) as entered:
            load.run_restore(entered, host, conn, console, analyze=False)
        console.say(f"loaded in {report.duration(time.monotonic() - began)}")
    boundary("tables.loaded")
    with ExitStack() as stack:
        source = stack.enter_context(_reading(plan, lock, console))
        target = stack.enter_context(_writing(plan, lock, console))
        stack.enter_context(cancelling([source, target]))
        written = write.write(plan, source, target, commit, console, check=lock.check)
        if why := write.analyze(target, plan):
            console.say(f"warning: no statistics were gathered: {why}")
        return written


@contextmanager
def _reading(plan: TablesPlan, lock: Lock, console: Console) -> Iterator[Connection]:
    """Open a session in the side database, which code of the backup has run in."""
    with (
        build.logged_in(plan.base, lock.connection, console.say, reads_all=True) as entered,
        connection.session(entered.proving, read_only=True, purpose=_PURPOSE) as source,
    ):
        yield source


@contextmanager
def _writing(plan: TablesPlan, lock: Lock, console: Console) -> Iterator[Connection]:
    """Open a session in the live database with the rights of the tables' owner, and no others."""
    with ExitStack() as stack:
        target = plan.target
        if plan.held:
            target = stack.enter_context(_logged_in(plan, lock, console))
        target = replace(target, role=plan.role)
        session = stack.enter_context(connection.session(target, purpose=_PURPOSE))
        allowed, now = lock.allowed, identify(session)
        if allowed is not None:
            refuse_other(allowed, now, target.database)
        yield session


@contextmanager
def _logged_in(plan: TablesPlan, lock: Lock, console: Console) -> Iterator[Target]:
    login = loader.login_or_refuse(
        *(lock.connection, plan.target, plan.target.database, plan.base.run, plan.role),
        say=console.say,
    )
    with login as entered:
        yield entered
