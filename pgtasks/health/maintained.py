"""What vacuum, analyze and reindex are, and what they did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.errors import Failed
from pgtasks.report import typed

_SHOWN = 20  # tables of a result
_LOCKED = "lock timeout"


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
