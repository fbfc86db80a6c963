"""What a block changes of its session reaches no other block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import make_project
from servers import Cluster
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from pgtasks.service import DatabaseService
from pgtasks.service.session_state import changes_session

BACKEND = text("SELECT pg_backend_pid()")
STATE = text(
    "SELECT current_setting('work_mem'), current_user,"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
    " to_regclass('pg_temp.mine')::text, (SELECT count(*) FROM pg_listening_channels())"
)


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


def backend(session: Session) -> Any:
    return session.execute(BACKEND).scalar_one()


def state(session: Session) -> Any:
    return session.execute(STATE).one()


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '9MB'",
        "/* for a report */ set session work_mem = '9MB'",
        "SELECT 1; SET work_mem = '9MB'",
        "SELECT set_config('work_mem', '9MB', false)",
        "SET ROLE pg_monitor",
        "SELECT pg_advisory_lock(7)",
        "SELECT pg_try_advisory_lock_shared(7)",
        "CREATE TEMP TABLE mine (i int)",
        "CREATE TEMPORARY TABLE mine AS SELECT 1",
        "LISTEN news",
    ],
)
def test_what_outlives_a_transaction_does_not_outlive_its_block(
    service: DatabaseService, statement: str
) -> None:
    before = service.run(state)

    def change(session: Session) -> Any:
        session.execute(text(statement))
        return backend(session)

    changed = service.run(change)
    assert service.run(state) == before
    assert service.run(backend) != changed


def test_a_value_that_is_bound(service: DatabaseService) -> None:
    def change(local: bool) -> Any:
        def unit(session: Session) -> Any:
            session.execute(select(func.set_config("work_mem", "9MB", local)))
            return backend(session)

        return service.run(unit)

    before, changed = service.run(state), change(False)
    assert service.run(state) == before
    kept = service.run(backend)
    assert kept != changed
    assert change(True) == kept
    assert service.run(backend) == kept


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL work_mem = '9MB'",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('work_mem', '9MB', true)",
        "SELECT pg_advisory_xact_lock(7)",
        "CREATE TEMP TABLE mine (i int) ON COMMIT DROP",
        "SELECT 'SET ROLE postgres'",
    ],
)
def test_what_ends_with_its_transaction_keeps_the_connection(
    service: DatabaseService, statement: str
) -> None:
    before = service.run(backend)
    service.run(lambda session: session.execute(text(statement)))
    assert service.run(backend) == before


def test_the_word_in_another_place() -> None:
    assert not changes_session("UPDATE t SET role = 'x'; UPDATE t\nSET work_mem = 1")
    assert not changes_session("SELECT asset_config(false)")
    assert changes_session("-- a comment\nRESET ROLE")


def test_what_an_application_sets_as_it_connects_stays(service: DatabaseService) -> None:
    @event.listens_for(service.engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '9MB'")
        connection.commit()

    first = service.run(backend)
    assert service.run(state)[0] == "9MB"
    assert service.run(backend) == first
    service.run(lambda session: session.execute(text("RESET ALL")))
    assert service.run(state)[0] == "9MB"


def test_connections_of_the_engine_are_no_exception(service: DatabaseService) -> None:
    with service.engine.connect() as connection:
        before = connection.execute(STATE).one()
        connection.exec_driver_sql("SET work_mem = '9MB'")
        connection.commit()
    with service.engine.connect() as connection:
        assert connection.execute(STATE).one() == before


def test_the_log_says_once_what_it_costs(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        service.run(lambda session: session.execute(text("SET work_mem = '9MB'")))
    assert [record.getMessage() for record in caplog.records] == [
        "SET work_mem changes its session: the connection is closed after its block; SET LOCAL, "
        "set_config(..., true) and pg_advisory_xact_lock() end with the transaction"
    ]
