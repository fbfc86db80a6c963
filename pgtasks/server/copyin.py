"""Send the rows of a COPY to the server, through the driver.

The driver says nothing of the server until the last row is sent. A server that has ended the COPY
with an error reads the rest and forgets it, so that an error in the first row would be reported
after the last one. Manual: Message Flow, COPY Operations (PostgreSQL 15).
"""

from __future__ import annotations

import select
from typing import Protocol

from psycopg2 import sql

from pgtasks.server.connection import Connection
from pgtasks.server.session import Cursor

_PAUSE = 1000  # milliseconds of one wait, so that signals are handled


class Readable(Protocol):
    """What the driver reads the rows from; an error of it becomes one of the server."""

    def read(self, size: int = -1, /) -> bytes:
        """Return some of the rows, nothing at their end."""


class CopyIn:
    """A COPY FROM STDIN of a session. `is_over` says that the server has ended it with an error."""

    def __init__(self, session: Connection) -> None:
        self._session = session
        self.is_over = False
        self._room = select.poll()
        self._room.register(session.fileno(), select.POLLOUT)

    def run(self, statement: sql.Composable | bytes, rows: Readable, size: int) -> int:
        """Send rows in pieces of at most `size` bytes; return how many the server has taken."""
        with self._session.cursor() as cursor:
            assert isinstance(cursor, Cursor)
            cursor.over = self._end
            cursor.copy_expert(statement, rows, size)
            return cursor.rowcount

    def _end(self) -> None:
        self.is_over = True

    def await_room(self) -> None:
        """Wait until the end of the rows can be sent at once.

        The driver sends it without releasing the interpreter, so that a tunnel of this process
        could not take what is before it. At most 8 kB are left in libpq's own buffer then.
        """
        while not self._room.poll(_PAUSE):
            pass
