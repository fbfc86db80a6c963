"""Load the side database of a copy: schema, rows, indexes, everything else, statistics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from psycopg2 import sql

from pgtasks.copy import schema, snapshot
from pgtasks.copy.broken import explained
from pgtasks.copy.loaded import Clock, Loaded, Share
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.rows import indexes, tables
from pgtasks.copy.rows.pool import Pool, Work
from pgtasks.copy.rows.relay import Relay
from pgtasks.copy.rows.throttle import Throttle
from pgtasks.copy.snapshot import Snapshot
from pgtasks.host import pipeline, tempfiles, tools
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import Pipeline
from pgtasks.report import Console, Progress
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, statistics
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe, passes
from pgtasks.server.proof.entries import is_large
from pgtasks.server.proof.model import Proof, SequenceProof
from pgtasks.server.proof.toc import Entry

POLL = 0.1


def load(plan: CopyPlan, path: Path, revise: Revise, console: Console) -> Loaded:
    """Load the side database from one snapshot of the source; `path` is for its schema.

    `revise` raises an error if the schema needs other rights than that of the plan. Raises Retry if
    tables were altered meanwhile.
    """
    clock = Clock()
    with (
        console.progress("copy", sum(plan.origin.sizes.values()) or plan.origin.bytes) as progress,
        lent(plan) as env,
        ExitStack() as reading,
    ):
        source = reading.enter_context(snapshot.taken(plan, path, progress))
        if not schema.same(plan.left(plan.archive).kept(plan.archive), source.archive):
            revise(source)
        loading = _Loading(plan, source, reading, env)
        with explained(plan, source.archive), loading.pool as pool:
            clock.lap("snapshot")
            restore(plan, env, path, schema.before_rows(source.archive))
            clock.lap("schema")
            boundary("copy.loading")
            pool.start()
            proof = loading.finish(progress)
            clock.lap("rows and indexes")
        set_sequences(plan, source.sequences)
        with explained(plan, source.archive, second=True):
            second = _second(plan, source.sequences, progress) if plan.second else None
        if second:
            clock.lap("rows that are carried over")
        boundary("copy.loaded")
        built = {build.number for builds in loading.indexes.values() for build in builds}
        restore(plan, env, path, schema.after_rows(source.archive, built))
        clock.lap("constraints and the rest")
        if plan.options.analyze:
            _gather(plan, env)
            clock.lap("analyze")
    loaded = Loaded(
        *(proof, source.taken, tuple(source.archive), loading.large_entries, loading.routed),
        tables=len(pool.rows),
        rows=sum(pool.rows.values()),
        seconds=clock.seconds,
        slowest=pool.slowest,
        shares=_shares(source, pool),
    )
    return loaded if second is None else loaded.joined(second, plan)


def _gather(plan: CopyPlan, env: dict[str, str]) -> None:
    """Gather the statistics of the side database's tables."""
    with connection.session(plan.loading, read_only=True, purpose="db.copy") as conn:
        found = statistics.missing(conn)
    if found.tables:
        pipeline.run(HERE, [plan.load.analyze_command(env, found.tables)])
    statistics.gather_parents(plan.loading, found.parents, purpose="db.copy")


def _shares(source: Snapshot, pool: Pool) -> tuple[Share, ...]:
    return tuple(Share(total, pool.rows.get(oid, 0)) for oid, total in source.totals.items())


def _second(plan: CopyPlan, own: Sequence[SequenceProof], progress: Progress) -> Loaded:
    """Load the rows of the second database; `own` are the sequences of the first one."""
    assert plan.second is not None
    assert plan.carried is not None
    second = replace(plan.second, login=plan.login)
    with archive_file() as path, lent(second) as env, ExitStack() as reading:
        source = reading.enter_context(snapshot.taken(second, path, progress))
        loading = _Loading(second, source, reading, env)
        progress.expect(sum(second.origin.sizes.values()) or 1)
        with loading.pool as pool:
            pool.start()
            proof = loading.finish(progress)
    proof = replace(proof, sequences=plan.carried.values(own, proof.sequences))
    set_sequences(second, proof.sequences)
    if plan.carried.new:
        with writing(second) as conn:
            for owned in plan.carried.new:
                connection.execute(conn, owned.advance())
    return Loaded(
        *(proof, source.taken, (), loading.large_entries, loading.routed),
        tables=len(pool.rows),
        rows=sum(pool.rows.values()),
        seconds={},
        slowest=(),
        shares=_shares(source, pool),
    )


@contextmanager
def archive_file() -> Iterator[Path]:
    """Yield the path of a file for a schema, for the length of a block."""
    handle, path = tempfiles.file(".dump")
    os.close(handle)
    try:
        yield path
    finally:
        tempfiles.remove(path)


Revise = Callable[[Snapshot], None]


class _Loading:
    """The reading sessions of a load, ended as soon as the last row is read."""

    def __init__(
        self, plan: CopyPlan, source: Snapshot, reading: ExitStack, env: dict[str, str]
    ) -> None:
        self._plan, self._source, self._reading = plan, source, reading
        planned = tables.plan(
            source.exporter,
            source.rows,
            binary=plan.origin.major == plan.major and not plan.is_second,
            masked=source.masking.routes(),
        )
        self.routed = {str(table): table.root for table in planned if table.root}
        # the archive of a second database is not restored: its indexes come with the first one
        whole = {
            table.relation.oid: table.relation.bytes
            for table in planned
            if table.whole and not plan.is_second
        }
        self.indexes = indexes.by_table(
            indexes.builds(
                indexes.read(source.exporter, whole),
                *(source.archive, whole),
                spaces=not plan.no_tablespaces,
            )
        )
        source.watch.refuse_renamed()  # also of the indexes that were just read
        self.large_entries, self._large = self._large_objects(env)
        work = Work(
            source=source.sessions,
            target=lambda: writing_session(plan),
            batches=tables.batches(planned),
            indexes=self.indexes,
            lock=source.lock,
            check=source.check,
            throttle=Throttle(plan.options.rate),
            relay=_relay(plan, source),
            masks=source.masking.in_force,
        )
        self.pool = Pool(work)

    def _large_objects(self, env: dict[str, str]) -> tuple[tuple[Entry, ...], Sequence[Command]]:
        """Return the entries of the large objects, and the commands that copy them."""
        plan = self._plan
        if not self._source.content.large_objects:
            return (), ()
        passfile = self._reading.enter_context(HERE.passfile(plan.source))
        dump = snapshot.dump_of(plan, self._source.name)
        command = dump.large_objects_command(snapshot.environment(plan, passfile))
        return large_entries(plan, self._source), (command, plan.load.stream_command(env))

    def finish(self, progress: Progress) -> Proof:
        """Wait until all rows are in and their indexes built; return the source's proof."""
        proof: Proof | None = None
        with ExitStack() as stack:
            large = None
            if self._large:
                large = stack.enter_context(Pipeline(HERE, self._large))
            while not self.pool.wait(POLL) or proof is None:
                progress.update(self.pool.bytes_done, self.pool.note)
                if large and large.wait(POLL):
                    large.check()
                    large = None
                if (
                    proof is None
                    and not self.pool.reading
                    and not self.pool.failed  # its error says more
                    and not large
                    and self._source.proof.wait(POLL)
                ):
                    proof = self._read()
        return proof

    def _read(self) -> Proof:
        """Check the snapshot a last time, and end the sessions that hold it."""
        proof = self._source.proof.result()
        self._source.refuse_read(proof)
        self._reading.close()
        boundary("copy.read")
        return replace(proof, sequences=self._source.sequences)


def proof_of(source: Snapshot) -> Proof:
    """Wait for the proof of the snapshot."""
    while not source.proof.wait(POLL):
        pass
    return source.proof.result()


def large_entries(plan: CopyPlan, source: Snapshot) -> tuple[Entry, ...]:
    """Return the entries of the large objects in the snapshot."""
    if not source.content.large_objects:
        return ()
    options = (*schema.large_objects_options(plan.tools), f"--snapshot={source.name}")
    described = describe.described(
        *(plan.source, HERE, plan.tools), encoding=plan.origin.encoding, options=options
    )
    # grants on a language are in every archive
    return tuple(entry for entry in described if is_large(entry))


@contextmanager
def writing(plan: CopyPlan) -> Iterator[Connection]:
    """Open a session that writes rows for the length of a block."""
    conn = writing_session(plan)
    try:
        yield conn
    finally:
        conn.close()


def _relay(plan: CopyPlan, source: Snapshot) -> Relay | None:
    way = plan.rows_way
    return Relay(plan, way.host, way.psql, source.name) if way.host is not None else None


def writing_session(plan: CopyPlan) -> Connection:
    """Open a session that writes rows, as the role that owns the tables."""
    place = replace(plan.loading, role=plan.loading.role or plan.load.owner)
    conn = connection.connect(place, purpose="db.copy")
    try:
        connection.execute(conn, tables.writing_settings())
    except BaseException:
        conn.close()
        raise
    return conn


def set_sequences(plan: CopyPlan, sequences: Sequence[SequenceProof]) -> None:
    """Set sequences of the side database."""
    statements = [
        tables.setval_statement(each.schema, each.name, each.value, each.called)
        for each in sequences
    ]
    if statements:
        with writing(plan) as conn:
            connection.execute(conn, sql.SQL("; ").join(statements))


@contextmanager
def lent(plan: CopyPlan) -> Iterator[dict[str, str]]:
    """Yield the environment of the programs that load, for the length of a block."""
    with HERE.passfile(plan.loading) as passfile:
        yield tools.environment(HERE.view(plan.loading), passfile)


def restore(plan: CopyPlan, env: dict[str, str], path: Path, entries: Sequence[Entry]) -> None:
    """Run pg_restore of some entries of an archive."""
    for each in passes.passes(entries):
        with HERE.lend(each.listed) as use_list:
            command = plan.load.restore_command(env, path, use_list, serial=each.serial)
            pipeline.run(HERE, [command])


def load_schema(plan: CopyPlan, path: Path, archive: Sequence[Entry]) -> None:
    """Load the schema alone into an empty database."""
    everything = [*schema.before_rows(archive), *schema.after_rows(archive, ())]
    with lent(plan) as env:
        restore(plan, env, path, everything)
