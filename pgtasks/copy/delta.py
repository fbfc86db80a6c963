"""A copy that begins as the server's own copy of the replaced database.

The proofs of the source's snapshot and of that copy are compared: only the tables that differ are
copied anew. Nobody else may be connected to the replaced database while its files are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg2 import sql

from pgtasks import report
from pgtasks.copy import load, prove, schema, snapshot
from pgtasks.copy.broken import explained
from pgtasks.copy.load import Revise
from pgtasks.copy.loaded import Clock, Loaded
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.rows import indexes, tables
from pgtasks.copy.rows.indexes import IndexBuild
from pgtasks.copy.rows.pool import Pool, Work
from pgtasks.copy.rows.tables import TableCopy
from pgtasks.copy.rows.throttle import Throttle
from pgtasks.copy.snapshot import Snapshot
from pgtasks.database import obstacles
from pgtasks.errors import Failed
from pgtasks.host.local import HERE
from pgtasks.report import Console, Progress
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, statistics
from pgtasks.server import proof as proofs
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe
from pgtasks.server.identity import comment_and_stamp
from pgtasks.server.proof import Proof
from pgtasks.server.proof.toc import Entry
from pgtasks.server.statistics import AND_ABOVE, Name

_WORTH = 64 << 20  # bytes of a replaced database from which a delta may pay
_MOST = 0.5  # share of the bytes that differ, beyond which all rows are copied
# keys of the tables, of the partitioned tables above them, and of others that refer to them
_KEYS = f"""{AND_ABOVE}
SELECT DISTINCT n.nspname AS schema, c.relname AS table, o.conname AS name
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype = 'f' AND o.conparentid = 0
AND (o.conrelid IN (SELECT oid FROM t) OR o.confrelid IN (SELECT oid FROM t)) ORDER BY 1, 2, 3
"""
# what rows of a table may break although it is there: COPY would fail for them
_UNCHECKED = """
SELECT o.conname FROM unnest(%s::text[], %s::text[]) AS u(s, r)
JOIN pg_namespace n ON n.nspname = u.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = u.r
JOIN pg_constraint o ON o.conrelid = c.oid OR o.contypid <> 0
WHERE o.contype <> 'f' AND NOT o.convalidated ORDER BY 1 LIMIT 1
"""
_TRIGGERS = """
SELECT n.nspname AS schema, c.relname AS table, t.tgname AS name, t.tgenabled::text AS enabled
FROM unnest(%s::text[], %s::text[]) AS u(s, r) JOIN pg_namespace n ON n.nspname = u.s
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = r JOIN pg_trigger t ON t.tgrelid = c.oid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY 1, 2, 3
"""
_ENABLE = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


Scratch = Callable[[Sequence[Entry]], Sequence[Entry]]


class NotAlike(Failed):
    """The replaced database differs too much from the source to begin with it."""


@dataclass(frozen=True)
class _Key:
    schema: str
    table: str
    name: str

    @property
    def drop(self) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
            sql.Identifier(self.schema, self.table), sql.Identifier(self.name)
        )


@dataclass(frozen=True)
class _Trigger:
    schema: str
    table: str
    name: str
    enabled: str

    def set(self, how: str) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} " + how + " TRIGGER {}").format(
            sql.Identifier(self.schema, self.table), sql.Identifier(self.name)
        )


def objection(plan: CopyPlan, conn: Connection) -> str:
    """Return why a copy cannot begin with the replaced database, or an empty text.

    `conn` is in the target's maintenance database.
    """
    database = plan.target.database
    if plan.replaced is None:
        return "there is no target yet"
    if not plan.options.scope.complete:
        return "only a part of the source is copied"
    if plan.options.rate:
        return "its rate is limited"
    if not plan.options.proof:
        return "it goes by the proof, which --no-proof omits"
    if plan.origin.major != plan.major:
        return "source and target are of different versions"
    if not obstacles.may_copy(conn, database):
        return "this role may not copy the target: it needs CREATEDB and the role of its owner"
    if plan.replaced.number:
        return f"the target has {report.plural(plan.replaced.number, 'session')} of others"
    _, stamp = comment_and_stamp(conn, database)
    if plan.masking.changes and (stamp is None or stamp.masks != plan.masking.version):
        return "its files may hold what is masked: it was not made with these masks"
    return ""


def pays(plan: CopyPlan, conn: Connection) -> bool:
    """Whether it may be faster: the replaced database is a copy of that source, and not small."""
    if plan.replaced is None or (plan.replaced.bytes or 0) < _WORTH:
        return False
    _, stamp = comment_and_stamp(conn, plan.target.database)
    return stamp is not None and stamp.origin == plan.stamp.origin


def load_delta(
    plan: CopyPlan, path: Path, revise: Revise, console: Console, *, scratch: Scratch
) -> Loaded:
    """Load what differs into the side database, which is a copy of the replaced one.

    `scratch` loads only a schema into an empty database and returns its entries.
    Raises NotAlike, and what `load.load` does.
    """
    clock = Clock()
    total = sum(plan.origin.sizes.values()) or 1
    with (
        console.progress("delta", total) as progress,
        snapshot.taken(plan, path, progress) as source,
    ):
        if not schema.same(plan.left(plan.archive).kept(plan.archive), source.archive):
            revise(source)
        clock.lap("snapshot")
        _refuse_schema(plan, source, scratch)
        boundary("copy.loading")
        actual, expected = _proof_of_side(plan), load.proof_of(source)
        changed = _changed(plan, source, expected, actual)
        clock.lap("compared")
        console.say(_summary(changed, expected))
        with explained(plan, source.archive):
            changing, pool = _replaced(plan, source, changed, progress)
        source.refuse_read(expected)
        large = load.large_entries(plan, source)
    boundary("copy.read")
    clock.lap("rows and indexes")
    load.set_sequences(plan, source.sequences)
    boundary("copy.loaded")
    _finish(plan, path, changing)
    clock.lap("constraints and the rest")
    return Loaded(
        proof=replace(expected, sequences=source.sequences),
        taken=source.taken,
        archive=tuple(source.archive),
        large=large,
        routed={},
        tables=len(pool.rows),
        rows=sum(pool.rows.values()),
        seconds=clock.seconds,
        slowest=pool.slowest,
    )


def _replaced(
    plan: CopyPlan, source: Snapshot, changed: Sequence[TableCopy], progress: Progress
) -> tuple[_Changing, Pool]:
    """Copy the tables that differ, and build their indexes."""
    with load.writing(plan) as target:
        changing = _Changing(source, changed, target)
        changing.prepare(target)
    with Pool(changing.work(plan)) as pool:
        pool.start()
        while not pool.wait(load.POLL):
            progress.update(pool.bytes_done, pool.note)
    return changing, pool


def _finish(plan: CopyPlan, path: Path, changing: _Changing) -> None:
    """Restore the keys and all materialized views, enable triggers, gather statistics."""
    with load.lent(plan) as env:
        load.restore(plan, env, path, changing.rest())
    with load.writing(plan) as target:
        changing.finish(target, analyze=plan.options.analyze)


def _summary(changed: Sequence[TableCopy], expected: Proof) -> str:
    if not changed:
        return f"none of {report.plural(len(expected.tables), 'table')} differs"
    number = f"{report.count(len(changed))} of {report.plural(len(expected.tables), 'table')}"
    size = report.size(sum(table.relation.bytes for table in changed))
    return f"{number} differ, {size}: they are copied"


def _refuse_schema(plan: CopyPlan, source: Snapshot, scratch: Scratch) -> None:
    options = schema.schema_options(plan.tools)
    present = describe.described(
        *(plan.proving, HERE, plan.tools), encoding=plan.facts.encoding, options=options
    )
    differences, _ = prove.compare_schema(
        plan, source.archive, present, lambda: scratch(source.archive)
    )
    if differences:
        raise NotAlike(f"the schemas differ ({differences[0]})")


def _proof_of_side(plan: CopyPlan) -> Proof:
    return proofs.take(plan.proving, jobs=plan.options.jobs, purpose="db.copy proof", trusted=True)


def _changed(plan: CopyPlan, source: Snapshot, expected: Proof, actual: Proof) -> list[TableCopy]:
    """Return the tables that differ, raising NotAlike if they cannot be copied by themselves."""
    if expected.large_objects != actual.large_objects:
        raise NotAlike("the large objects differ")
    planned = tables.plan(source.exporter, source.rows, binary=True, masked=source.masking.routes())
    same = {
        table
        for table in set(expected.tables) & set(actual.tables)
        if expected.computed.get(str(table)) == actual.computed.get(str(table))
    }
    alike = {str(table) for table in same}
    changed = [replace(each, filled=True) for each in planned if str(each) not in alike]
    if special := [each for each in changed if not each.whole]:
        raise NotAlike(f"table {special[0]} belongs to an extension, or other tables take its rows")
    total = sum(each.relation.bytes for each in planned)
    if sum(each.relation.bytes for each in changed) > _MOST * total:
        raise NotAlike(f"{len(changed)} of {len(planned)} tables differ")
    return changed


class _Changing:
    """The tables that are copied into the side database, and what is in their way there."""

    def __init__(self, source: Snapshot, changed: Sequence[TableCopy], target: Connection) -> None:
        self._source, self._changed = source, changed
        names = [(each.relation.schema, each.relation.name) for each in changed]
        given = ([schema for schema, _ in names], [name for _, name in names])
        if unchecked := connection.rows(target, _UNCHECKED, given, into=tuple[str]):
            raise NotAlike(f"rows may break constraint {unchecked[0][0]!r}, which is not valid")
        self._keys = connection.rows(target, _KEYS, given, into=_Key)
        self._triggers = connection.rows(target, _TRIGGERS, given, into=_Trigger)
        self._builds = self._plain_indexes()
        wanted = {(key.schema, f"{key.table} {key.name}") for key in self._keys}
        self._added = {
            entry.number
            for entry in source.archive
            if entry.desc == "FK CONSTRAINT" and (entry.namespace, entry.tag) in wanted
        }
        if len(self._added) != len(self._keys):
            raise NotAlike("a foreign key is not in the schema of the source")

    def _plain_indexes(self) -> dict[str, IndexBuild]:
        """Return the indexes that nothing depends on: built anew, they are faster."""
        archive = self._source.archive
        needed = {number for entry in archive for number in entry.needs}
        sizes = {each.relation.oid: each.relation.bytes for each in self._changed if each.frozen}
        built = indexes.builds(indexes.read(self._source.exporter, sizes), archive, sizes)
        plain = {build.number: build for build in built if build.number not in needed}
        return {
            f"{entry.namespace}\0{entry.tag}": plain[entry.number]
            for entry in archive
            if entry.desc == "INDEX" and entry.number in plain
        }

    def prepare(self, target: Connection) -> None:
        """Drop the keys and indexes of the tables, and disable their triggers."""
        for key in self._keys:
            connection.execute(target, key.drop)
        for name in self._builds:
            statement = sql.SQL("DROP INDEX {}").format(sql.Identifier(*name.split("\0")))
            connection.execute(target, statement)
        for trigger in self._triggers:
            connection.execute(target, trigger.set("DISABLE"))

    def work(self, plan: CopyPlan) -> Work:
        """Return what the workers do."""
        return Work(
            source=self._source.sessions,
            target=lambda: load.writing_session(plan),
            batches=tables.batches(self._changed),
            indexes=indexes.by_table(self._builds.values()),
            lock=self._source.lock,
            check=self._source.check,
            throttle=Throttle(plan.options.rate),
            masks=self._source.masking.in_force,
        )

    def rest(self) -> list[Entry]:
        """Return the entries of the keys, of their comments, and of all materialized views."""
        return [
            entry
            for entry in self._source.archive
            if entry.number in self._added
            or entry.needs & self._added
            or entry.desc == "MATERIALIZED VIEW DATA"
        ]

    def finish(self, target: Connection, *, analyze: bool) -> None:
        """Enable the triggers again, and gather the statistics of what has other rows."""
        for trigger in self._triggers:
            connection.execute(target, trigger.set(_ENABLE[trigger.enabled]))
        for name in statistics.changed(target, self._filled()) if analyze else ():
            connection.execute(target, f"ANALYZE {name}")

    def _filled(self) -> list[Name]:
        """Return the tables that were copied, and the materialized views, which are all new."""
        return [
            *((each.relation.schema, each.relation.name) for each in self._changed),
            *(
                (entry.namespace, entry.tag)
                for entry in self._source.archive
                if entry.desc == "MATERIALIZED VIEW DATA"
            ),
        ]
