"""The service on each server while that fails: it says so, loses and doubles nothing, goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import servers
from projects import make_project, put_stamp
from servers import Cluster
from sqlalchemy import text
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from units import ROWS, Load, let_wait, read, write
from waiting import until

from pgtasks.service import DatabaseService, check_health

DATABASE = "shop"
THREADS = 4
BACKEND = text("SELECT pg_backend_pid()")


@contextmanager
def prepared(bin: Path) -> Iterator[Cluster]:
    """Run a server with a stamped database and a table of rows."""
    with servers.running(bin) as own:
        own.create(DATABASE)
        put_stamp(own.target(DATABASE))
        own.execute(ROWS, DATABASE)
        yield own


@pytest.fixture(scope="module", params=["cluster", "cluster18", "system_cluster"])
def own(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server of each major that nobody else uses."""
    with prepared(request.getfixturevalue(request.param).bin) as own:
        yield own


@pytest.fixture
def service(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseService]:
    own.execute("TRUNCATE rows", DATABASE)
    let_wait(monkeypatch)
    monkeypatch.chdir(make_project(tmp_path / "shop", own.url(DATABASE)))
    service = DatabaseService("dev")
    yield service
    service.dispose()


def test_a_connection_that_is_cut_in_a_transaction(own: Cluster, service: DatabaseService) -> None:
    calls: list[int] = []

    def unit(session: Session) -> None:
        calls.append(1)
        write(session, 1, len(calls))
        if len(calls) < 3:
            own.execute(f"SELECT pg_terminate_backend({session.execute(BACKEND).scalar()})")
        read(session)

    with pytest.raises(OperationalError) as failure:
        service.run(unit)
    assert failure.value.connection_invalidated
    assert len(calls) == 2
    service.run(unit)
    assert own.execute("SELECT number FROM rows", DATABASE) == [(3,)]


def test_a_pool_that_is_exhausted(own: Cluster, service: DatabaseService) -> None:
    small = DatabaseService("dev", pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.session() as session, ThreadPoolExecutor(1) as thread:
        read(session)
        with pytest.raises(PoolTimeout, match="QueuePool limit of size 1"):
            thread.submit(small.run, read).result()
    assert small.run(read) == 0
    small.dispose()


def test_a_database_that_is_renamed_away(own: Cluster, service: DatabaseService) -> None:
    assert service.run(read) == 0
    own.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
    )
    own.execute(f"ALTER DATABASE {DATABASE} RENAME TO away")
    try:
        assert "does not exist" in check_health(service).reason
        with pytest.raises(OperationalError, match="does not exist"):
            service.run(read)
    finally:
        own.execute(f"ALTER DATABASE away RENAME TO {DATABASE}")
    assert service.run(read) == 0
    assert check_health(service).ok


def test_a_standby_is_read_only(own: Cluster, service: DatabaseService) -> None:
    with servers.running(own.bin, standby_of=own) as standby:
        position = own.value("SELECT pg_current_wal_lsn()")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
        until(lambda: standby.value(replayed, parameters=(position,)))
        reader = DatabaseService("dev", url=standby.url(DATABASE))
        calls: list[int] = []

        def unit(session: Session) -> None:
            calls.append(1)
            write(session, 1, 1)

        with pytest.raises(InternalError, match="read-only transaction"):
            reader.run(unit)
        assert calls == [1]
        assert reader.run(read) == 0
        health = check_health(reader)
        assert (health.ok, health.read_only) == (True, True)
        assert health.server_version.startswith(f"{own.major}.")
        reader.dispose()


def test_a_server_process_that_crashes(own: Cluster, service: DatabaseService) -> None:
    """All others end with it, and the server recovers."""
    load = Load(service, THREADS)
    with load.running():
        load.await_units(10)
        backend = own.value(
            "SELECT min(pid) FROM pg_stat_activity WHERE datname = %s", parameters=(DATABASE,)
        )
        os.kill(backend, signal.SIGKILL)
        load.await_units(10)
    load.check(own, DATABASE, swaps=1)


def test_a_server_that_restarts(
    any_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with prepared(any_cluster.bin) as own:
        monkeypatch.chdir(make_project(tmp_path / "shop", own.url(DATABASE)))
        let_wait(monkeypatch)
        service = DatabaseService("dev")
        load = Load(service, THREADS)
        with load.running():
            load.await_units(10)
            with servers.restarted(own):
                load.await_units(10)
                load.stop()
                load.check(own, DATABASE, swaps=1)
        service.dispose()
