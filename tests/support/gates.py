"""A gate in a database: a function of the database waits there until a test opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from servers import Cluster

# for a function in PL/pgSQL whose first argument is a number: that of 1 waits
WAIT = (
    "WHILE $1 = 1 AND EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
    " AND classid = 4711 AND objid = 4711) LOOP PERFORM pg_sleep(0.01); END LOOP;"
)


@contextmanager
def shut(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Shut the gate of all databases of a server, and yield what opens it."""
    # it opens by itself where a test fails to
    options = "-c idle_session_timeout=120s"
    with closing(cluster.connect(options=options)) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(4711, 4711)")
        yield lambda: cursor.execute("SELECT pg_advisory_unlock_all()")
