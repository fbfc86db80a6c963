"""What the driver reads rows from and writes rows to, and what cancels it."""

from __future__ import annotations

import psycopg2

from pgtasks.errors import Failed
from pgtasks.server.connection import Connection
from pgtasks.server.copyin import CopyIn
from pgtasks.server.psql.statements import Rows


class Nowhere:
    """A file for the rows of queries, which nobody reads."""

    def write(self, data: bytes) -> int:
        """Forget the rows."""
        return len(data)


class Cancelling:
    """Cancels what a session runs, and remembers that a signal has asked for it."""

    def __init__(self, session: Connection) -> None:
        self._session, self.asked = session, False

    def cancel(self) -> None:
        """Cancel the running statement."""
        self.asked = True
        self._session.cancel()


class Feed:
    """The rows of COPY for the driver, which makes an error of the server of `failure`."""

    def __init__(self, rows: Rows, session: Connection) -> None:
        self._rows = rows
        self._copy = CopyIn(session)
        self.failure: BaseException | None = None

    def send(self, size: int, cancelling: Cancelling) -> None:
        """Send the rows in pieces of at most `size` bytes, raising the driver's error of a server.

        Raises KeyboardInterrupt where a signal has cancelled it, and `failure` where that ended it.
        """
        try:
            self._copy.run(self._rows.statement, self, size)
        except psycopg2.Error:
            if cancelling.asked:  # the driver drops the interrupt of the signal
                raise KeyboardInterrupt from None
            if self.failure:
                raise self.failure from None
            raise

    def read(self, size: int = -1, /) -> bytes:
        """Return some of the rows, nothing at their end."""
        if self._copy.is_over:
            self._copy.await_room()
            raise Failed("the server ended the copy")  # which the driver replaces by its error
        try:
            chunk = self._rows.read(size)
        except BaseException as exc:
            self.failure = exc
            self._copy.await_room()
            raise
        if not chunk:
            self._copy.await_room()
        return chunk
