"""Name the session whose lock a revision waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from threading import Event

from pgtasks import report
from pgtasks.errors import PgtasksError
from pgtasks.host.worker import Worker
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target

_LOOK = 0.2  # seconds between two looks; a shorter lock_timeout names nobody
# a session of a role that this one is no member of shows neither its query nor its state
_BLOCKING = """
SELECT DISTINCT ON (b.pid) b.pid, coalesce(b.usename::text, '') AS role,
  coalesce(b.application_name, '') AS program, coalesce(b.state, '') AS state,
  extract(epoch FROM clock_timestamp() - b.xact_start)::float8 AS seconds,
  coalesce(left(b.query, 200), '') AS query
FROM unnest(%s::int[]) AS own(pid)
CROSS JOIN LATERAL unnest(pg_blocking_pids(own.pid)) AS p(pid)
JOIN pg_stat_activity b ON b.pid = p.pid
WHERE b.pid <> ALL (%s::int[])
ORDER BY b.pid
"""


@dataclass(frozen=True)
class Holder:
    """A session that holds a lock. `seconds` is the age of its transaction, None if not known."""

    pid: int
    role: str
    program: str
    state: str
    seconds: float | None
    query: str

    def __str__(self) -> str:
        who = f"{self.role!r}" if self.role else "the server itself"
        program = f" in {self.program!r}" if self.program else ""
        age = "" if self.seconds is None else f", its transaction is {report.age(self.seconds)} old"
        state = f", {self.state}" if self.state else ""
        query = f": {' '.join(self.query.split())}" if self.query else ""
        return f"backend {self.pid} of {who}{program}{state}{age}{query}"


class Holders:
    """Those that the watched sessions wait for, or waited for when they were last seen to wait."""

    def __init__(self) -> None:
        self.seen: tuple[Holder, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.seen))


@contextlib.contextmanager
def watching(target: Target, pids: Collection[int]) -> Iterator[Holders]:
    """Look in a thread for whom the backends `pids` wait for, during a block.

    The collection may grow meanwhile. If the server gives no session for that, nobody is named.
    """
    holders, stop = Holders(), Event()
    watcher = Worker(_watch, target, pids, holders, stop)
    watcher.start()
    try:
        yield holders
    finally:
        stop.set()
        watcher.wait()


def _watch(target: Target, pids: Collection[int], holders: Holders, stop: Event) -> None:
    if stop.wait(_LOOK):
        return
    with (
        contextlib.suppress(PgtasksError),
        connection.session(target, read_only=True, purpose="watch") as conn,
    ):
        while True:
            holders.seen = _holders(conn, list(pids)) or holders.seen
            if stop.wait(_LOOK):
                return


def _holders(conn: Connection, pids: list[int]) -> tuple[Holder, ...]:
    return tuple(connection.rows(conn, _BLOCKING, (pids, pids), into=Holder))
