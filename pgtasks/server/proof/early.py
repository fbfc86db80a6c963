"""Count and fingerprint tables while a load builds their indexes.

A load that builds indexes leaves part of the machine idle, and the rows of most tables are complete
long before its end. What is read early counts only if the server's statistics say at the end that
the load alone has written into the table; every other table is read again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping

import psycopg2

from pgtasks.errors import PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.server import connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof.fingerprint import batch_query, lock_statement, pin_statement
from pgtasks.server.proof.reader import TableReading, reading_of
from pgtasks.server.proof.scope import content
from pgtasks.settings.target import Target

Name = tuple[str, str]
_PATIENCE = 0.05  # seconds before a table is tried again that the load has locked
# Each table's file, another one after TRUNCATE, and the rows that were written into the table since
# the database was created, if the server counts them.
_WRITTEN = """
SELECT oid, pg_relation_filenode(oid), pg_stat_get_tuples_inserted(oid),
  pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
FROM pg_class WHERE oid = ANY (%s::oid[])
"""
_FILE = "SELECT pg_relation_filenode(%s::oid)"
# Whether anybody else is there. A session passes on what it has counted once in a second and at its
# end, which is some time after the end of its program, and after which it is not listed any more.
_OTHERS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
  AND pid <> pg_backend_pid() AND usesysid IS NOT NULL)
"""
_ENDS = 2.0  # seconds that the sessions of a load may take to end


class EarlyReader:
    """A session that reads tables as `arrive` names them, in a block around the load.

    It never waits for a lock: the load has tables to itself when it adds keys to them. An error
    ends it without a word, because whatever it has not read is read at the end. Leaving the block
    waits for the table that is being read, or cancels it after an error.
    """

    def __init__(self, target: Target, *, format: int, purpose: str) -> None:
        self._target, self._format, self._purpose = target, format, purpose
        self._names: queue.SimpleQueue[Name] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._conn: Connection | None = None
        self._readings: dict[int, tuple[int, TableReading]] = {}  # with the table's file
        self._all_counted = False  # whether all who wrote during the load have counted
        self._failed = False
        self._worker = Worker(self._work)

    def __enter__(self) -> EarlyReader:
        self._worker.start()
        return self

    def arrive(self, schema: str, name: str) -> None:
        """Say that the rows of a table are complete."""
        self._names.put((schema, name))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._failed = kind is not None
        self._stop.set()
        while not self._worker.wait(_PATIENCE):
            if kind is not None:
                self._cancel()

    def readings(self, conn: Connection) -> Mapping[int, TableReading]:
        """Return what was read of tables into which nobody else has written, by OID.

        An empty table is read again: where rows are not counted, it looks as if it had stayed so.
        All are where somebody else's session has outlived the load, who may have written.
        """
        if not self._all_counted:
            return {}
        parameters = (list(self._readings),)
        written = connection.rows(conn, _WRITTEN, parameters, into=tuple[int, int, int, int])
        now = {oid: facts for oid, *facts in written}
        return {
            oid: reading
            for oid, (file, reading) in self._readings.items()
            if reading.proof.rows and now.get(oid) == [file, reading.proof.rows, 0]
        }

    def _cancel(self) -> None:
        if (conn := self._conn) is not None:
            try:
                conn.cancel()
            except psycopg2.Error:
                pass  # it has ended

    def _work(self) -> None:
        try:
            self._read()
        except (psycopg2.Error, PgtasksError):
            pass

    def _read(self) -> None:
        first = self._next()
        if first is None:
            return
        with connection.session(self._target, read_only=True, purpose=self._purpose) as conn:
            self._conn = conn
            connection.execute(conn, pin_statement())
            tables = {
                (table.schema, table.name): table for table in content(conn, trusted=True).tables
            }
            name: Name | None = first
            while name is not None:
                if name in tables and not self._taken(conn, tables[name]):
                    self._names.put(name)
                    self._stop.wait(_PATIENCE)
                name = self._next()
            self._all_counted = not self._failed and _is_alone(conn)

    def _next(self) -> Name | None:
        while not self._stop.is_set():
            try:
                return self._names.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
        return None

    def _taken(self, conn: Connection, table: Relation) -> bool:
        """Read a table; return False if the load has locked it."""
        connection.execute(conn, "BEGIN READ ONLY")
        try:
            with conn.cursor() as cursor:
                cursor.execute(lock_statement([table]))
                cursor.execute(batch_query([(0, table)], self._format))
                ((_, rows, fingerprint, apart),) = cursor.fetchall()
                cursor.execute(_FILE, (table.oid,))
                ((file,),) = cursor.fetchall()
        except psycopg2.errors.LockNotAvailable:
            return False
        except psycopg2.Error:
            if conn.closed:
                raise
            return True  # an error that the proof will explain
        finally:
            if not conn.closed:
                connection.execute(conn, "ROLLBACK")
        reading = reading_of(table, rows, fingerprint, apart, self._format)
        self._readings[table.oid] = file, reading
        return True


def _is_alone(conn: Connection) -> bool:
    """Wait until all other sessions of the database have ended, returning False if some stay."""
    latest = time.monotonic() + _ENDS
    while connection.value(conn, _OTHERS, into=bool):
        if time.monotonic() > latest:
            return False
        time.sleep(_PATIENCE)
    return True
