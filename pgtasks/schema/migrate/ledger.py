"""What a run of migrations committed, statement by statement, as SQLAlchemy sends it.

A revision may leave the transaction that it runs in (`autocommit_block`, a commit of its own): what
ran up to there stays when a later statement fails. A connection that a revision opens past
SQLAlchemy is not seen.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event

LOCK_TIMEOUT = "5s"  # a statement that waits longer for a lock makes everybody else wait behind it
# These wait for all older transactions, lock nothing meanwhile that others need, and leave an
# invalid index behind where they are cut short.
_CONCURRENT = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
_READS = re.compile(
    r"\s*(SELECT|SHOW|SET|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE
)


class Ledger:
    """Statements of the revision that runs which were committed already, in order."""

    def __init__(self) -> None:
        self.committed: list[str] = []
        self._open: dict[int, list[str]] = {}  # by connection, which may be invalid by now
        self._waiting: set[Any] = set()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Listen to all engines for the length of a block."""
        listeners = (
            ("before_cursor_execute", self._before),
            ("after_cursor_execute", self._after),
            ("commit", self._commit),
            ("rollback", self._rollback),
        )
        for name, listener in listeners:
            event.listen(Engine, name, listener)
        try:
            yield
        finally:
            for name, listener in listeners:
                event.remove(Engine, name, listener)

    def revision_done(self) -> None:
        """Forget what was committed: it belongs to a revision that has come to its end."""
        self.committed.clear()
        self._open.clear()

    def _before(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        """Lift our limit on waiting for locks for statements that wait by design."""
        session = conn.connection.dbapi_connection
        if bool(_CONCURRENT.search(statement)) != (session in self._waiting):
            waits = session not in self._waiting
            (self._waiting.add if waits else self._waiting.discard)(session)
            before, after = (LOCK_TIMEOUT, "0") if waits else ("0", LOCK_TIMEOUT)
            with contextlib.closing(session.cursor()) as own:
                own.execute(
                    f"SELECT pg_catalog.set_config('lock_timeout', '{after}', false)"
                    f" WHERE pg_catalog.current_setting('lock_timeout') = '{before}'"
                )

    def _after(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if _READS.match(statement):
            return
        if conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            self.committed.append(statement)
        else:
            self._open.setdefault(id(conn), []).append(statement)

    def _commit(self, conn: Any) -> None:
        self.committed += self._open.pop(id(conn), [])

    def _rollback(self, conn: Any) -> None:
        self._open.pop(id(conn), None)
