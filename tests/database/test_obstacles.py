"""What stops a database from being built and put in the place of another, on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg2
import pytest
from roles import as_role
from servers import Cluster

from pgtasks.database import obstacles, properties
from pgtasks.database.obstacles import Change
from pgtasks.database.properties import Setting
from pgtasks.server.connection import Connection


@contextmanager
def session(cluster: Cluster, role: str, database: str = "postgres") -> Iterator[Connection]:
    """Open a session of a role."""
    with closing(psycopg2.connect(as_role(cluster, role, database))) as conn:
        conn.autocommit = True
        yield conn


def test_an_extension_that_the_server_lacks_is_named_with_its_version(cluster: Cluster) -> None:
    with session(cluster, "postgres") as conn:
        lines = obstacles.extensions(conn, {"warp": "2.1", "plpgsql": "1.0", "anvil": "7"})
        assert list(lines) == [
            "extension 'anvil' (version 7) is not available on this server",
            "extension 'warp' (version 2.1) is not available on this server",
        ]


def test_sessions_that_a_role_cannot_end_are_counted_by_role(
    cluster: Cluster, database: str, plain: Callable[..., str]
) -> None:
    target = cluster.target(database)
    mine, other = plain(), plain()
    with (
        session(cluster, mine, database),
        session(cluster, other, database),
        session(cluster, other, database),
        session(cluster, "postgres", database),
        session(cluster, mine) as conn,
    ):
        way_out = (
            "cannot be ended by this role: grant it pg_signal_backend (sessions of superusers end "
            "by hand)"
        )
        of_superuser = f"1 session of role 'postgres' in {database!r} {way_out}"
        assert sorted(obstacles.sessions(conn, target)) == [
            of_superuser,
            f"2 sessions of role {other!r} in {database!r} {way_out}",
        ]
        cluster.execute(f"GRANT pg_signal_backend TO {mine}")
        assert list(obstacles.sessions(conn, target)) == [of_superuser]
        with session(cluster, "postgres") as superuser:
            assert list(obstacles.sessions(superuser, target)) == []


def test_a_role_creates_nothing_for_an_owner_that_it_is_no_member_of(
    cluster: Cluster, database: str, plain: Callable[..., str]
) -> None:
    target = cluster.target(database)
    owner, creator = plain(), plain("CREATEDB")
    with session(cluster, creator) as conn:
        assert list(obstacles.rights(conn, target, owner)) == [
            f"role {creator!r} is no member of {owner!r}, which owns {database!r}"
        ]
        assert list(obstacles.rights(conn, target, creator)) == []
        assert list(obstacles.rights(conn, target, "nobody here")) == []
        cluster.execute(f"GRANT {owner} TO {creator}")
        assert list(obstacles.rights(conn, target, owner)) == []
    with session(cluster, owner) as conn:
        assert list(obstacles.rights(conn, target.at("postgres"), owner)) == [
            f"role {owner!r} may not create databases: ALTER ROLE {owner} CREATEDB",
            "'postgres' is the maintenance database that locks are held in, "
            "name another one in `maintenance`",
        ]


@pytest.mark.parametrize("leave_behind", [False, True])
def test_a_change_meets_all_obstacles_of_the_server_in_one_list_and_changes_nothing(
    cluster: Cluster, database: str, plain: Callable[..., str], leave_behind: bool
) -> None:
    role = plain("CREATEDB")
    cluster.execute(f"ALTER DATABASE {database} SET log_min_duration_statement = '7s'")
    target = cluster.target(database)
    with session(cluster, "postgres", database), session(cluster, role) as conn:
        before = properties.read(conn, database)
        change = Change(target, before, 2048, 1024, True, leave_behind, {"warp": "2.1"})
        lines = list(obstacles.of_server(conn, change))
        assert lines[0].startswith("extension 'warp'")
        assert lines[1].startswith("1 session of role 'postgres'")
        assert lines[-1].startswith("the server's disk has ")
        denied = [line for line in lines if "log_min_duration_statement" in line]
        assert len(denied) == (0 if leave_behind else 1)
        assert properties.read(conn, database) == before

        roomy = replace(change, replaces=False, free=None, extensions={})
        assert list(obstacles.of_server(conn, roomy)) == []


def test_properties_that_can_be_set_are_tried_and_rolled_back(
    cluster: Cluster, database: str
) -> None:
    with session(cluster, "postgres") as conn:
        before = properties.read(conn, database)
        facts = replace(before, settings=(Setting("work_mem", "7MB"),))
        assert list(obstacles.not_carried(conn, database, facts)) == []
        assert properties.read(conn, database) == before
