"""One attempt at a consistent dump: snapshot, pg_dump, proof, and a check for changes.

pg_dump and the proof must read the tables that the snapshot has under each name, see `watch`: if a
table is rewritten, or renamed, after the snapshot and before pg_dump's lock, pg_dump saves no rows,
or those of another table, with exit code 0. The sessions of the proof lock the tables as soon as
pg_dump does, so that no waiting ALTER comes between, and check the tables before they unlock them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from time import monotonic

from pgtasks.errors import Failed
from pgtasks.host.base import Host
from pgtasks.host.pipeline import Pipeline
from pgtasks.report import Progress
from pgtasks.report.boundaries import boundary
from pgtasks.server import catalog, connection, versiontable
from pgtasks.server.connection import Connection
from pgtasks.server.dump import obstacles
from pgtasks.server.dump.pack import Packed, Packer
from pgtasks.server.dump.pg_dump import DumpLog, DumpPlan, without_progress
from pgtasks.server.dump.source import Source
from pgtasks.server.dump.watch import Retry, Watch
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.reader import (
    SNAPSHOT,
    ProofReader,
    TableChanged,
    TableLocked,
    snapshot_of,
)
from pgtasks.server.proof.scope import Content, content
from pgtasks.settings.target import Target

_PAUSE = 0.02  # first interval of checks on pg_dump and the proof, in seconds
_LONGEST_PAUSE = 0.25
_SHARE = 4  # the share of the lock table for the proof; pg_dump and its workers need the rest
_MOST_LOCKED = 2000  # tables that one session locks in advance
# an error of several processes that one would not have
_OF_WORKERS = {
    "out of shared memory": "the server's lock table is too small for several processes",
    "could not obtain lock on relation": "somebody waits to alter a table",
}


@dataclass(frozen=True)
class Attempt:
    """The parameters of an attempt. `lock` says whether to lock tables in advance."""

    target: Target
    host: Host
    plan: DumpPlan
    source: Source
    env: Mapping[str, str]
    with_proof: bool
    lock: bool
    progress: Progress


@dataclass(frozen=True)
class Dumped:
    """The result of an attempt; `snapshot_time` is the server's clock, in UTC."""

    plan: DumpPlan
    snapshot_time: str
    revision: str
    content: Content
    proof: Proof | None
    warnings: tuple[str, ...]
    obstacles: tuple[str, ...] = ()  # obstacles to a restore
    packed: Mapping[str, Packed] = field(default_factory=dict)  # files, by their names in the dump


@dataclass(frozen=True)
class _Dump:
    """pg_dump, and what compresses its files if it does not."""

    pipeline: Pipeline
    packer: Packer | None

    def wait(self, seconds: float) -> bool:
        """Wait for pg_dump, at most `seconds`; return whether it has ended."""
        if self.packer:
            self.packer.look(self.pipeline)
        return self.pipeline.wait(seconds)

    def check(self) -> None:
        """Raise the error of pg_dump."""
        self.pipeline.check()

    def packed(self) -> Mapping[str, Packed]:
        """Wait until every file is compressed, and return them."""
        return self.packer.finish() if self.packer else {}


def run(attempt: Attempt) -> Dumped:
    """Make a dump and its proof in one snapshot, raising Retry if they may be wrong."""
    began = monotonic()
    with ExitStack() as stack:
        exporter, now = (stack.enter_context(_session(attempt.target)) for _ in range(2))
        connection.execute(exporter, SNAPSHOT)
        query = "SELECT pg_export_snapshot(), now()"
        snapshot, time = connection.rows(exporter, query, into=tuple[str, datetime])[0]
        words = DumpLog()
        dump = _started(attempt, snapshot, words, stack)
        boundary("backup.dumping")
        content = _content(attempt, exporter)
        watch = Watch(exporter, now, content, words, attempt.progress)
        revision = _revision(now, snapshot, watch)
        _await_locks(attempt, dump, watch)
        watch.refuse_moved(locked=True)
        if dump.wait(0):  # its locks may have been released earlier
            watch.refuse_moved(locked=False)
        proof = _finished(attempt, snapshot, content, dump, watch)
        watch.refuse_schemas()
        tables = (*content.tables, *content.others)
        budget = min(obstacles.MOST, max(obstacles.LEAST, _passed(began) * obstacles.SHARE))
        # without a proof, no table is read twice
        warnings = obstacles.found(now, snapshot, tables, budget) if proof is not None else []
        return Dumped(
            plan=attempt.plan,
            snapshot_time=_utc(time),
            revision=revision,
            content=content,
            proof=proof,
            warnings=tuple(words.warnings),
            obstacles=tuple(warnings),
            packed=dump.packed(),
        )


def _passed(began: float) -> float:
    return monotonic() - began


def _session(target: Target) -> AbstractContextManager[Connection]:
    return connection.session(target, read_only=True, purpose="db.backup")


def _utc(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _started(attempt: Attempt, snapshot: str, words: DumpLog, stack: ExitStack) -> _Dump:
    plan = attempt.plan
    command = plan.command(snapshot, attempt.env)
    sink, packer = None, None
    if plan.streamed:
        handle = os.open(plan.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        sink = stack.enter_context(os.fdopen(handle, "wb"))
    if plan.packed:
        packer = stack.enter_context(Packer(plan.path, jobs=plan.jobs))
    pipeline = Pipeline(attempt.host, [command], stdout=sink, on_line=words.hear)
    return _Dump(stack.enter_context(pipeline), packer)


def _content(attempt: Attempt, conn: Connection) -> Content:
    # patterns match names of the snapshot, as in pg_dump
    matched = catalog.without_data(conn, attempt.plan.exclude_table_data)
    return content(
        conn,
        exclude=[oid for oids in matched.values() for oid in oids],
        schema_only=attempt.plan.schema_only,
        sizes=attempt.source.sizes,
    )


def _await_locks(attempt: Attempt, dump: _Dump, watch: Watch) -> None:
    while not watch.words.locked.wait(_PAUSE):
        if dump.wait(0):
            _check(attempt, dump, watch)
            return


def _check(attempt: Attempt, dump: _Dump, watch: Watch) -> None:
    """Raise the error of pg_dump, or Retry if a new snapshot may help."""
    try:
        dump.check()
    except Failed as exc:
        failure = without_progress(exc)
        for words, why in _OF_WORKERS.items():
            if words in failure.hint and attempt.plan.jobs > 1:
                raise Retry(why, serial=True, hint=failure.hint) from None
        watch.explain(failure.hint)  # for example, a table was dropped before it was locked
        raise failure from None


def _finished(
    attempt: Attempt, snapshot: str, content: Content, dump: _Dump, watch: Watch
) -> Proof | None:
    """Wait for pg_dump and the proof in parallel; a failure of one ends the other."""
    if not attempt.with_proof:
        _wait(attempt, dump, watch, None)
        return None
    # the dump itself has the values of the sequences
    wanted = replace(content, sequences=())
    try:
        with ProofReader(
            *(attempt.target, snapshot, wanted),
            jobs=attempt.target.jobs,
            lock=attempt.lock and _fits(attempt, content),
            purpose="db.backup proof",
            # pg_dump may have ended, with its locks, before the proof has its own
            check=watch.refuse_columns,
        ) as taking:
            _wait(attempt, dump, watch, taking)
            proof = taking.result()
    except TableLocked as exc:
        raise Retry(f"somebody waits to alter a table ({exc.message})", early=True) from None
    except TableChanged as exc:
        raise Retry(exc.message) from None
    except Failed as exc:
        watch.explain(f"{exc.message}\n{exc.hint}".strip())  # for example, a table was dropped
        raise
    watch.refuse_unread(content, proof)
    return proof


def _fits(attempt: Attempt, content: Content) -> bool:
    locks = len(content.tables) * attempt.target.jobs
    return len(content.tables) <= _MOST_LOCKED and locks * _SHARE <= attempt.source.locks


def _wait(attempt: Attempt, dump: _Dump, watch: Watch, taking: ProofReader | None) -> None:
    pause, ended, schema_read = _PAUSE, False, False
    while True:
        if not ended and (ended := dump.wait(pause)):
            _check(attempt, dump, watch)
        if not schema_read and (ended or watch.words.begun):
            watch.refuse_renamed()
            schema_read = True
        if taking is None or taking.wait(pause if ended else 0):
            if taking is not None:
                taking.result()
            if ended:
                return
        watch.look(taking)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _revision(conn: Connection, snapshot: str, watch: Watch) -> str:
    """Return Alembic's revisions in the snapshot, joined by commas, or an empty text."""
    connection.execute(conn, SNAPSHOT)
    try:
        snapshot_of(conn, snapshot)
        tables = versiontable.read(conn)
        homes = [
            relation
            for name in {table.name for table in tables}
            for relation in catalog.relations(conn, "r", named=name)
        ]
        watch.refuse_moved(locked=True, tables=homes)
        return ",".join(versiontable.revisions(tables))
    except Failed as exc:
        connection.execute(conn, "ROLLBACK")
        watch.explain(exc.message)
        raise
    finally:
        connection.execute(conn, "ROLLBACK")
