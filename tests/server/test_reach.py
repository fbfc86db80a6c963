"""A reached target: which sessions it opens, keeps and hands on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from invoke import Context
from servers import Cluster
from tasktree import TASKS
from waiting import until

from pgtasks.backup import create
from pgtasks.cli import context
from pgtasks.server import connection
from pgtasks.server.reach import Reached, reach
from pgtasks.settings.target import Target


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the databases of the sessions that are opened, as they are."""
    databases: list[str] = []
    plain = connection.connect

    def connect(target: Target, **options: Any) -> Any:
        databases.append(target.database)
        return plain(target, **options)

    monkeypatch.setattr(connection, "connect", connect)
    return databases


def test_a_backup_opens_two_sessions_before_it_begins(
    project: Path, target: Target, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.clear()
    before: list[str] = []
    plain = create.boundary

    def boundary(step: str) -> None:
        if step == "backup.begun":
            before.extend(opened)
        plain(step)

    monkeypatch.setattr(create, "boundary", boundary)
    context.set_file(project / "tasks.py")
    TASKS["db.backup"](Context(), json=True, exclude_table_data=[])
    assert before == [target.maintenance, target.database]


def applications(cluster: Cluster, database: str) -> list[str]:
    query = "SELECT application_name FROM pg_stat_activity WHERE datname = %s ORDER BY 1"
    with connection.session(cluster.target("template1")) as conn:
        return [name for (name,) in connection.rows(conn, query, (database,))]


def test_the_lock_takes_the_maintenance_session_over(
    cluster: Cluster, target: Target, tmp_path: Path, opened: list[str]
) -> None:
    with closing(reach(target, tmp_path)) as reached:
        assert reached.glimpse() is not None
        first = reached.maintenance()
        assert connection.value(first, "SHOW transaction_read_only") == "on"
        with reached.lock("db.drop") as lock:
            assert lock.connection is first
            assert connection.value(first, "SHOW transaction_read_only") == "off"
            assert "db.drop" in str(connection.value(first, "SHOW application_name"))
            assert reached.maintenance() is not first
        assert first.closed
        assert opened == [target.maintenance] * 2
        second = reached.maintenance()
    assert second.closed


def test_a_maintenance_session_that_ended_meanwhile_is_no_obstacle_to_the_lock(
    cluster: Cluster, target: Target, tmp_path: Path
) -> None:
    with closing(reach(target, tmp_path)) as reached:
        first = reached.maintenance()
        pid = first.info.backend_pid
        with connection.session(cluster.target("template1")) as conn:
            connection.value(conn, "SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with reached.lock("db.drop") as lock:
            assert lock.connection is not first
            lock.check()
        assert first.closed


@pytest.mark.parametrize("keep", [False, True])
def test_the_session_that_identifies_is_kept_where_that_is_asked_for(
    cluster: Cluster, target: Target, keep: bool
) -> None:
    with closing(Reached(target)) as reached:
        identity = reached.identify(keep=keep)
        assert identity is not None
        until(lambda: len(applications(cluster, target.database)) == keep)
        with reached.reading("db.backup") as conn:
            assert connection.value(conn, "SELECT current_database()") == target.database
            [name] = until(lambda: one(applications(cluster, target.database)))
            assert "db.backup" in name
        until(lambda: applications(cluster, target.database) == [])
        reached.identify(keep=keep)
    until(lambda: applications(cluster, target.database) == [])


def one(names: list[str]) -> list[str]:
    """Return the names if that is one: a session ends some time after it is closed."""
    return names if len(names) == 1 else []
