"""Vacuum, analyze and reindex tables: with progress, and with what it gained."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Failed, Interrupted, PgtasksError
from pgtasks.health import upkeep
from pgtasks.health.upkeep import LeftIndex, Work
from pgtasks.host.worker import Worker
from pgtasks.report import Console, Progress, typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.interrupt import cancelling
from pgtasks.settings.target import Target

_LOOK = 0.2  # seconds between updates of the progress
_LOCK_WAIT = "10s"
_SHOWN = 20  # tables of a result
_LOCKED = "lock timeout"
_MEASURES = """
SELECT c.oid::bigint AS oid, coalesce(pg_table_size(c.oid), 0) AS table_bytes,
  coalesce(pg_indexes_size(c.oid), 0) AS index_bytes,
  CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows,
  coalesce(s.n_dead_tup, 0)::bigint AS dead_rows
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.oid = ANY (%s::oid[])
"""


@dataclass(frozen=True)
class Kind:
    """One of the three: its statement, and how the server reports its progress.

    `done` is the share of the blocks; `measure` what is compared before and after.
    """

    verb: str
    past: str
    statement: str
    done: str
    measure: str
    whole: bool = False
    owner: bool = True


VACUUM = Kind(
    *("vacuum", "vacuumed", "VACUUM {}"),
    "SELECT phase, heap_blks_scanned::float8 / nullif(heap_blks_total, 0)"
    " FROM pg_stat_progress_vacuum WHERE pid = %s",
    "table_bytes",
)
ANALYZE = Kind(
    *("analyze", "analyzed", "ANALYZE {}"),
    "SELECT phase, sample_blks_scanned::float8 / nullif(sample_blks_total, 0)"
    " FROM pg_stat_progress_analyze WHERE pid = %s",
    "rows",
    whole=True,
)
REINDEX = Kind(
    *("reindex", "reindexed", "REINDEX TABLE CONCURRENTLY {}"),
    "SELECT phase, blocks_done::float8 / nullif(blocks_total, 0)"
    " FROM pg_stat_progress_create_index WHERE pid = %s",
    "index_bytes",
    owner=False,
)


@dataclass(frozen=True)
class Measures:
    """The sizes of a table, and its rows as the planner knows them (None: unknown)."""

    oid: int
    table_bytes: int
    index_bytes: int
    rows: int | None
    dead_rows: int


@dataclass(frozen=True)
class TableDone:
    """What was done to one table; `fault` is why it was not."""

    table: str
    seconds: float = 0.0
    before: Measures | None = None
    after: Measures | None = None
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        measures = {
            name: {k: v for k, v in asdict(each).items() if k != "oid"} if each else None
            for name, each in (("before", self.before), ("after", self.after))
        }
        seconds = round(self.seconds, 3)
        return {"table": self.table, "seconds": seconds, **measures, "fault": self.fault}


@dataclass(frozen=True)
class Maintained:
    """The result, or the plan of a dry run.

    `dropped` are invalid indexes of an earlier run, `left` those that are still there; `passed` are
    tables of other roles.
    """

    kind: Kind
    tables: tuple[TableDone, ...]
    dropped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    dry: bool = False

    @property
    def faults(self) -> list[TableDone]:
        """Return the tables with which it failed."""
        return [each for each in self.tables if each.fault]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [
            *(self._plan() if self.dry else self._table()),
            *self._indexes(),
            *self._passed(),
            self.sentence(),
        ]

    def _plan(self) -> list[str]:
        names = [f"  {each.table}" for each in self.tables[:_SHOWN]]
        more = len(self.tables) - len(names)
        return [*names, *([f"  and {more:,} more"] if more else [])]

    def _table(self) -> list[str]:
        shown = sorted(
            self.tables, key=lambda each: (not each.fault, -abs(_gained(self.kind, each)))
        )
        rows = [_cells(self.kind, each) for each in shown[:_SHOWN]]
        if not rows:
            return []
        table = report.table(_headings(self.kind), rows, prose=("note",), runs_on=True)
        more = len(shown) - len(rows)
        return [
            *table.splitlines(),
            *([f"and {report.plural(more, 'other table')}"] if more else []),
        ]

    def _indexes(self) -> Iterator[str]:
        would = "would drop" if self.dry else "dropped"
        for name in self.dropped:
            yield f"{would} the invalid index {name}, left by an interrupted REINDEX"
        for name in self.left:
            drops = typed.task("db.reindex")
            yield f"the invalid index {name} is left by an interrupted REINDEX, {drops} drops it"

    def _passed(self) -> list[str]:
        if not self.passed:
            return []
        few = ", ".join(self.passed[:3]) + (" ..." if len(self.passed) > 3 else "")
        return [f"left out, of other roles: {report.plural(len(self.passed), 'table')} ({few})"]

    def sentence(self) -> str:
        """Return the result in one line."""
        done = [each for each in self.tables if not each.fault]
        tables = report.plural(len(done), "table")
        if self.dry:
            return f"would {self.kind.verb} {tables}"
        seconds = report.duration(sum(each.seconds for each in self.tables))
        gained = sum(_gained(self.kind, each) for each in done)
        size = self.kind.measure.endswith("bytes")
        freed = f", {report.size(gained)} freed" if size and gained > 0 else ""
        dead = sum(each.before.dead_rows for each in done if each.before)
        dead_rows = f", {report.plural(dead, 'dead row')} before" if self.kind is VACUUM else ""
        return f"{self.kind.past} {tables} in {seconds}{freed}{dead_rows}"

    def check(self) -> None:
        """Raise Failed if a table is not done."""
        faults = self.faults
        if not faults:
            return
        several = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        locked = any(_LOCKED in each.fault for each in faults)
        who = f": {typed.task('inspect.activity')} shows who holds the lock" if locked else ""
        raise Failed(
            f"{faults[0].table}{several} not {self.kind.past}, {faults[0].fault}{who}",
            details=self.as_json(),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "task": self.kind.verb,
            "dry": self.dry,
            "tables": [each.as_json() for each in self.tables],
            "dropped_indexes": list(self.dropped),
            "invalid_indexes": list(self.left),
            "left_out": list(self.passed),
        }


def _gained(kind: Kind, done: TableDone) -> int:
    if done.before is None or done.after is None:
        return 0
    before, after = (getattr(each, kind.measure) or 0 for each in (done.before, done.after))
    return int(before - after)


def _headings(kind: Kind) -> tuple[str, ...]:
    what = {"table_bytes": "size", "rows": "rows", "index_bytes": "indexes"}[kind.measure]
    return ("table", f"{what} before", "after", "took", "note")


def _cells(kind: Kind, done: TableDone) -> tuple[Any, ...]:
    values = [getattr(each, kind.measure) if each else None for each in (done.before, done.after)]
    if kind.measure != "rows":
        values = ["-" if value is None else report.size(value) for value in values]
    return (done.table, *values, report.duration(done.seconds), done.fault)


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
    Interrupted, which names the indexes that are left invalid.
    """
    purpose = f"db.{kind.verb}"
    with connection.session(target, read_only=True, purpose=purpose) as conn:
        works, passed = _chosen(conn, kind, patterns)
        # an index of the user's may need the path of the role, before PostgreSQL 17
        with connection.session(target, purpose=purpose, own_path=True) as working:
            _prepare(working)
            dropped = _dropped(conn, working) if kind is REINDEX else ()
            before = _measured(conn, works)
            try:
                done = _all(kind, works, working, conn, console)
            except KeyboardInterrupt:
                raise Interrupted(_interrupted(conn, kind)) from None
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


def _interrupted(conn: Connection, kind: Kind) -> str:
    try:
        left: Sequence[LeftIndex] = upkeep.left_indexes(conn)
    except PgtasksError:
        return "interrupted"
    if not left:
        return "interrupted"
    names, drops = ", ".join(map(str, left)), typed.task("db.reindex")
    return f"interrupted; invalid and left: {names}, which the next {drops} drops"


def _all(
    kind: Kind,
    works: Sequence[Work],
    working: Connection,
    watching: Connection,
    console: Console,
) -> dict[int, TableDone]:
    results, total = dict[int, TableDone](), sum(max(work.bytes, 1) for work in works)
    finished = 0
    with console.progress(kind.verb, total) as progress, cancelling([working]):
        for work in works:
            results[work.oid] = _one(
                kind, work, working, _shows(kind, work, working, watching, progress, finished)
            )
            finished += max(work.bytes, 1)
            progress.update(finished, str(work))
    return results


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
