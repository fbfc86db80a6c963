"""Trace the table locks of revisions, as their own sessions hold them after each statement."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.listeners import listening
from pgtasks.schema.migrate.errors import one_line
from pgtasks.schema.migrate.ledger import Ledger
from pgtasks.server.quoting import qualified

# what others must wait with, while a lock of that mode is held; the strongest first
_BLOCKS = {
    "AccessExclusiveLock": "reads and writes",
    "ExclusiveLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ShareLock": "writes",
}
_ORDER = {mode: number for number, mode in enumerate(_BLOCKS)}
_STATEMENT = 100  # characters that are kept
# A table that the revision itself has made is seen by nobody else. The name of the statement's own
# relation comes with it, whatever its schema is.
_LOCKS = """
SELECT n.nspname, c.relname, l.mode FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) l.relation
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
  AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted
  AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m}')
"""


@dataclass(frozen=True)
class TableLock:
    """A lock of a revision on a table; `seconds` from its statement to the end of its transaction.

    `blocks` is what other sessions cannot do meanwhile, `statement` the one that took it.
    """

    revision: str
    table: str
    mode: str
    blocks: str
    seconds: float
    statement: str

    def line(self) -> str:
        """Return what a person reads."""
        words = f"{self.table}: {self.blocks} wait for {report.duration(self.seconds)}"
        return f"{words} ({self.mode}): {self.statement}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass
class _Held:
    """A lock that is held; `since` is a time of the monotonic clock."""

    revision: str
    statement: str
    since: float


class LockTrace:
    """The locks of a run on tables that were there before it, in the order in which they end.

    A lock that blocks no more than one which is held already is left out.
    """

    def __init__(self, ledger: Ledger, tables: set[tuple[str, str]]) -> None:
        self._ledger, self._tables = ledger, tables
        self._held: dict[tuple[int, str, str, str], _Held] = {}
        self.locks: list[TableLock] = []

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Trace the statements of all engines for the length of a block."""
        with listening(after_cursor_execute=self._after, commit=self._end, rollback=self._end):
            yield

    def _after(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not self._ledger.revision:
            return  # before the first revision
        session = conn.connection.dbapi_connection
        with contextlib.closing(session.cursor()) as own:
            own.execute(_LOCKS)
            rows = own.fetchall()
        shown = one_line(statement)[:_STATEMENT]
        for schema, table, mode in sorted(rows, key=lambda row: _ORDER.get(row[2], 0)):
            stronger = list(_BLOCKS)[: _ORDER.get(mode, 0) + 1]
            known = any((id(conn), schema, table, each) in self._held for each in stronger)
            if mode in _BLOCKS and (schema, table) in self._tables and not known:
                held = _Held(self._ledger.revision, shown, time.monotonic())
                self._held[id(conn), schema, table, mode] = held

    def _end(self, conn: Any) -> None:
        now = time.monotonic()
        for key in [key for key in self._held if key[0] == id(conn)]:
            held, (_, schema, table, mode) = self._held.pop(key), key
            name, seconds = qualified(schema, table), now - held.since
            lock = TableLock(held.revision, name, mode, _BLOCKS[mode], seconds, held.statement)
            self.locks.append(lock)
