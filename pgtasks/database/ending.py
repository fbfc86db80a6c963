"""End the sessions of databases that a statement needs for itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pgtasks.errors import Failed, PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.server import connection
from pgtasks.settings.target import Target

_BETWEEN_KILLS = 0.005  # seconds


# RENAME and CREATE DATABASE ... TEMPLATE lock the database before they wait for its sessions: who
# connects meanwhile waits for the lock; who is ended before that comes back to be ended once more
_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datid = ANY(%s::oid[])"
    # an autovacuum worker has no role, and the server itself ends it
    " AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"
    " AND datid IN (SELECT objid FROM pg_locks WHERE granted AND locktype = 'object'"
    " AND classid = 'pg_database'::regclass AND mode IN ('AccessExclusiveLock', 'ShareLock'))"
)


class SessionEnder:
    """End the sessions of some databases while a statement has locked them, until the block ends.

    `fault` is the error of a session that could not be ended: what waits for it reports that.
    """

    def __init__(self, target: Target, oids: Sequence[int]) -> None:
        self._target, self._oids = target, list(oids)
        self._stop = threading.Event()
        self.fault: PgtasksError | None = None
        self._ending = Worker(self._loop)

    def __enter__(self) -> SessionEnder:
        place = self._target.at(self._target.maintenance)
        self._connection = connection.connect(place, purpose="swap")
        self._ending.start()
        return self

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                # one at a time, so that a session that may not be ended does not protect the others
                for pid in self._pids():
                    self._end(pid)
            except PgtasksError as exc:
                self.fault = exc
                return
            self._stop.wait(_BETWEEN_KILLS)

    def _pids(self) -> list[int]:
        return connection.rows(self._connection, _SESSIONS, (self._oids,), into=int)

    def _end(self, pid: int) -> None:
        try:
            connection.execute(self._connection, "SELECT pg_terminate_backend(%s)", (pid,))
        except Failed as exc:
            self.fault = exc  # RENAME reports it after its limit of 5 s

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._ending.wait()
        self._connection.close()
