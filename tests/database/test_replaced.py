"""The database that is replaced, and whose sessions are in it."""

from __future__ import annotations

from contextlib import closing

from servers import Cluster

from pgtasks.database import create, replaced
from pgtasks.database.replaced import Sessions
from pgtasks.report import account
from pgtasks.server import connection
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target


def test_sessions_of_this_process_are_no_others(cluster: Cluster, target: Target) -> None:
    stranger = f"pgtasks identify 0{account.end_of_names()[1:]}"  # of another process
    with (
        connection.session(target, purpose="identify"),
        closing(cluster.connect(target.database, application_name=stranger)),
        closing(cluster.connect(target.database, application_name=account.end_of_names())),
        connection.session(target.at(target.maintenance)) as conn,
    ):
        seen = replaced.look(conn, target.database)
    assert seen is not None
    assert set(seen.sessions) == {
        Sessions("postgres", stranger, 1),
        Sessions("postgres", account.end_of_names(), 1),
    }


def test_a_drop_counts_no_session_of_this_process(cluster: Cluster, target: Target) -> None:
    with (
        connection.session(target, purpose="identify"),
        closing(cluster.connect(target.database)),
        Lock(target, "db.drop") as lock,
    ):
        assert create.left_to_drop(lock).sessions == 1
