"""Open a session, so that Ctrl-C ends the attempt at once.

libpq waits for a server that does not answer until connect_timeout, also after a signal, and Python
calls a signal's handler only when the driver returns. So another thread opens the session, and the
main thread, which gets the signals, waits for it.
"""

from __future__ import annotations

import re
import threading
import time

import psycopg2

from pgtasks.host.worker import Worker
from pgtasks.server.session import Session

# seconds in which a session that was closed, of ours or of a run before, ends on the server
ENDING = 2.0
_AGAIN = 0.05  # seconds between two attempts
_FULL = re.compile("too many (connections|clients)|remaining connection slots")


def admitted(dsn: str) -> Session:
    """Open a session as `opened` does, and wait for those that end where a limit is reached."""
    deadline = time.monotonic() + ENDING
    while True:
        try:
            return opened(dsn)
        except psycopg2.OperationalError as exc:
            if not _FULL.search(str(exc)) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN)


def opened(dsn: str) -> Session:
    """Open a session, raising psycopg2.Error.

    An attempt that a signal has ended goes on in its thread until libpq gives up. A session that it
    still gets is closed there: nothing is sent in it.
    """
    if threading.current_thread() is not threading.main_thread():
        return Session(dsn)
    attempt = _Attempt(dsn)
    worker = Worker(attempt.run, name="connect")
    try:
        worker.start()
        worker.wait()
        worker.join()  # it is at its end; a process that forks now has one thread
        return attempt.result()
    except BaseException:
        attempt.give_up()
        raise


class _Attempt:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._turn = threading.Lock()
        self._given_up = False
        self._session: Session | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            session = Session(self._dsn)
        except BaseException as exc:  # raised where the session is wanted
            self._error = exc
            return
        with self._turn:
            self._session = session
            if self._given_up:
                session.close()

    def result(self) -> Session:
        if self._session is None:
            raise self._error or AssertionError("the attempt has not ended")
        return self._session

    def give_up(self) -> None:
        with self._turn:
            self._given_up = True
            if self._session:
                self._session.close()
