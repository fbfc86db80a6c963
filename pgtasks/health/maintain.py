"""Vacuum, analyze and reindex tables: with progress, and with what it gained."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from time import monotonic

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Failed
from pgtasks.health import upkeep
from pgtasks.health.maintained import (
    ANALYZE,
    REINDEX,
    VACUUM,
    Kind,
    Maintained,
    Measures,
    TableDone,
)
from pgtasks.health.upkeep import LeftIndex, Work
from pgtasks.host.worker import Worker
from pgtasks.report import Console, Progress, typed
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.interrupt import cancelling
from pgtasks.settings.target import Target

__all__ = ["ANALYZE", "REINDEX", "VACUUM", "Kind", "Maintained", "TableDone", "maintain", "plan"]

_LOOK = 0.2  # seconds between updates of the progress
_LOCK_WAIT = "10s"
_MEASURES = """
SELECT c.oid::bigint AS oid, coalesce(pg_table_size(c.oid), 0) AS table_bytes,
  coalesce(pg_indexes_size(c.oid), 0) AS index_bytes,
  CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows,
  coalesce(s.n_dead_tup, 0)::bigint AS dead_rows
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.oid = ANY (%s::oid[])
"""


def plan(target: Target, kind: Kind, patterns: Collection[str]) -> Maintained:
    """Return what would be done."""
    with connection.session(target, read_only=True, purpose=f"db.{kind.verb}") as conn:
        works, passed = _chosen(conn, kind, patterns)
        left = tuple(map(str, upkeep.left_indexes(conn)))
    tables = tuple(TableDone(str(work)) for work in works)
    drops, stays = (left, ()) if kind is REINDEX else ((), left)
    return Maintained(kind, tables, drops, stays, passed, dry=True)


def maintain(
    target: Target, kind: Kind, patterns: Collection[str], *, console: Console
) -> Maintained:
    """Vacuum, analyze or reindex the tables that match, one after the other.

    A table with which it fails, for example one that is locked, does not stop it. Ctrl-C raises
    Interrupted, which says how many are done, and which indexes are left invalid.
    """
    purpose = f"db.{kind.verb}"
    with connection.session(target, read_only=True, purpose=purpose) as conn:
        works, passed = _chosen(conn, kind, patterns)
        done: dict[int, TableDone] = {}
        with (
            telling(lambda: _left(conn, kind, len(works), done)),
            # an index of the user's may need the path of the role, before PostgreSQL 17
            connection.session(target, purpose=purpose, own_path=True) as working,
        ):
            _prepare(working)
            dropped = _dropped(conn, working) if kind is REINDEX else ()
            before = _measured(conn, works)
            _all(kind, works, working, conn, console, done)
            if kind is REINDEX and any(each.fault for each in done.values()):
                dropped += _dropped(conn, working)
        after = _measured(conn, works)
        left = tuple(map(str, upkeep.left_indexes(conn)))
    tables = (
        replace(done[work.oid], before=before.get(work.oid), after=after.get(work.oid))
        for work in works
    )
    return Maintained(kind, tuple(tables), dropped, left, passed)


def _prepare(working: Connection) -> None:
    connection.execute(working, "SET statement_timeout = 0")
    connection.execute(working, f"SET lock_timeout = '{_LOCK_WAIT}'")


def _chosen(
    conn: Connection, kind: Kind, patterns: Collection[str]
) -> tuple[list[Work], tuple[str, ...]]:
    works = upkeep.chosen(conn, patterns, whole=kind.whole, owner=kind.owner)
    allowed = [work for work in works if work.allowed]
    return allowed, tuple(str(work) for work in works if not work.allowed)


def _measured(conn: Connection, works: Sequence[Work]) -> Mapping[int, Measures]:
    """Return the sizes of the tables, none if a lock is in the way."""
    connection.execute(conn, "SET lock_timeout = '500ms'")
    try:
        rows = connection.rows(conn, _MEASURES, ([work.oid for work in works],), into=Measures)
    except Failed:
        return {}
    return {each.oid: each for each in rows}


def _dropped(conn: Connection, working: Connection) -> tuple[str, ...]:
    """Drop the indexes that an interrupted run left, and return those that are gone."""
    gone = []
    for index in upkeep.left_indexes(conn):
        statement = sql.SQL("DROP INDEX CONCURRENTLY {}").format(
            sql.Identifier(index.schema, index.name)
        )
        try:
            connection.execute(working, statement)
            gone.append(str(index))
        except Failed:
            continue  # its table is locked: it is named as left
    return tuple(gone)


def _left(conn: Connection, kind: Kind, number: int, done: Mapping[int, TableDone]) -> str:
    """Return what an interrupted run has done, and the invalid indexes that it left."""
    whole = sum(1 for each in done.values() if not each.fault)
    words = f"{kind.verb} is done for {whole} of {report.plural(number, 'table')}"
    left: Sequence[LeftIndex] = upkeep.left_indexes(conn)
    if not left:
        return words
    names, drops = ", ".join(map(str, left)), typed.task("db.reindex")
    return f"{words}; invalid and left: {names}, which the next {drops} drops"


def _all(
    kind: Kind,
    works: Sequence[Work],
    working: Connection,
    watching: Connection,
    console: Console,
    results: dict[int, TableDone],
) -> None:
    """Work on the tables in turn; `results` has those that are done, also after a signal."""
    total, finished = sum(max(work.bytes, 1) for work in works), 0
    with console.progress(kind.verb, total) as progress, cancelling([working]):
        for work in works:
            results[work.oid] = _one(
                kind, work, working, _shows(kind, work, working, watching, progress, finished)
            )
            finished += max(work.bytes, 1)
            progress.update(finished, str(work))


def _shows(
    kind: Kind,
    work: Work,
    working: Connection,
    watching: Connection,
    progress: Progress,
    finished: int,
) -> Callable[[], None]:
    """Return the function that shows the progress of one table."""
    pid, most = working.info.backend_pid, 0.0

    def show() -> None:
        nonlocal most
        if not progress.due:
            return
        row = connection.row(watching, kind.done, (pid,), into=tuple[str, float | None])
        phase, share = row or ("", 0.0)
        most = max(most, min(share or 0.0, 1.0))  # each phase, each index begins again
        progress.update(finished + int(work.bytes * most), f"{phase} {work}".strip())

    return show


def _one(kind: Kind, work: Work, working: Connection, show: Callable[[], None]) -> TableDone:
    """Run the statement of one table in a thread, and show its progress meanwhile."""
    statement = sql.SQL(kind.statement).format(sql.Identifier(work.schema, work.name))
    faults: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    began, running = monotonic(), Worker(_execute, working, statement, faults)
    running.start()
    try:
        while not running.wait(_LOOK):
            show()
    finally:
        if not running.wait(0):
            working.cancel()
            running.wait()
    fault = faults.get()
    if fault is not None and not isinstance(fault, Failed):  # the server is gone
        raise fault
    return TableDone(str(work), monotonic() - began, fault=fault.message if fault else "")


def _execute(
    working: Connection,
    statement: sql.Composable,
    faults: queue.SimpleQueue[BaseException | None],
) -> None:
    try:
        connection.execute(working, statement)
        faults.put(None)
    except BaseException as exc:
        faults.put(exc)
