"""The end of a transaction that replaces what is in the live database, as the server knows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from pgtasks.errors import Interrupted, PgtasksError, Unreachable
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.silence import ANSWER
from pgtasks.settings.target import Target


@dataclass
class Commit:
    """A transaction whose ID is known once its COMMIT is about to be sent.

    `before` and `after` are the words for what is there without it and with it, `what` is what to
    look at if nobody can say.
    """

    before: str
    after: str
    what: str
    transaction: str = ""

    def state(self, target: Target) -> str:
        """Return what became of the content of a target, in words, as its server says it."""
        if not self.transaction:
            return self.before
        query = "SELECT pg_xact_status(%s::xid8)"
        place = target.at(target.maintenance)
        with connection.session(place, read_only=True, purpose="interrupted") as conn:
            status = connection.value(conn, query, (self.transaction,), limit=ANSWER)
        if status == "committed":
            return f"{self.after}, that was committed"
        if status == "aborted":
            return self.before
        return f"the server had not yet ended the transaction: look at {self.what}"

    def ended(self, exc: KeyboardInterrupt | Unreachable, target: Target) -> PgtasksError:
        """Return the error of a run that ended early, with what became of the content."""
        try:
            state = self.state(target)
        except PgtasksError:  # nothing is claimed
            state = "" if self.transaction else "nothing was committed"
        if isinstance(exc, Unreachable):
            return Unreachable(f"{exc.message}; {state}" if state else exc.message, hint=exc.hint)
        return Interrupted(f"interrupted: {state}" if state else "interrupted")


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """Roll back what raises an error; the block commits."""
    connection.execute(conn, "BEGIN")
    try:
        yield
    except BaseException:
        if not conn.closed:
            with conn.cursor() as cursor:
                try:
                    cursor.execute("ROLLBACK")
                except psycopg2.Error:
                    conn.close()
        raise
