"""Flush the WAL of the target while rows are written, so that those who write need not wait.

COPY writes through a ring of 16 MB of buffers. Before it uses one again it flushes the WAL of that
buffer's page, and waits for the disk. The commit of another session flushes the WAL as well.
Source: src/backend/storage/buffer/README, "Buffer Ring Replacement Strategy".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg2

from pgtasks.errors import PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.server import connection
from pgtasks.server.connection import Connection

_PAUSE = 0.03  # seconds
_ENOUGH = 4 << 20  # bytes of rows
# of a transaction with an ID: the commit of any other writes nothing
_FLUSH = "SELECT pg_current_xact_id()"
_LOCALLY = "SET synchronous_commit = local"


class Flusher:
    """Flush WAL in a session of its own while `passed`, the bytes of rows so far, grows."""

    def __init__(self, opened: Callable[[], Connection], passed: Callable[[], int]) -> None:
        self._opened, self._passed = opened, passed
        self._ended = threading.Event()
        self._worker = Worker(self._serve, name="copy")

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def end(self) -> None:
        """End the session and the thread."""
        self._ended.set()
        self._worker.wait()

    def _serve(self) -> None:
        flushed = 0
        # it only saves time: an error of the server is reported by those who write
        with suppress(PgtasksError, psycopg2.Error):
            while self._passed() < _ENOUGH:
                if self._ended.wait(_PAUSE):
                    return
            conn = self._opened()
            try:
                connection.execute(conn, _LOCALLY)
                while not self._ended.wait(_PAUSE):
                    if self._passed() - flushed >= _ENOUGH:
                        flushed = self._passed()
                        connection.execute(conn, _FLUSH)
            finally:
                conn.close()
