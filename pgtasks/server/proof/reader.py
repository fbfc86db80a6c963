"""Take a proof with parallel sessions in one snapshot, which can be cancelled at any time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg2

from pgtasks.errors import Failed
from pgtasks.host.worker import Worker
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translate, translate_without_values
from pgtasks.server.proof import naming
from pgtasks.server.proof.fingerprint import (
    batch_query,
    batches,
    computed,
    large_objects_query,
    lock_statement,
    pin_statement,
    sequence_query,
)
from pgtasks.server.proof.model import FORMAT, Proof, SequenceProof, TableProof, Unproven
from pgtasks.server.proof.scope import Content
from pgtasks.server.rows import hides
from pgtasks.settings.target import Target

_SEQUENCES_AT_ONCE = 500
# A table that fails with one of these errors is listed as unproven: without a privilege, with rows
# that have no text (above 1 GB, or of a broken type), or with an index on a function that fails
# with our search_path (SELECT plans it, COPY does not). Other errors end the proof.
_OF_THE_TABLE = ("22", "42", "54", "XX", "0A")
_LOCK_NOT_AVAILABLE = "55P03"
_SLICE = 0.5  # seconds of one wait, so that signals are handled
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class TableLocked(Failed):
    """A table could not be locked at once, because another session waits to alter it."""


class TableChanged(Failed):
    """Tables differ from the snapshot, because they were truncated, altered or renamed."""


def snapshot_of(conn: Connection, snapshot: str | None) -> str:
    """Put the open transaction on an exported snapshot, or export its own; return its name."""
    if snapshot is None:
        return connection.value(conn, "SELECT pg_export_snapshot()", into=str)
    connection.execute(conn, "SET TRANSACTION SNAPSHOT %s", (snapshot,))
    return snapshot


Step = Callable[[Connection], None]


@dataclass(frozen=True)
class TableReading:
    """What was read of a table: its proof, and apart the fingerprints of generated columns.

    `unchanged` are the numbers of values that the masks of `Relation.expressions` leave.
    """

    proof: TableProof
    computed: Mapping[str, str]
    unchanged: Sequence[int]


def reading_of(
    table: Relation, rows: int, fingerprint: str | None, apart: Sequence[str], format: int
) -> TableReading:
    """Return the reading of a table from its row of `batch_query`, without the number."""
    columns = computed(table, format)
    fingerprints, unchanged = apart[: len(columns)], apart[len(columns) :]
    return TableReading(
        TableProof(table.schema, table.name, rows, fingerprint or "0"),
        dict(zip(columns, fingerprints, strict=True)) if rows else {},
        [int(number) for number in unchanged],
    )


class ProofReader:
    """Take a proof with sessions in threads; leaving the block ends them.

    With `lock`, each session locks all tables before it reads the first, raising TableLocked if it
    would have to wait. Otherwise tables are locked in batches, each in a transaction that imports
    the snapshot again, so that no table is locked longer than it is read. `check` is called with
    the tables of each batch while they are locked, and may raise an error. With `masks`, no error
    of a condition shows a value. The tables of `known` readings, by OID, are not read again.
    """

    def __init__(
        self,
        target: Target,
        snapshot: str,
        content: Content,
        *,
        jobs: int = 2,
        lock: bool = False,
        purpose: str = "proof",
        format: int = FORMAT,
        check: Callable[[Sequence[Relation]], None] | None = None,
        masks: bool = False,
        known: Mapping[int, TableReading] | None = None,
    ) -> None:
        self.target, self.snapshot, self.content = target, snapshot, content
        self.purpose, self.format, self._check = purpose, format, check
        self._masks = masks
        self._lock = lock and bool(content.tables)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._tables: dict[int, TableProof] = {}
        self._computed: dict[str, dict[str, str]] = {}
        self._sequences: dict[int, SequenceProof] = {}
        self._unproven: list[Unproven] = list(content.unproven)
        self.unchanged: dict[tuple[str, str, str], int] = {}  # values of masked columns
        self._large: TableProof | None = None
        self._extensions: dict[str, str] = {}
        self._version = 0
        self._known = known or {}
        for number, table in enumerate(content.tables):
            if table.oid in self._known:
                self._note(number, self._known[table.oid])
        self._connections: list[Connection] = []
        self._steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
        for step in self._planned():
            self._steps.put(step)
        number = max(1, min(jobs, self._steps.qsize()))
        self._workers = [Worker(self._work) for _ in range(number)]

    def __enter__(self) -> ProofReader:
        for worker in self._workers:
            worker.start()
        return self

    def _planned(self) -> Iterable[Step]:
        """Yield the work, tables by size."""
        yield self._read_extensions
        numbered = enumerate(self.content.tables)
        parts = list(batches(item for item in numbered if item[1].oid not in self._known))
        yield from (self._counting(part) for part in parts if len(part) == 1)
        if self.content.large_objects:
            yield self._read_large_objects
        yield from (self._counting(part) for part in parts if len(part) > 1)
        sequences = list(enumerate(self.content.sequences))
        for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
            yield self._reading(sequences[start : start + _SEQUENCES_AT_ONCE])

    def _work(self) -> None:
        try:
            with connection.session(self.target, read_only=True, purpose=self.purpose) as conn:
                self._connections.append(conn)
                try:
                    self._work_on(conn)
                finally:
                    self._connections.remove(conn)
        except BaseException as exc:
            if self._failure is None:
                self._failure = exc
            self.cancel()

    def _work_on(self, conn: Connection) -> None:
        connection.execute(conn, pin_statement())
        self._version = conn.server_version
        if self._lock:
            self._begin(conn)
            self._lock_tables(conn)
        while not self._stop.is_set():
            try:
                step = self._steps.get_nowait()
            except queue.Empty:
                return
            if not self._lock:
                self._begin(conn)
            step(conn)
            if not self._lock:
                connection.execute(conn, "COMMIT")

    def _begin(self, conn: Connection) -> None:
        connection.execute(conn, SNAPSHOT)
        snapshot_of(conn, self.snapshot)

    def _lock_tables(self, conn: Connection) -> None:
        try:
            with conn.cursor() as cursor:
                cursor.execute(lock_statement(self.content.tables))
        except psycopg2.Error as exc:
            if exc.pgcode == _LOCK_NOT_AVAILABLE:
                raise TableLocked(str(exc).partition("\n")[0]) from None
            raise translate(exc) from None

    def _counting(self, part: list[tuple[int, Relation]]) -> Step:
        return lambda conn: self._count(conn, part)

    def _count(self, conn: Connection, part: list[tuple[int, Relation]]) -> None:
        """Count a batch, or each table by itself if one of them fails."""
        connection.execute(conn, "SAVEPOINT batch")
        try:
            with conn.cursor() as cursor:
                cursor.execute(batch_query(part, self.format))
                results = cursor.fetchall()
        except psycopg2.Error as exc:
            hidden = any(hides(table, masks=self._masks) for _, table in part)
            told = translate_without_values if hidden else translate
            if not (exc.pgcode or "").startswith(_OF_THE_TABLE):
                raise told(exc) from None
            connection.execute(conn, "ROLLBACK TO batch")
            if len(part) == 1:
                self._unproven.append(Unproven(f"table {part[0][1]}", told(exc).message))
            else:
                for item in part:
                    self._count(conn, [item])
            return
        connection.execute(conn, "RELEASE SAVEPOINT batch")
        self._refuse_moved(conn, [table for _, table in part])
        if self._check:
            self._check([table for _, table in part])
        for number, rows, fingerprint, apart in results:
            table = self.content.tables[number]
            self._note(number, reading_of(table, rows, fingerprint, apart, self.format))

    def _note(self, number: int, reading: TableReading) -> None:
        table = self.content.tables[number]
        self._tables[number] = reading.proof
        if reading.computed:
            self._computed[str(table)] = dict(reading.computed)
        for column, values in zip(table.expressions, reading.unchanged, strict=True):
            self.unchanged[table.schema, table.name, column] = values

    def _refuse_moved(self, conn: Connection, relations: Sequence[Relation]) -> None:
        """Check that the tables read, which are still locked, are those of the snapshot."""
        if names := naming.moved(conn, relations):
            raise TableChanged(f"altered meanwhile: {', '.join(map(str, names))}")

    def _reading(self, part: list[tuple[int, Relation]]) -> Step:
        def read(conn: Connection) -> None:
            rows = connection.rows(conn, sequence_query(part), into=tuple[int, int, bool])
            self._refuse_moved(conn, [sequence for _, sequence in part])
            for number, value, called in rows:
                relation = self.content.sequences[number]
                self._sequences[number] = SequenceProof(
                    relation.schema, relation.name, value, called
                )

        return read

    def _read_extensions(self, conn: Connection) -> None:
        self._extensions = catalog.extensions(conn)

    def _read_large_objects(self, conn: Connection) -> None:
        connection.execute(conn, "SAVEPOINT large")
        try:
            with conn.cursor() as cursor:
                cursor.execute(large_objects_query(self.format))
                number, fingerprint = cursor.fetchall()[0]
        except psycopg2.Error as exc:
            if not (exc.pgcode or "").startswith(_OF_THE_TABLE):
                raise translate(exc) from None
            connection.execute(conn, "ROLLBACK TO large")
            reason = str(exc).strip().partition("\n")[0]
            self._unproven.append(Unproven("large objects", reason))
        else:
            self._large = TableProof("pg_catalog", "pg_largeobject", number, fingerprint or "0")

    def wait(self, seconds: float = 0.0) -> bool:
        """Wait at most `seconds`; return whether the proof is complete."""
        end = time.monotonic() + seconds
        return all(worker.wait(max(0.0, end - time.monotonic())) for worker in self._workers)

    @property
    def bytes_read(self) -> int:
        """Return the estimated bytes of the tables that were read."""
        return sum(self.content.tables[number].bytes for number in list(self._tables))

    def result(self) -> Proof:
        """Wait for the end and return the proof, raising the error that ended it."""
        while not self.wait(_SLICE):
            pass
        if self._failure is not None:
            raise self._failure
        return self._proof()

    def read_in(self, conn: Connection) -> Proof:
        """Do all of the work in the open transaction of a session, instead of the block."""
        self._version = conn.server_version
        while not self._steps.empty():
            self._steps.get_nowait()(conn)
        return self._proof()

    def _proof(self) -> Proof:
        return Proof(
            format=self.format,
            server_version=self._version,
            tables=tuple(table for _, table in sorted(self._tables.items())),
            sequences=tuple(sequence for _, sequence in sorted(self._sequences.items())),
            extensions=self._extensions,
            large_objects=self._large,
            unproven=tuple(sorted(self._unproven, key=lambda item: item.object)),
            computed=dict(sorted(self._computed.items())),
            of_extensions={
                str(each): each.extension for each in self.content.tables if each.extension
            },
        )

    def cancel(self) -> None:
        """Cancel the statements of all sessions."""
        self._stop.set()
        for conn in list(self._connections):
            try:
                conn.cancel()
            except psycopg2.Error:
                continue  # it has ended

    def __exit__(self, *_: object) -> None:
        # repeatedly, because a cancel request between two statements has no effect
        while not self.wait():
            self.cancel()
            self.wait(0.05)
