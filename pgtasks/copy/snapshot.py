"""The snapshot of the source that all sessions of a copy read, and its check against rewrites.

pg_dump locks the tables while it reads the schema. The session that exports the snapshot locks
them too, before pg_dump ends, so that each name means the same table until the rows are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from pgtasks.copy.mask import coverage
from pgtasks.copy.mask.masking import Masking
from pgtasks.copy.part.scope import NO_ROWS
from pgtasks.copy.part.selection import Total, narrowed, totals
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.rows import tables
from pgtasks.copy.rows.tables import TableCopy
from pgtasks.copy.schema import Dump
from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host import tools
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import Pipeline
from pgtasks.report import Progress, typed
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.dump import pg_dump
from pgtasks.server.dump.pg_dump import DumpLog
from pgtasks.server.dump.watch import Retry, Watch
from pgtasks.server.errors import translate
from pgtasks.server.identity import identify, moment, refuse_other
from pgtasks.server.proof import naming
from pgtasks.server.proof.fingerprint import lock_statement, sequence_query
from pgtasks.server.proof.model import Proof, SequenceProof
from pgtasks.server.proof.reader import SNAPSHOT, ProofReader, snapshot_of
from pgtasks.server.proof.scope import Content, content
from pgtasks.server.proof.toc import Entry

_PAUSE = 0.02
_LOCK_NOT_AVAILABLE = "55P03"
_SHARE = 4  # the share of the lock table for a copy
_MOST_LOCKED = 2000  # tables that one session locks in advance
_SEQUENCES_AT_ONCE = 500
_NOT_LOCKED = (
    "a subset locks all tables of the source at once, and its lock table is too small: raise "
    "max_locks_per_transaction, or use fewer --jobs"
)


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot of the source, its content, and the schema in it.

    `taken` is its time. `sessions` read it, one for each worker, and `proof` reads it beside them.
    `locked` says whether each of them has locked all tables in advance; `rows` are all tables with
    rows to copy, and `totals` the rows of those of which only a part is copied.
    """

    plan: CopyPlan
    exporter: Connection
    sessions: tuple[Connection, ...]
    proof: ProofReader
    name: str
    taken: str
    content: Content
    watch: Watch
    archive: Sequence[Entry]
    sequences: tuple[SequenceProof, ...]
    locked: bool
    masking: Masking
    totals: Mapping[int, Total]

    @property
    def rows(self) -> tuple[Relation, ...]:
        """Return the tables whose rows are copied."""
        tables = (*self.content.tables, *self.content.others)
        absent = bool(self.plan.origin.conflicts is not None)  # a standby has no unlogged rows
        return tuple(
            each
            for each in tables
            if each.condition != NO_ROWS and not (absent and each.persistence == "u")
        )

    def refuse_read(self, proof: Proof) -> None:
        """Raise an error if what was read is not the snapshot, or not masked."""
        self.watch.refuse_unread(self.content, proof)
        self.watch.refuse_schemas()
        self.refuse_unmasked()

    def lock(self, conn: Connection, tables: Sequence[TableCopy]) -> None:
        """Lock tables before they are read, if not all are locked already."""
        if not self.locked:
            lock(conn, [table.relation for table in tables])

    def refuse_unmasked(self) -> None:
        """Raise NotProven if masks left values as they are."""
        if lines := self.masking.unchanged(self.proof.unchanged):
            raise _left_plain(lines)
        failed = [
            str(table)
            for table in self.rows
            if any(
                (table.schema, table.name, each) not in self.proof.unchanged
                for each in table.expressions
            )
        ]
        if failed:
            names = ", ".join(failed)
            preview = typed.task("mask.preview", environment=self.plan.source.environment)
            raise NotProven(
                f"the masks of {names} failed, nothing was replaced: {preview} shows why"
            )

    def check(self, conn: Connection, tables: Sequence[TableCopy]) -> None:
        """Raise Retry if tables that were read, and are still locked, are not the snapshot's."""
        relations = [table.relation for table in tables]
        if moved := naming.moved(conn, relations):
            raise Retry(f"altered meanwhile: {', '.join(map(str, moved))}")
        self.watch.refuse_columns(relations)


def _left_plain(lines: Sequence[str]) -> NotProven:
    return NotProven(
        "masks left values as they are, nothing was replaced",
        hint="\n".join([*lines, "a rule may begin with 'partly' if that is wanted"]),
        details={"unchanged": list(lines)},
    )


def lock(conn: Connection, tables: Sequence[Relation]) -> None:
    """Lock tables, raising Retry if somebody waits to alter one of them."""
    if not tables:
        return
    try:
        with conn.cursor() as cursor:
            cursor.execute(lock_statement(tables))
    except psycopg2.Error as exc:
        if exc.pgcode == _LOCK_NOT_AVAILABLE:
            raise Retry(f"somebody waits to alter a table ({exc})".splitlines()[0]) from None
        raise translate(exc) from None


@contextmanager
def taken(plan: CopyPlan, path: Path, progress: Progress) -> Iterator[Snapshot]:
    """Export a snapshot for the length of a block, with the schema in it dumped into a file.

    Raises Retry if the schema was altered while it was read.
    """
    with ExitStack() as stack:
        exporter = stack.enter_context(_session(plan, "db.copy snapshot"))
        now = stack.enter_context(_session(plan, "db.copy"))
        connection.execute(exporter, SNAPSHOT)
        name, taken = snapshot_of(exporter, None), moment(exporter)
        for conn in (exporter, now):
            refuse_other(plan.allowed, identify(conn), plan.source.database)
        words = DumpLog()
        with _dumping(plan, name, path, words) as dump:
            boundary("copy.dumping")
            sessions = tuple(
                stack.enter_context(_reading(plan, name)) for _ in range(plan.options.jobs)
            )
            everything = content(exporter, sizes=plan.origin.sizes)
            masking = _masking(plan, exporter)
            scope = _scope(plan, exporter, everything, masking)
            watch = Watch(exporter, now, scope, words, progress)
            _await_locks(dump, watch)
            # at once, so that nobody who wants to alter a table comes between
            is_locked = _lock_all(plan, (exporter, *sessions), scope)
            proof = _proof(plan, name, scope, watch, locked=is_locked, masks=masking.in_force)
            stack.enter_context(proof)
            watch.refuse_moved(locked=True)
            if dump.wait(0):  # its locks may have been released earlier
                watch.refuse_moved(locked=False)
            _check(dump, watch)
        counted = totals(exporter, everything, scope)
        sequences = _sequences(now, scope.sequences)
        watch.refuse_renamed()
        contents = pg_dump.contents(HERE, "custom", path)
        archive = plan.left(contents).kept(contents)
        yield Snapshot(
            *(plan, exporter, sessions, proof, name, taken, scope, watch, archive, sequences),
            *(is_locked, masking),
            totals=counted,
        )


def _scope(plan: CopyPlan, exporter: Connection, everything: Content, masking: Masking) -> Content:
    """Return what is copied of the content of a snapshot, masked."""
    scope = plan.taken(narrowed(exporter, everything, plan.options.scope, plan.part.now))
    return replace(
        scope,
        tables=masking.applied(map(_without_jobs, scope.tables)),
        others=masking.applied(map(_without_jobs, scope.others)),
        large_objects=scope.large_objects and not masking.without_large_objects,
    )


def _lock_all(plan: CopyPlan, sessions: Iterable[Connection], scope: Content) -> bool:
    """Lock all tables in advance, if they fit into the lock table; return whether they do."""
    is_locked = _fits(plan, scope)
    if plan.options.scope.subset and not is_locked:
        raise Refused(_NOT_LOCKED)
    for conn in sessions if is_locked else ():
        lock(conn, (*scope.tables, *scope.others))
    return is_locked


def _without_jobs(table: Relation) -> Relation:
    """Return a table of pg_cron without its rows: the jobs of the source would run here too."""
    return replace(table, condition=NO_ROWS) if table.extension == "pg_cron" else table


def _masking(plan: CopyPlan, exporter: Connection) -> Masking:
    masks, encoding = plan.options.masks, plan.origin.encoding
    return coverage.decided(exporter, masks, encoding=encoding, without=plan.part.oids)


def _session(plan: CopyPlan, purpose: str) -> AbstractContextManager[Connection]:
    return connection.session(plan.source, read_only=True, purpose=purpose)


@contextmanager
def _reading(plan: CopyPlan, snapshot: str) -> Iterator[Connection]:
    """Open a session that reads the snapshot, and masks it."""
    with connection.session(plan.masked, read_only=True, purpose="db.copy") as conn:
        connection.execute(conn, tables.reading_settings())
        connection.execute(conn, SNAPSHOT)
        snapshot_of(conn, snapshot)
        yield conn


def _proof(
    plan: CopyPlan, snapshot: str, scope: Content, watch: Watch, *, locked: bool, masks: bool
) -> ProofReader:
    # the values of sequences are read by themselves, because they ignore snapshots
    scope = replace(scope, sequences=())
    if not plan.options.proof:
        masked = tuple(table for table in scope.tables if table.expressions)  # to count what stays
        scope = replace(scope, tables=masked, large_objects=False)
    return ProofReader(
        *(plan.masked, snapshot, scope),
        jobs=plan.options.jobs,
        lock=locked,
        purpose="db.copy proof",
        check=watch.refuse_columns,
        masks=masks,
    )


@contextmanager
def _dumping(plan: CopyPlan, name: str, path: Path, words: DumpLog) -> Iterator[Pipeline]:
    with HERE.passfile(plan.source) as passfile:
        env = environment(plan, passfile)
        command = dump_of(plan, name).schema_command(path, env)
        with Pipeline(HERE, [command], on_line=words.hear) as dump:
            yield dump


def environment(plan: CopyPlan, passfile: str) -> dict[str, str]:
    """Return the environment of a pg_dump of the source, whose sessions are read-only."""
    env = tools.environment(HERE.view(plan.source), passfile, read_only=True)
    env["PGOPTIONS"] += connection.of_programs(plan.source)
    return env


def dump_of(plan: CopyPlan, snapshot: str) -> Dump:
    """Return the commands of pg_dump in a snapshot of the source."""
    return Dump(plan.tools, plan.source.database, snapshot, plan.origin.encoding)


def _fits(plan: CopyPlan, scope: Content) -> bool:
    """Return whether all sessions can lock all tables; the rows of a subset need it."""
    number = len(scope.tables) + len(scope.others)
    sessions = 2 * plan.options.jobs + 1  # workers, proof, the exporter
    few = number <= _MOST_LOCKED or plan.options.scope.subset
    return few and number * sessions * _SHARE <= plan.origin.locks


def _await_locks(dump: Pipeline, watch: Watch) -> None:
    while not watch.words.locked.wait(_PAUSE):
        watch.look(None)
        if dump.wait(0):
            _check(dump, watch)
            return


def _check(dump: Pipeline, watch: Watch) -> None:
    """Wait for pg_dump and raise its error, or Retry if the schema was altered meanwhile."""
    try:
        dump.check()
    except Failed as exc:
        failure = pg_dump.without_progress(exc)
        watch.explain(failure.hint)
        raise failure from None


def _sequences(conn: Connection, relations: Sequence[Relation]) -> tuple[SequenceProof, ...]:
    """Return the values of sequences, which ignore snapshots: they are never behind the rows."""
    found = []
    numbered = list(enumerate(relations))
    for start in range(0, len(numbered), _SEQUENCES_AT_ONCE):
        query = sequence_query(numbered[start : start + _SEQUENCES_AT_ONCE])
        for number, value, called in connection.rows(conn, query, into=tuple[int, int, bool]):
            relation = relations[number]
            found.append(SequenceProof(relation.schema, relation.name, value, called))
    return tuple(found)
