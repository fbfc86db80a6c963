"""A connection that ended in the pool is noticed before a block uses it."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import make_project
from servers import Cluster
from sqlalchemy import pool, text
from sqlalchemy.exc import OperationalError
from waiting import until

from pgtasks.service import DatabaseService, liveness

BACKEND = text("SELECT pg_backend_pid()")


@pytest.fixture(params=["psycopg2", "psycopg"])
def service(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DatabaseService]:
    monkeypatch.chdir(make_project(tmp_path / "shop", cluster.url(database)))
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_DRIVER", request.param)
    service = DatabaseService("dev")
    yield service
    service.dispose()


def backend(service: DatabaseService) -> int:
    """Return the server process of the connection that a block gets."""
    with service.session() as session:
        return int(session.execute(BACKEND).scalar_one())


def pings(service: DatabaseService, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that each round trip of a check is noted in."""
    ping, done = service.engine.dialect.do_ping, list[int]()

    def noted(connection: Any) -> bool:
        done.append(1)
        return ping(connection)

    monkeypatch.setattr(service.engine.dialect, "do_ping", noted)
    return done


@pytest.mark.parametrize("trusted", [60.0, 0.0])
def test_a_session_that_the_server_ended_reaches_no_block(
    service: DatabaseService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, trusted: float
) -> None:
    monkeypatch.setattr(liveness, "_TRUSTED", trusted)
    first = backend(service)
    assert backend(service) == first
    cluster.execute(f"SELECT pg_terminate_backend({first}, 10000)")
    assert backend(service) != first


def test_all_connections_are_renewed_after_one_that_ended(
    service: DatabaseService, cluster: Cluster
) -> None:
    def backends() -> list[int]:
        with service.engine.connect() as last, service.engine.connect() as first:
            return [each.execute(BACKEND).scalar_one() for each in (last, first)]

    last, first = backends()
    cluster.execute(f"SELECT pg_terminate_backend({last}, 10000)")  # the next that is used
    assert not {last, first} & set(backends())


def test_a_check_of_a_connection_in_use_asks_the_server_nothing(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "_TRUSTED", 60.0)
    done = pings(service, monkeypatch)
    assert len({backend(service) for _ in range(20)}) == 1
    assert not done


def test_a_connection_that_was_idle_is_asked(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "_TRUSTED", 0.0)
    done = pings(service, monkeypatch)
    backend(service)
    assert not done  # it was new
    backend(service)
    assert len(done) == 1


def test_what_the_server_says_meanwhile_ends_no_connection(
    service: DatabaseService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notification makes the socket readable; the server is asked, and answers."""
    monkeypatch.setattr(liveness, "_TRUSTED", 60.0)
    done = pings(service, monkeypatch)
    with service.session() as session:
        first = session.execute(BACKEND).scalar_one()
        raw = session.connection().connection.dbapi_connection
        assert raw is not None
        raw.cursor().execute("LISTEN orders")  # in the session's own words it would close it
    cluster.execute("NOTIFY orders", service.engine.url.database or "")
    until(lambda: not liveness.is_silent(raw))
    assert backend(service) == first
    assert len(done) == 1


def test_a_connection_of_a_pool_that_was_disposed_of_is_closed_at_the_end_of_its_block(
    service: DatabaseService, cluster: Cluster
) -> None:
    with service.session() as session:
        first = session.execute(BACKEND).scalar_one()
        service.dispose()
    there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    until(lambda: cluster.value(there, parameters=(first,)) == 0)
    assert len({backend(service) for _ in range(3)}) == 1  # those of the next pool stay


def test_without_poll_the_server_is_asked(
    service: DatabaseService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where eventlet has replaced the modules of Python's own, and on Windows."""
    monkeypatch.setattr(liveness, "_TRUSTED", 60.0)
    monkeypatch.delattr(select, "poll")
    done = pings(service, monkeypatch)
    assert backend(service) == backend(service)
    assert done == [1]


@pytest.mark.parametrize("kind", ["NullPool", "StaticPool", "AssertionPool", "SingletonThreadPool"])
def test_another_pool_gives_no_connection_that_ended(
    service: DatabaseService, cluster: Cluster, kind: str
) -> None:
    other = DatabaseService("dev", poolclass=getattr(pool, kind))
    first = backend(other)
    cluster.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid = %s",
        parameters=(first,),
    )
    assert backend(other) != first
    other.dispose()


def test_without_pre_ping_a_block_gets_the_error(
    service: DatabaseService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_POOL_PRE_PING", "false")
    unchecked = DatabaseService("dev")
    cluster.execute(f"SELECT pg_terminate_backend({backend(unchecked)}, 10000)")
    with pytest.raises(OperationalError):
        backend(unchecked)
    unchecked.dispose()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux alone")
def test_a_host_that_is_gone_is_not_waited_for_as_long_as_tcp_would(
    service: DatabaseService, password_cluster: Cluster
) -> None:
    place = f"127.0.0.1:{password_cluster.tcp_port}/postgres"
    user, secret = password_cluster.superuser, password_cluster.password
    url = f"postgresql://{user}:{secret}@{place}"
    other = DatabaseService("dev", url=url)
    with other.probe.connect() as connection:
        descriptor = connection.connection.dbapi_connection.fileno()
        with socket.socket(fileno=os.dup(descriptor)) as line:
            asked = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert asked == 60_000  # milliseconds
