"""Limits of roles, databases and servers are met before work begins, not in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from conftest import Inv
from projects import make_project, put_stamp
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.errors import Unreachable
from pgtasks.server import connection, opening, room
from pgtasks.settings.target import Target

OF_FEW = "SELECT FROM pg_stat_activity WHERE usename = 'few'"


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> Iterator[Target]:
    """Return a database whose owner is no superuser."""
    cluster.execute("CREATE ROLE few LOGIN CREATEDB")
    target = cluster.target(fresh_database(cluster, owner="few"))
    cluster.execute("CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t OWNER TO few", target.database)
    put_stamp(target)
    yield replace(target, user="few")
    cluster.drop(target.database)
    cluster.execute("DROP ROLE few")


def check(cluster: Cluster, target: Target, needed: int, besides: int = 0) -> None:
    with opened(cluster, target) as conn:
        room.check(conn, target, "it", within=needed, besides=besides, jobs=2)


@contextmanager
def opened(cluster: Cluster, target: Target) -> Iterator[connection.Connection]:
    """Yield a session; it ends on the server some time after it is closed here."""
    with connection.session(target) as conn:
        pid = conn.info.backend_pid
        try:
            yield conn
        finally:
            conn.close()
            until(lambda: not cluster.execute(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"))


def test_counts_what_is_open(cluster: Cluster, shop: Target) -> None:
    cluster.execute("ALTER ROLE few CONNECTION LIMIT 4")
    check(cluster, shop, 4)
    check(cluster, shop, 3, 1)
    with opened(cluster, shop):
        with pytest.raises(Unreachable) as short:
            check(cluster, shop, 3, 1)
        assert "it needs 4 sessions at once and role few has room for 3 (2 of " in str(short.value)
        assert "CONNECTION LIMIT 4 are in use): raise it or use fewer --jobs" in str(short.value)
    cluster.execute("ALTER ROLE few CONNECTION LIMIT -1")
    cluster.execute(f'ALTER DATABASE "{shop.database}" CONNECTION LIMIT 2')
    check(cluster, shop, 2, 9)
    with pytest.raises(Unreachable, match=r"database .* has room for 2"):
        check(cluster, shop, 3)
    check(cluster, replace(shop, user=cluster.superuser), 3)  # such limits are not for superusers


def test_it_waits_for_sessions_that_end(
    cluster: Cluster, shop: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that was closed counts until the server has ended it."""
    cluster.execute("ALTER ROLE few CONNECTION LIMIT 2")
    looks = room._short

    with connection.session(shop) as conn, connection.session(shop) as ending:

        def short(*given: Any) -> Any:
            answer = looks(*given)
            ending.close()
            return answer

        monkeypatch.setattr(room, "_short", short)
        monkeypatch.setattr(opening, "ENDING", PATIENCE)
        room.check(conn, shop, "it", within=2, jobs=2)


def test_a_session_waits_for_one_that_ends(
    cluster: Cluster, shop: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.execute("ALTER ROLE few CONNECTION LIMIT 1")
    opens, refusals = opening.opened, []

    with connection.session(shop) as ending:

        def opened(dsn: str) -> Any:
            try:
                return opens(dsn)
            except psycopg2.OperationalError as exc:
                refusals.append(str(exc))
                ending.close()
                raise

        monkeypatch.setattr(opening, "opened", opened)
        monkeypatch.setattr(opening, "ENDING", PATIENCE)
        with connection.session(shop) as conn:
            assert connection.value(conn, "SELECT 1", into=int) == 1
    assert 'too many connections for role "few"' in refusals[0]


def test_a_full_server_is_not_waited_for_without_end(cluster: Cluster, shop: Target) -> None:
    cluster.execute("ALTER ROLE few CONNECTION LIMIT 1")
    with opened(cluster, shop), pytest.raises(Unreachable, match="too many connections for role"):
        connection.connect(shop)


def test_the_servers_own_is_one_too(cluster: Cluster, shop: Target) -> None:
    with pytest.raises(Unreachable, match=r"the server has room for \d+ "):
        check(cluster, shop, 1000)
    with pytest.raises(Unreachable, match=r"the server has room for \d+ "):
        check(cluster, replace(shop, user=cluster.superuser), 1000)


def test_what_it_says_a_backup_needs_is_what_one_needs(
    cluster: Cluster, shop: Target, inv: Inv, tmp_path: Path
) -> None:
    """One fewer ends it before it begins; with the exact number it goes through."""
    root = make_project(tmp_path / "shop", shop.url())
    (root / "env" / "dev.yaml").write_text(f"url: '{shop.url()}'\njobs: 3\n")
    for task, needed, work in (("db.backup", 11, "the backup"), ("db.restore", 6, "the restore")):
        before = cluster.databases()
        cluster.execute(f"ALTER ROLE few CONNECTION LIMIT {needed - 1}")
        until(lambda: not cluster.execute(OF_FEW))  # those of the run before
        done = inv(task, cwd=root)
        assert done.returncode == 4, (task, done.stderr)
        assert f"{work} needs " in done.stderr
        assert cluster.databases() == before
        assert not list(root.glob("backups/**/.*.partial"))
        cluster.execute(f"ALTER ROLE few CONNECTION LIMIT {needed}")
        until(lambda: not cluster.execute(OF_FEW))
        done = inv(task, cwd=root)
        assert done.returncode == 0, (task, done.stderr)
