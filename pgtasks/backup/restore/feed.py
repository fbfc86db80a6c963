"""What the driver reads rows from and writes rows to, and what cancels it."""

from __future__ import annotations

import select

from pgtasks.server.connection import Connection
from pgtasks.server.psql.statements import Rows

_PAUSE = 1000  # milliseconds of one wait, so that signals are handled


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
    """The rows of COPY for the driver.

    The driver sends the end of a copy without releasing the interpreter, so that a tunnel of this
    process could not take what is before it: the end waits until the socket has room. Of an
    exception it makes an error of the server, so that `failure` keeps it.
    """

    def __init__(self, rows: Rows, session: Connection) -> None:
        self._rows = rows
        self.failure: BaseException | None = None
        self._room = select.poll()
        self._room.register(session.fileno(), select.POLLOUT)

    def read(self, size: int = -1) -> bytes:
        """Return some of the rows, nothing at their end."""
        try:
            chunk = self._rows.read(size)
        except BaseException as exc:
            self.failure = exc
            self._await_room()
            raise
        if not chunk:
            self._await_room()
        return chunk

    def _await_room(self) -> None:
        while not self._room.poll(_PAUSE):
            pass
