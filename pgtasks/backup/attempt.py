"""One attempt at a consistent dump: snapshot, pg_dump, proof, and the check that both saw it.

pg_dump takes names from the snapshot and reads by them. A table that is rewritten (TRUNCATE, most
of ALTER TABLE) or that gives its name to another one after the snapshot and before pg_dump's lock
is dumped as empty, or with another table's rows, with exit code 0. So every table must have the
name and the file that it had in the snapshot when pg_dump holds its locks. From then on the locks
keep the dump safe, but for the names of schemas, which no lock keeps: they are looked at in the
end. The proof's sessions lock the tables right then too, else a waiting ALTER would come between,
and they check what they have read before they let go of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from pgtasks import catalog, connection, versiontable
from pgtasks.backup.dump import DumpPlan, Words, said_plainly
from pgtasks.backup.preflight import Source
from pgtasks.catalog import Relation
from pgtasks.connection import Connection
from pgtasks.errors import Failed
from pgtasks.host import Host
from pgtasks.names import quoted
from pgtasks.pipeline import Pipeline
from pgtasks.proof.content import Content, content
from pgtasks.proof.model import Proof
from pgtasks.proof.taking import SNAPSHOT, Contended, Moved, Taking, snapshot_of
from pgtasks.steps import reach
from pgtasks.target import Target

_PAUSE = 0.02  # seconds between looks at pg_dump and the proof, at first
_LONGEST_PAUSE = 0.25
_LOOK = 0.5  # seconds between looks at how far the dump is
_SHARE = 4  # the lock table's part that the proof may fill: pg_dump and its workers need theirs
_MOST_LOCKED = 2000  # tables that one session locks ahead
# what several processes fail with and one does not
_OF_WORKERS = {
    "out of shared memory": "the server's lock table is too small for several processes",
    "could not obtain lock on relation": "somebody waits to alter a table",
}


class Again(Exception):
    """Say that the attempt is worthless and another one may be better.

    `early` means before pg_dump began to write data; `serial` that its workers were in the way.
    """

    def __init__(self, why: str, *, early: bool = False, serial: bool = False) -> None:
        super().__init__(why)
        self.why, self.early, self.serial = why, early, serial


@dataclass(frozen=True)
class Attempt:
    """What an attempt works with. `with_proof` is the user's wish, `lock` whether to lock ahead."""

    target: Target
    host: Host
    plan: DumpPlan
    source: Source
    env: Mapping[str, str]
    with_proof: bool
    lock: bool
    progress: Callable[[int], None]


@dataclass(frozen=True)
class Dumped:
    """What an attempt brought: `snapshot_time` is the server's clock, UTC."""

    plan: DumpPlan
    snapshot_time: str
    revision: str
    content: Content
    proof: Proof | None
    warnings: tuple[str, ...]


def run(attempt: Attempt) -> Dumped:
    """Make a dump and its proof in one snapshot, raising Again where they may not be true."""
    with ExitStack() as stack:
        exporter, watch = (stack.enter_context(_session(attempt.target)) for _ in range(2))
        connection.execute(exporter, SNAPSHOT)
        snapshot, time = connection.rows(exporter, "SELECT pg_export_snapshot(), now()")[0]
        words = Words()
        dump = stack.enter_context(_started(attempt, snapshot, words, stack))
        reach("backup.dumping")
        found = _content(attempt, exporter)
        schemas = catalog.schemas(exporter)
        eye = _Eye(attempt, watch, (*found.tables, *found.others), words)
        _await_locks(dump, eye)
        eye.refuse_moved()
        proof = _finished(attempt, snapshot, found, dump, eye)
        _refuse_renamed(schemas, watch)
        return Dumped(
            plan=attempt.plan,
            snapshot_time=_utc(time),
            revision=_revision(watch, snapshot),
            content=found,
            proof=proof,
            warnings=tuple(words.warnings),
        )


def _session(target: Target) -> AbstractContextManager[Connection]:
    return connection.session(target, read_only=True, purpose="db.backup")


def _utc(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _started(attempt: Attempt, snapshot: str, words: Words, stack: ExitStack) -> Pipeline:
    command = attempt.plan.command(snapshot, attempt.env)
    sink = None
    if attempt.plan.streamed:
        handle = os.open(attempt.plan.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        sink = stack.enter_context(os.fdopen(handle, "wb"))
    return Pipeline(attempt.host, [command], stdout=sink, on_line=words.hear)


def _content(attempt: Attempt, conn: Connection) -> Content:
    return content(
        conn,
        exclude=attempt.source.excluded_oids,
        schema_only=attempt.plan.schema_only,
        sizes=attempt.source.sizes,
    )


class _Eye:
    """Watch the tables from outside the snapshot: what became of them, how far the dump is."""

    def __init__(
        self, attempt: Attempt, conn: Connection, tables: Sequence[Relation], words: Words
    ) -> None:
        self._conn, self._tables, self.words = conn, tuple(tables), words
        self._progress, self.jobs = attempt.progress, attempt.plan.jobs
        # pg_dump names a table without quotes
        self._sizes = {f"{table.schema}.{table.name}": table.bytes for table in tables}
        self._by_oid = {table.oid: table for table in tables}
        self._looked = time.monotonic()

    def moved(self) -> list[str]:
        """Return the tables that are not what the snapshot has under their names."""
        return [str(table) for table in catalog.moved(self._conn, self._tables)]

    def refuse_moved(self, *, early: bool = True) -> None:
        """Raise Again where a table is not what the snapshot has under its name."""
        if tables := self.moved():
            raise Again(f"altered meanwhile: {', '.join(tables)}", early=early)

    def look(self) -> None:
        """Say how far the dump is, now and then."""
        if time.monotonic() - self._looked < _LOOK:
            return
        running = connection.rows(
            self._conn,
            "SELECT relid::bigint, bytes_processed FROM pg_stat_progress_copy"
            " WHERE datname = current_database() AND command = 'COPY TO'",
        )
        done = sum(self._sizes.get(name, 0) for name in self.words.begun)
        for oid, processed in running:
            if oid in self._by_oid:
                done -= max(self._by_oid[oid].bytes - processed, 0)
        self._progress(done)
        self._looked = time.monotonic()


def _await_locks(dump: Pipeline, eye: _Eye) -> None:
    while not eye.words.locked.wait(_PAUSE):
        if dump.wait(0):
            _check(dump, eye)
            return


def _check(dump: Pipeline, eye: _Eye) -> None:
    """Raise what made pg_dump fail, Again where a new snapshot may help."""
    try:
        dump.check()
    except Failed as exc:
        failure = said_plainly(exc)
        for words, why in _OF_WORKERS.items():
            if words in failure.hint and eye.jobs > 1:
                raise Again(why, serial=True) from None
        eye.refuse_moved(early=not eye.words.begun)  # such as one dropped before it was locked
        raise failure from None


def _finished(
    attempt: Attempt, snapshot: str, found: Content, dump: Pipeline, eye: _Eye
) -> Proof | None:
    """Wait for pg_dump and the proof side by side; either one's failure ends the other."""
    if not attempt.with_proof:
        _wait(dump, eye, None)
        return None
    # the dump itself says where the sequences stand
    wanted = replace(found, sequences=())
    lock = attempt.lock and _fits(attempt, found)
    jobs = attempt.target.jobs
    try:
        with Taking(
            attempt.target, snapshot, wanted, jobs=jobs, lock=lock, purpose="db.backup proof"
        ) as taking:
            _wait(dump, eye, taking)
            return taking.result()
    except Contended as exc:
        raise Again(f"somebody waits to alter a table ({exc.message})", early=True) from None
    except Moved as exc:
        raise Again(exc.message) from None
    except Failed:
        eye.refuse_moved(early=False)  # such as one that was dropped
        raise


def _refuse_renamed(schemas: Mapping[int, tuple[str, str]], watch: Connection) -> None:
    """Raise Again where a schema was renamed since the snapshot: no lock keeps its name.

    One that has its old name again has another version.
    """
    now = catalog.schemas(watch)
    names = [
        quoted(name) for oid, (name, version) in schemas.items() if now.get(oid) != (name, version)
    ]
    if names:
        raise Again(f"altered meanwhile: schema {', '.join(names)}")


def _fits(attempt: Attempt, found: Content) -> bool:
    locks = len(found.tables) * attempt.target.jobs
    return len(found.tables) <= _MOST_LOCKED and locks * _SHARE <= attempt.source.locks


def _wait(dump: Pipeline, eye: _Eye, taking: Taking | None) -> None:
    pause = _PAUSE
    while True:
        ended = dump.wait(pause)
        if ended:
            _check(dump, eye)
        if taking is None or taking.wait(pause if ended else 0):
            if taking is not None:
                taking.result()
            if ended:
                return
        eye.look()
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _revision(conn: Connection, snapshot: str) -> str:
    """Return Alembic's revision as of the snapshot, several joined by commas, or nothing."""
    connection.execute(conn, SNAPSHOT)
    try:
        snapshot_of(conn, snapshot)
        return ",".join(versiontable.revisions(versiontable.read(conn)))
    finally:
        connection.execute(conn, "ROLLBACK")
