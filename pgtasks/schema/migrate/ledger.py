"""Record the statements that a run of migrations has committed, as SQLAlchemy sends them.

A revision may leave its transaction (`autocommit_block`, its own commit). The statements before
that stay, even if a later statement fails; so do those before a COMMIT as a statement, or a commit
of the driver. Connections that a revision opens without SQLAlchemy are not recorded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from pgtasks.schema import transaction
from pgtasks.schema.listeners import listening
from pgtasks.schema.migrate.prepared import Prepared
from pgtasks.schema.trigger.touch import touches

Milliseconds = int
# while a statement waits for a lock, all other sessions queue behind it
LOCK_TIMEOUT: Milliseconds = 5_000
# These wait for all older transactions without blocking others, and leave an invalid index behind
# when they are interrupted.
_CONCURRENT = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
_READS = re.compile(
    r"\s*(SELECT|SHOW|SET|BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE"
    r"|PREPARE\s+TRANSACTION)\b",
    re.IGNORECASE,
)


class Ledger:
    """The statements of the current revision that are already committed, in order.

    `sent` are those of all revisions so far, committed or not; `prepared` are those that these have
    left prepared.
    """

    def __init__(self, lock_timeout: Milliseconds = LOCK_TIMEOUT) -> None:
        self.revision = ""
        self.committed: list[str] = []
        self.sent: list[str] = []
        self.prepared = Prepared()
        self._lock_timeout = f"{lock_timeout}ms" if lock_timeout else "0"
        self._open: dict[int, list[str]] = {}  # by connection, which may have become invalid
        self._waiting: set[Any] = set()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Record the statements of all engines for the length of a block."""
        with listening(
            before_cursor_execute=self._before,
            after_cursor_execute=self._after,
            commit=self._commit,
            rollback=self._rollback,
        ):
            yield

    def begin(self, revision: str) -> None:
        """Clear the record, because another revision begins."""
        self.revision = revision
        self.committed.clear()
        self._open.clear()

    def _before(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        """Remove our lock_timeout for statements that wait by design."""
        self._noticed(conn)
        session = conn.connection.dbapi_connection
        if bool(_CONCURRENT.search(statement)) != (session in self._waiting):
            waits = session not in self._waiting
            (self._waiting.add if waits else self._waiting.discard)(session)
            before, after = (self._lock_timeout, "0") if waits else ("0", self._lock_timeout)
            with contextlib.closing(session.cursor()) as own:
                own.execute(
                    f"SELECT pg_catalog.set_config('lock_timeout', '{after}', false)"
                    " FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'"
                    f" AND setting = '{before.removesuffix('ms')}'"
                )

    def _after(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not _READS.match(statement):
            self.sent.append(statement)
            self._open.setdefault(id(conn), []).append(statement)
        if self.prepared.follow(statement, self._open.get(id(conn), []), self.committed):
            return
        kinds = {touch.kind for touch in touches(statement)}
        if "commits" in kinds or "returns" not in kinds:
            if "commits" in kinds or transaction.autocommits(conn):
                self._commit(conn)
        elif transaction.idle(conn):
            self._open.pop(id(conn), None)

    def _commit(self, conn: Any) -> None:
        self.committed += self._open.pop(id(conn), [])

    def _rollback(self, conn: Any) -> None:
        self._noticed(conn)
        self._open.pop(id(conn), None)

    def _noticed(self, conn: Any) -> None:
        """Count what is open as committed if the driver has ended the transaction."""
        if self._open.get(id(conn)) and transaction.idle(conn):
            self._commit(conn)
