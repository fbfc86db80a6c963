"""One run per target database: an advisory lock on a connection to the maintenance database."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading

from pgtasks.errors import Interrupted, Locked, PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.errors import NoAnswer
from pgtasks.server.identity import Identity
from pgtasks.server.silence import ANSWER
from pgtasks.settings.target import Target

_CLASS = 0x7067_746B  # "pgtk": separates our keys from an application's own advisory locks
_BEAT = 2.0  # seconds between keepalives
_SILENCE = 15  # seconds after which the server releases the lock of a silent run


def key(database: str) -> int:
    """Return the second half of the lock's key: 31 bits of the database's name."""
    digest = hashlib.sha256(database.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Lock:
    """Hold the lock of a target for a block, raising Locked with the holder's name.

    `connection` is the session that holds the lock. Statements that must not run without the lock,
    such as the swap, run there. The server releases the lock when the session ends or is silent.
    `allowed` is the identity of the database that the guard allowed to be replaced, once the user
    has agreed to the plan.
    """

    def __init__(self, target: Target, purpose: str, session: Connection | None = None) -> None:
        self.target, self.purpose = target, purpose
        self.allowed: Identity | None = None
        self._session = session  # an open session in the maintenance database, which is taken over
        self._stop = threading.Event()
        self._beating = Worker(self._beat)
        self._silence: NoAnswer | None = None
        self._in_main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Lock:
        self.connection = self._taken_over() or self._connected()
        try:
            self._take()
        except BaseException:
            self.connection.close()
            raise
        self._beating.start()
        return self

    def _connected(self) -> Connection:
        return connection.connect(self.target.at(self.target.maintenance), purpose=self.purpose)

    def _taken_over(self) -> Connection | None:
        """Return the open session, None if it ended while a person was asked."""
        session, self._session = self._session, None
        if session is None:
            return None
        try:
            connection.rename(session, self.purpose)
            connection.execute(session, "SET default_transaction_read_only = off")
        except PgtasksError:
            session.close()
            return None
        return session

    @property
    def _keys(self) -> tuple[int, int]:
        return _CLASS, key(self.target.database)

    def _take(self) -> None:
        attempt = "SELECT pg_try_advisory_lock(%s, %s)"
        if not connection.value(self.connection, attempt, self._keys, limit=ANSWER):
            who = holder(self.connection, self._keys)
            raise Locked(f"{self.target} is locked by another run: {who}")
        connection.execute(self.connection, f"SET idle_session_timeout = '{_SILENCE}s'")

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT):
            try:
                # the session serializes the statements of several threads
                connection.value(self.connection, "SELECT 1", limit=ANSWER)
            except NoAnswer as exc:
                # a tool that the run waits for may wait for the same server, without a limit
                self._silence = exc
                if self._in_main and not self._stop.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                return
            except PgtasksError:
                return  # the next statement of the run gets the same error and reports it

    def check(self) -> None:
        """Raise Unreachable if the lock's session is lost."""
        connection.value(self.connection, "SELECT 1", limit=ANSWER)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._beating.wait()
        try:
            self._release()
        finally:
            self.connection.close()
        if self._silence and kind and issubclass(kind, (KeyboardInterrupt, Interrupted)):
            raise NoAnswer(f"{self.target}: {self._silence.message}") from None

    def _release(self) -> None:
        """Give the lock back: a session may end on the server some time after it is closed here."""
        if self._silence or self.connection.closed:
            return
        try:
            statement = "SELECT pg_advisory_unlock(%s, %s)"
            connection.value(self.connection, statement, self._keys, limit=ANSWER)
        except PgtasksError:
            pass  # the session is lost, and the lock with it


def holder(conn: Connection, keys: tuple[int, int]) -> str:
    """Return the holder of the lock, by the application_name of its session."""
    return _holder(conn, keys) or "it has just ended, try again"


def held(conn: Connection, database: str) -> str:
    """Return the holder of a database's lock, or an empty text."""
    return _holder(conn, (_CLASS, key(database)))


def _holder(conn: Connection, keys: tuple[int, int]) -> str:
    holder = connection.row(
        conn,
        "SELECT a.application_name, l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objid = %s AND l.objsubid = 2"
        " AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        keys,
        into=tuple[str, int],
        limit=ANSWER,
    )
    if holder is None:
        return ""
    name, backend = holder
    own = re.fullmatch(r"pgtasks (?P<what>.+) (?P<pid>\d+) (?P<who>\S+)", name)
    if own:
        return f"{own['what']}, process {own['pid']} of {own['who']}"
    return f"{name or 'a session without a name'}, backend {backend}"
