"""The session that flushes WAL while rows are written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.copy.rows.flush import Flusher
from pgtasks.server import connection

COMMITS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


def test_wal_is_flushed_as_rows_pass(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    target = cluster.target(fresh_database(cluster))
    passed = 0
    flusher = Flusher(lambda: connection.connect(target, purpose="flush"), lambda: passed)
    flusher.start()
    try:
        with connection.session(target, purpose="test") as conn:
            for _ in range(3):
                before = connection.value(conn, COMMITS, into=int)
                passed += 5 << 20
                until(partial(has_grown, conn, before))
    finally:
        flusher.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "copy"]


def has_grown(conn: connection.Connection, before: int) -> bool:
    """Return whether there was a commit of a transaction that has an ID."""
    return connection.value(conn, COMMITS, into=int) > before


def test_a_copy_of_few_rows_opens_no_session() -> None:
    opened: list[int] = []
    looked = threading.Event()

    def passed() -> int:
        looked.set()
        return 1000

    flusher = Flusher(lambda: opened.append(1), passed)  # type: ignore[arg-type, func-returns-value]
    flusher.start()
    assert looked.wait(PATIENCE)
    flusher.end()
    assert not opened


def test_a_session_that_is_refused_fails_nothing(cluster: Cluster) -> None:
    target = cluster.target("no such database")
    refused = threading.Event()

    def opened() -> connection.Connection:
        refused.set()
        return connection.connect(target, purpose="flush")

    flusher = Flusher(opened, lambda: 1 << 30)
    flusher.start()
    assert refused.wait(PATIENCE)
    flusher.end()
